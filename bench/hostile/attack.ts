/**
 * Runs one attack for some seconds, and prints its counts:
 *
 *   node bench/hostile/attack.ts half-open --port 50051 --seconds 5
 *
 * It attacks loopback only. Without a name it lists the attacks.
 */
import { readFileSync } from "node:fs"
import { parseArgs } from "node:util"

import { recommendMessage, recommendPath } from "../Requests.ts"
import { attacks } from "./Attacks.ts"
import * as Connections from "./Connections.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "50051" },
    seconds: { type: "string", default: "5" },
    path: { type: "string", default: recommendPath },
    /** The request message, in hexadecimal. */
    message: { type: "string", default: recommendMessage(3).toString("hex") },
    addresses: { type: "string", default: "1" },
    /** TLS files. */
    ca: { type: "string" },
    cert: { type: "string" },
    key: { type: "string" }
  }
})

const identityOf = ({ ca, cert, key }: typeof values): Connections.Identity | undefined =>
  ca === undefined || cert === undefined || key === undefined
    ? undefined
    : { ca: readFileSync(ca, "utf8"), cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") }

const attack = attacks.find(({ name }) => name === positionals[0])
const fail = (text: string) => {
  console.error(text)
  process.exit(2)
}
if (attack === undefined) {
  fail(
    `Expected one of:\n${attacks.map(({ name, subject, title }) => `${name.padEnd(22)} ${subject.padEnd(5)} ${title}`).join("\n")}`
  )
} else {
  if (!/^127\.\d+\.\d+\.\d+$/.test(values.host))
    fail(`--host ${values.host}: expected an address of loopback (127.0.0.0/8)`)
  const ending = new AbortController()
  const attacker = Connections.make(
    {
      host: values.host,
      port: Number(values.port),
      path: values.path,
      message: Buffer.from(values.message, "hex"),
      addresses: Number(values.addresses),
      identity: identityOf(values)
    },
    ending.signal
  )
  const end = () => {
    ending.abort()
    process.stdout.write(`${JSON.stringify(attacker.counts)}\n`, () => process.exit())
  }
  setTimeout(end, Number(values.seconds) * 1_000)
  process.on("SIGTERM", end)
  attack.begin(attacker)
}
