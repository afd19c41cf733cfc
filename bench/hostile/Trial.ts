/**
 * One attack on one server, in a process of its own with little memory, while a good client asks.
 */
import type { ChildProcess } from "node:child_process"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { join } from "node:path"

import * as Contestants from "../Contestants.ts"
import * as Processes from "../Processes.ts"
import type { Attack, Subject } from "./Attacks.ts"
import type { Counts } from "./Connections.ts"
import * as Goodput from "./Goodput.ts"
import type { Limiter } from "./MemoryLimit.ts"

/** What a container of the manifests has. */
export const memory = 384 * 2 ** 20

/** How long each phase takes, in milliseconds, before it is multiplied by the effort. */
const phases = { warmUp: 2_000, before: 2_000, attack: 8_000, after: 6_000 }

/** After this long a server should be as it was before the attack. */
const grace = 2_000

/** What a good client asks in a second, and how much of it it should get again after an attack. */
export const rates: { readonly [S in Subject]: number } = { grpc: 200, tls: 200, page: 100 }
export const afterGoal = 0.98

/** How the server ended that should not have. */
export type Fate = { readonly _tag: "Alive" } | { readonly _tag: "Dead"; readonly how: string }

export interface Outcome {
  readonly server: string
  /** The good client's share of right answers in time, before, during and after. */
  readonly before: number
  readonly during: number
  readonly after: number
  /** In milliseconds from the end of the attack; undefined if it did not come to that. */
  readonly recovery: number | undefined
  /** In bytes. */
  readonly peak: number
  readonly fate: Fate
  /** What the attacker has done and seen. */
  readonly counts: Counts
}

/** Certificates for the rows that need them. */
export interface Tls {
  readonly server: Contestants.TlsFiles
  readonly good: Contestants.TlsFiles
  readonly attacker: Contestants.TlsFiles
}

export interface Setting {
  readonly limiter: Limiter
  readonly effort: number
  readonly tls: Tls
  readonly catalogue: string
  /** The bytes of a right answer. */
  readonly answerSize: number
}

/** What Node is told in the images. */
const imageOptions =
  /NODE_OPTIONS="([^"]*)"/.exec(
    readFileSync(new URL("../../Dockerfile.recommendations", import.meta.url), "utf8")
  )?.[1] ?? ""

const delay = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

const contestantsOf = { grpc: Contestants.ours, tls: Contestants.ours, page: Contestants.ourPage }
const rivalsOf = { grpc: Contestants.byHand, tls: Contestants.byHand, page: Contestants.pageByHand }

/** Ours first. */
export const serversOf = ({ subject }: Attack): ReadonlyArray<Contestants.Contestant> => [
  contestantsOf[subject],
  rivalsOf[subject]
]

const fateOf = ({ exitCode, signalCode }: ChildProcess, isExceeded: boolean): Fate => {
  if (isExceeded) return { _tag: "Dead", how: "killed: out of memory" }
  if (exitCode !== null) return { _tag: "Dead", how: `exit code ${exitCode}` }
  // Node aborts when its heap is exhausted
  if (signalCode !== null) return { _tag: "Dead", how: signalCode === "SIGABRT" ? "heap exhausted" : signalCode }
  return { _tag: "Alive" }
}

const startGoodClient = (setting: Setting, subject: Subject, port: number) =>
  Processes.start({
    core: Processes.otherCore,
    command: process.execPath,
    args: [join(import.meta.dirname, "goodClient.ts")],
    env: {
      SUBJECT: subject,
      PORT: String(port),
      RATE: String(rates[subject]),
      ANSWER_SIZE: String(setting.answerSize),
      ...(subject === "tls"
        ? {
            TLS_CA_FILE: setting.tls.good.ca,
            TLS_CERT_FILE: setting.tls.good.cert,
            TLS_KEY_FILE: setting.tls.good.key
          }
        : {})
    }
  })

const startAttack = ({ name, subject }: Attack, { tls }: Setting, port: number, millis: number) => {
  const { ca, cert, key } = tls.attacker
  // an attacker that does not get as far as TLS needs no certificate
  const files = subject === "tls" && name !== "half-handshakes" ? ["--ca", ca, "--cert", cert, "--key", key] : []
  return Processes.start({
    core: Processes.otherCore,
    command: process.execPath,
    args: [
      join(import.meta.dirname, "attack.ts"),
      name,
      "--port",
      String(port),
      "--seconds",
      String(millis / 1_000),
      ...files
    ],
    mayEnd: true
  })
}

/** Waits for an attack to end, and reads what it says of itself. */
const outputOf = async (child: ChildProcess): Promise<Counts> => {
  let output = ""
  child.stdout?.on("data", (bytes: Buffer) => (output += bytes.toString()))
  await once(child, "close")
  return JSON.parse(output) as Counts
}

/** A Recommendations for pages, which is not attacked. */
const startBackend = async (setting: Setting): Promise<number> => {
  const port = await Contestants.freePort()
  const child = Contestants.ours.start({ core: Processes.otherCore, port, catalogue: setting.catalogue })
  child.stdout?.resume()
  const socket = await Contestants.connected(port)
  socket.destroy()
  return port
}

export const run = async (attack: Attack, contestant: Contestants.Contestant, setting: Setting): Promise<Outcome> => {
  const others = Processes.count()
  const limit = setting.limiter.limit(`${attack.name}-${contestant.name.replaceAll(/\W/g, "")}`, memory)
  let isStarting = true
  const wait = (phase: keyof typeof phases) => delay(phases[phase] * setting.effort)
  try {
    const port = await Contestants.freePort()
    const server = contestant.start({
      core: Processes.measuredCore,
      port,
      catalogue: setting.catalogue,
      nodeOptions: [imageOptions, limit.nodeOptions].join(" ").trim(),
      launcher: limit.launcher,
      mayEnd: true,
      ...(attack.subject === "page" ? { backend: await startBackend(setting) } : {}),
      ...(attack.subject === "tls" ? { tls: setting.tls.server, allowedClients: "good" } : {})
    })
    server.stdout?.resume()
    limit.watch(server)
    server.once("exit", () => {
      if (isStarting) throw new Error(`${contestant.name} has not started`)
    })
    const probe = await Contestants.connected(port)
    isStarting = false
    probe.destroy()

    const good = startGoodClient(setting, attack.subject, port)
    await wait("warmUp")
    good.send("before")
    await wait("before")
    good.send("attack")
    const attacking = startAttack(attack, setting, port, (attack.buildUp ?? 0) + phases.attack * setting.effort)
    const counts = await outputOf(attacking)
    good.send("over")
    await delay(grace)
    good.send("after")
    await wait("after")
    const fate = fateOf(server, limit.isExceeded())
    const told = once(good, "message") as Promise<[Goodput.Report]>
    good.removeAllListeners("exit")
    good.send("end")
    const [report] = await told
    const { after = 0, attack: attacked = 0, before = 0, over = 0 } = report.marks
    const end = report.buckets.length * Goodput.bucketLength
    return {
      server: contestant.name,
      before: Goodput.share(report, before, attacked),
      during: Goodput.share(report, attacked, over),
      after: Goodput.share(report, after, end),
      recovery: Goodput.timeToRecover(report, over, afterGoal),
      peak: limit.peak(),
      fate,
      counts
    }
  } finally {
    isStarting = false
    await Processes.stopAll(others)
    limit.remove()
  }
}
