/**
 * A well-behaved client for the time of an attack: it makes requests at a fixed rate from its own address, and reports their outcomes
 * at the end. Its settings are in the environment; over IPC it receives names of events to record, and "end".
 *
 * It has four connections and replaces one each second, so that a server that accepts no new ones is noticed.
 */
import { readFileSync } from "node:fs"
import { Agent, get } from "node:http"
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2"
import { connect } from "node:net"
import { setPriority } from "node:os"
import { connect as connectTls } from "node:tls"

import * as OpenLoad from "../OpenLoad.ts"
import { recommendMessage, recommendPath } from "../Requests.ts"
import { type Bucket, bucketLength, type Report } from "./Goodput.ts"

const { ANSWER_SIZE, PORT, RATE, SUBJECT, TLS_CA_FILE, TLS_CERT_FILE, TLS_KEY_FILE } = process.env
const address = { host: "127.0.0.1", port: Number(PORT), localAddress: "127.0.0.7" }
/** The time in which an answer is good, in milliseconds. */
const patience = 1_000

type Ask = (onEnd: (isRight: boolean) => void) => void

/** gRPC calls, in plaintext or over TLS. */
const calls = (): Ask => {
  const request = OpenLoad.request({ path: recommendPath, message: recommendMessage(3), timeout: patience })
  const open = (): ClientHttp2Session => {
    const socket = connect(address)
    socket.on("error", () => {})
    const isSecure = TLS_CA_FILE !== undefined && TLS_CERT_FILE !== undefined && TLS_KEY_FILE !== undefined
    const session = connectHttp2("http://localhost", {
      createConnection: () =>
        isSecure
          ? connectTls({
              socket,
              servername: "localhost",
              ALPNProtocols: ["h2"],
              ca: readFileSync(TLS_CA_FILE),
              cert: readFileSync(TLS_CERT_FILE),
              key: readFileSync(TLS_KEY_FILE)
            })
          : socket
    })
    session.on("error", () => {})
    // after a GOAWAY it opens another connection
    session.on("goaway", () => session.close())
    return session
  }
  const sessions = Array.from({ length: 4 }, open)
  let next = 0
  setInterval(() => {
    const at = next % sessions.length
    const old = sessions[at]!
    sessions[at] = open()
    old.close()
  }, 1_000)
  return (onEnd) => {
    const at = next++ % sessions.length
    if (sessions[at]!.closed || sessions[at]!.destroyed) sessions[at] = open()
    OpenLoad.call(sessions[at]!, request, (status, { length }) => onEnd(status === 0 && length === Number(ANSWER_SIZE)))
  }
}

/** Pages, each tenth on a new connection. */
const pages = (): Ask => {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  let next = 0
  return (onEnd) => {
    const asked = get({ ...address, path: "/", agent: next++ % 10 === 0 ? false : agent }, (response) => {
      let body = ""
      response.setEncoding("utf8")
      response.on("data", (text: string) => (body += text))
      // a page without its three books is a wrong answer
      response.on("end", () => onEnd(response.statusCode === 200 && body.split("<li>").length === 4))
      response.on("error", () => {})
    })
    const timer = setTimeout(() => asked.destroy(), patience)
    asked.on("error", () => {})
    asked.on("close", () => {
      clearTimeout(timer)
      onEnd(false)
    })
  }
}

try {
  // so that an attacker on the same core does not delay its requests
  setPriority(-15)
} catch {
  // only root may
}

const buckets: Array<Bucket> = []
const marks: { [name: string]: number } = {}
const ask = SUBJECT === "page" ? pages() : calls()
const rate = Number(RATE)
const startedAt = performance.now()
const time = () => performance.now() - startedAt

const askOne = () => {
  const askedAt = time()
  const bucket = (buckets[Math.floor(askedAt / bucketLength)] ??= { asked: 0, good: 0 })
  bucket.asked++
  let isOver = false
  ask((isRight) => {
    if (isRight && !isOver && time() - askedAt <= patience) bucket.good++
    isOver = true
  })
}

let asked = 0
const asking = setInterval(() => {
  const due = Math.floor((time() / 1_000) * rate)
  for (; asked < due; asked++) askOne()
}, 1)

process.on("message", (name: string) => {
  if (name !== "end") {
    marks[name] = time()
    return
  }
  clearInterval(asking)
  const report: Report = { buckets: Array.from(buckets, (bucket) => bucket ?? { asked: 0, good: 0 }), marks }
  setTimeout(() => process.send!(report, () => process.exit()), patience + 100)
})
process.on("disconnect", () => process.exit())
