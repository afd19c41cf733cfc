/**
 * Measures the goodput of a good client during attacks: `npm run bench:hostile` runs each attack of
 * {@link file://./hostile/Attacks.ts} on our servers and on the same by hand, and fails if ours misses a goal.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { cpus, release, setPriority, tmpdir, totalmem } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"

import * as Certificates from "../scripts/certificates.ts"
import * as Catalogues from "./Catalogues.ts"
import * as Contestants from "./Contestants.ts"
import { type Attack, attacks } from "./hostile/Attacks.ts"
import * as MemoryLimit from "./hostile/MemoryLimit.ts"
import * as Trial from "./hostile/Trial.ts"
import * as Processes from "./Processes.ts"

/** The lowest share of good answers during an attack. */
const goalOf = ({ isFairness = false }: Attack): number => (isFairness ? 0.95 : 0.9)

const misses = (attack: Attack, { after, during, fate }: Trial.Outcome): ReadonlyArray<string> => [
  ...(fate._tag === "Alive" ? [] : ["it exited"]),
  ...(during >= goalOf(attack) ? [] : [`less than ${goalOf(attack) * 100} % during`]),
  ...(after >= Trial.afterGoal ? [] : [`less than ${Trial.afterGoal * 100} % after`])
]

const head = ["attack", "server", "before", "during", "after", "recovers in", "peak MiB", "", ""]

const percent = (share: number) => `${(Math.floor(share * 1_000) / 10).toFixed(1)} %`

const cells = (attack: Attack, outcome: Trial.Outcome, isOurs: boolean): ReadonlyArray<string> => {
  const { after, before, during, fate, peak, recovery, server } = outcome
  const missed = misses(attack, outcome)
  return [
    attack.name,
    server,
    percent(before),
    percent(during),
    percent(after),
    recovery === undefined ? "never" : `${(recovery / 1_000).toFixed(1)} s`,
    String(Math.round(peak / 2 ** 20)),
    fate._tag === "Alive" ? "alive" : `dead: ${fate.how}`,
    isOurs ? (missed.length === 0 ? "PASS" : `**FAIL**: ${missed.join(", ")}`) : ""
  ]
}

const widths = [22, 29, 7, 7, 7, 11, 8, 26, 4]
const line = (row: ReadonlyArray<string>) =>
  `| ${row.map((cell, at) => (at < 2 || at > 6 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!))).join(" | ")} |`

/** Certificates of a server, of a client on its list, and of one that is not. */
const certificates = async (folder: string): Promise<Trial.Tls> => {
  const authority = await Certificates.makeAuthority()
  const write = (name: string, text: string) => {
    const file = join(folder, name)
    writeFileSync(file, text)
    return file
  }
  const ca = write("ca.pem", authority.cert)
  const issue = async (name: string, usage: "client" | "server") => {
    const { cert, key } = await Certificates.issue(authority, { names: [`DNS:${name}`], usage })
    return { ca, cert: write(`${name}.pem`, cert), key: write(`${name}-key.pem`, key) }
  }
  return {
    server: await issue("localhost", "server"),
    good: await issue("good", "client"),
    attacker: await issue("stranger", "client")
  }
}

/** Raises the priority of this program and its children where that is permitted, so that attacks get a core. */
const raisePriority = () => {
  try {
    setPriority(-10)
  } catch {
    // only root may
  }
}

const main = async (): Promise<boolean> => {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      names: { type: "string" },
      effort: { type: "string", default: "1" },
      json: { type: "boolean", default: false }
    }
  })
  const only = values.only?.split(",")
  const unknown = only?.find((name) => !attacks.some((attack) => attack.name === name))
  if (unknown !== undefined) {
    console.error(`Unknown row ${unknown}; expected some of ${attacks.map(({ name }) => name).join(",")}`)
    return false
  }
  if (Processes.isPinned) spawnSync("taskset", ["-cp", String(Processes.otherCore), String(process.pid)])
  else console.error("taskset (util-linux) is missing, or there is one core only: clients and servers share cores")
  raisePriority()
  const limiter = MemoryLimit.find()
  const folder = mkdtempSync(join(tmpdir(), "hostile-"))
  const results: Array<{ readonly attack: Attack; readonly outcome: Trial.Outcome; readonly isOurs: boolean }> = []
  const say = (text: string) => (values.json ? undefined : console.log(text))
  try {
    mkdirSync(folder, { recursive: true })
    await Contestants.prepare()
    const catalogue = Catalogues.shipped()
    const file = join(folder, "books.csv")
    writeFileSync(file, catalogue.text)
    const setting: Trial.Setting = {
      limiter,
      effort: Number(values.effort),
      tls: await certificates(folder),
      catalogue: file,
      answerSize: Catalogues.sizeOfAnswer(catalogue, 3)
    }
    const date = new Date().toISOString().slice(0, 10)
    const machine = `${cpus().length} x ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`
    say(`${date}, ${machine}, Node ${process.version}`)
    say(`Each server has ${Trial.memory / 2 ** 20} MiB, by ${limiter.description}\n`)
    say(line(head))
    say(line(widths.map((width, at) => (at < 2 || at > 6 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`))))
    for (const attack of attacks) {
      if (only !== undefined && !only.includes(attack.name)) continue
      for (const [at, contestant] of Trial.serversOf(attack).entries()) {
        if (values.names !== undefined && !values.names.split(",").some((name) => contestant.name.includes(name)))
          continue
        const outcome = await Trial.run(attack, contestant, setting)
        results.push({ attack, outcome, isOurs: at === 0 })
        say(line(cells(attack, outcome, at === 0)))
      }
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
  const failed = results.filter(({ attack, isOurs, outcome }) => isOurs && misses(attack, outcome).length > 0)
  say(`\n${failed.length === 0 ? "PASS" : `FAIL: ${failed.map(({ attack }) => attack.name).join(", ")}`}`)
  if (values.json) {
    const rows = results.map(({ attack: { name, title }, isOurs, outcome }) => ({ name, title, isOurs, ...outcome }))
    console.log(JSON.stringify({ limit: limiter.description, rows }, undefined, 2))
  }
  return failed.length === 0
}

process.exitCode = (await main()) ? 0 : 1
process.exit()
