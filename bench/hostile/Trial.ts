/**
 * One attack on one server with a memory limit, while a good client makes requests.
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

/** The memory limit of the manifests' containers. */
export const memory = 384 * 2 ** 20

/** The duration of each phase, in milliseconds, to be multiplied by the effort. */
const phases = { warmUp: 2_000, before: 2_000, attack: 8_000, after: 6_000 }

/** The time in which a server should recover from an attack. */
const grace = 2_000

/** The request rate of a good client, and the share of good answers that it should get after an attack. */
export const rates: { readonly [S in Subject]: number } = { grpc: 200, tls: 200, page: 100 }
export const afterGoal = 0.98

/** Whether the server survived, or how it exited. */
export type Fate = { readonly _tag: "Alive" } | { readonly _tag: "Dead"; readonly how: string }

export interface Outcome {
  readonly server: string
  /** The share of good answers before, during and after the attack. */
  readonly before: number
  readonly during: number
  readonly after: number
  /** The time to recover, in milliseconds from the end of the attack; undefined if the server did not. */
  readonly recovery: number | undefined
  /** Peak memory, in bytes. */
  readonly peak: number
  readonly fate: Fate
  /** The counts of the attacker. */
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
  /** The size of a right answer, in bytes. */
  readonly answerSize: number
}

/** The Node options of the images. */
const imageOptions =
  /NODE_OPTIONS="([^"]*)"/.exec(
    readFileSync(new URL("../../Dockerfile.recommendations", import.meta.url), "utf8")
  )?.[1] ?? ""

const delay = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

const contestantsOf = { grpc: Contestants.ours, tls: Contestants.ours, page: Contestants.ourPage }
const rivalsOf = { grpc: Contestants.byHand, tls: Contestants.byHand, page: Contestants.pageByHand }

/** The servers of an attack, ours first. */
export const serversOf = ({ subject }: Attack): ReadonlyArray<Contestants.Contestant> => [
  contestantsOf[subject],
  rivalsOf[subject]
]

const fateOf = ({ exitCode, signalCode }: ChildProcess, isExceeded: boolean): Fate => {
  if (isExceeded) return { _tag: "Dead", how: "killed: out of memory" }
  if (exitCode !== null) return { _tag: "Dead", how: `exit code ${exitCode}` }
  // Node aborts when the heap is exhausted
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
  // an attacker that does not complete a handshake needs no certificate
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

/** Waits until an attack has ended, and reads its counts. */
const outputOf = async (child: ChildProcess): Promise<Counts> => {
  let output = ""
  child.stdout?.on("data", (bytes: Buffer) => (output += bytes.toString()))
  await once(child, "close")
  return JSON.parse(output) as Counts
}

/** Starts a Recommendations for pages, which is not attacked. */
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
      if (isStarting) throw new Error(`${contestant.name} did not start`)
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
