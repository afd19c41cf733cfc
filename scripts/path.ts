/**
 * Prints the files and functions of `src/` that one warm page and one warm call pass: `npm run path`, or `npm run path -- --json`.
 *
 * The page is a GET of Marketplace's home page, with both services in one process as `npm start` runs them. The call is a unary call
 * of the Echo service, whose handler is in `pathEcho.ts`, with the defaults. Both sides are counted.
 *
 * V8's precise coverage counts the calls of each function. Requests are made one at a time on a warm connection, and a function is on
 * the path if each of them called it: this leaves out background work. Timers that repeat are paused.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { Agent, get } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { text } from "node:stream/consumers"
import { setTimeout } from "node:timers/promises"
import { parseArgs } from "node:util"

import type { Called } from "./pathCoverage.ts"

interface Path {
  readonly files: ReadonlyArray<string>
  /** Each as `file:line name`; the column is added where two functions of a line have the same name. */
  readonly functions: ReadonlyArray<string>
}

/** Requests that are not counted, to fill caches. */
const warmUps = 200
/** Requests that are counted. */
const requests = 20

/** Milliseconds without a call of ours after which a request is complete, with its logs, metrics and streams. */
const quiet = 10
/** Background work may be endless, so there is a limit to waiting. */
const maxQuietChecks = 10

const root = join(import.meta.dirname, "..")

const start = (program: string, env: NodeJS.ProcessEnv = {}): ChildProcess => {
  const preload = new URL("pathCoverage.ts", import.meta.url).href
  const child = spawn(process.execPath, [`--import=${preload}`, join(root, program)], {
    env,
    stdio: ["ignore", "pipe", "inherit", "ipc"]
  })
  child.on("exit", (code) => {
    console.error(`${program} exited with code ${code}`)
    process.exit(1)
  })
  return child
}

const stop = (child: ChildProcess) => {
  child.removeAllListeners("exit")
  child.kill("SIGKILL")
}

const ask = async (child: ChildProcess, message: string): Promise<unknown> => {
  child.send(message)
  const [answer] = await once(child, "message")
  return answer
}

/** The functions that were called since the last time, by where they are. */
const take = async (child: ChildProcess): Promise<Map<string, Called>> => {
  const all = new Map<string, Called>()
  for (let check = 0; check < maxQuietChecks; check++) {
    await setTimeout(quiet)
    const called = (await ask(child, "take")) as ReadonlyArray<Called>
    if (called.length === 0) break
    for (const one of called) all.set(`${one.file}:${one.line}:${one.column}`, one)
  }
  return all
}

/** `request` returns whether it was answered as usual, which a busy machine can prevent; others are not counted. */
const pathOf = async (child: ChildProcess, request: () => Promise<boolean>): Promise<Path> => {
  for (let made = 0; made < warmUps; made++) await request()
  await take(child)
  const taken: Array<Map<string, Called>> = []
  for (let made = 0; taken.length < requests; made++) {
    if (made === 10 * requests) throw new Error("Most requests were not answered as usual")
    const isUsual = await request()
    const called = await take(child)
    if (isUsual) taken.push(called)
  }
  const [first = new Map<string, Called>(), ...others] = taken
  const called = [...first]
    .filter(([place]) => others.every((other) => other.has(place)))
    .map(([, one]) => one)
    .toSorted((a, b) => (a.file === b.file ? a.line - b.line || a.column - b.column : a.file < b.file ? -1 : 1))
  return { files: [...new Set(called.map(({ file }) => file))], functions: called.map((one) => describe(one, called)) }
}

const describe = ({ column, file, line, name }: Called, all: ReadonlyArray<Called>): string => {
  const isUnique = all.filter((one) => one.file === file && one.line === line && one.name === name).length === 1
  return `${file}:${line}${isUnique ? "" : `:${column}`} ${name || "(anonymous)"}`
}

/** Books that differ in nothing but their ids, so that every page takes the same path whatever it draws. */
const catalogue = [
  "id,title,authors,year,isbn10,categories",
  ...Array.from({ length: 20 }, (_, index) => `${index + 1},A Book,An Author,1934,0123456789,MYSTERY;CLASSICS`)
].join("\n")

const page = async (): Promise<Path> => {
  const folder = mkdtempSync(join(tmpdir(), "path-"))
  const file = join(folder, "books.csv")
  writeFileSync(file, catalogue)
  const child = start("src/main.ts", {
    CATALOG_FILE: file,
    DATABASE_URL: "sqlite::memory:",
    RECOMMENDATIONS_GRPC_PORT: "0",
    RECOMMENDATIONS_ADMIN_PORT: "0",
    MARKETPLACE_HTTP_PORT: "0",
    MARKETPLACE_ADMIN_PORT: "0"
  })
  try {
    const url = await new Promise<string>((resolve) =>
      createInterface(child.stdout!).on("line", (line) => {
        const [, found] = /HTTP server listening on (http:\/\/[^\s"]+)/.exec(line) ?? []
        if (found !== undefined) resolve(found)
      })
    )
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    return await pathOf(child, async () => {
      const [response] = await once(get(url, { agent }), "response")
      // each book is an item of a list; a page without recommendations has none
      return (await text(response)).includes("<li>")
    })
  } finally {
    stop(child)
    rmSync(folder, { recursive: true })
  }
}

const call = async (): Promise<Path> => {
  const child = start("scripts/pathEcho.ts")
  try {
    await once(child, "message")
    return await pathOf(child, async () => (await ask(child, "call")) === "called")
  } finally {
    stop(child)
  }
}

const print = (title: string, { files, functions }: Path) => {
  console.log(`${title}: ${files.length} files, ${functions.length} functions\n`)
  for (const file of files) {
    console.log(file)
    for (const one of functions) if (one.startsWith(`${file}:`)) console.log(`  ${one.slice(file.length + 1)}`)
  }
}

const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } })
const [onePage, oneCall] = await Promise.all([page(), call()])
if (values.json) console.log(JSON.stringify({ page: onePage, call: oneCall }, undefined, 2))
else {
  print("One page", onePage)
  console.log()
  print("One call", oneCall)
}
process.exit()
