/**
 * The rows of calls that use the database, beside the same statements by hand. The load generator is {@link file://./OpenLoad.ts}, since
 * h2load sends the same body with each call, and feedback needs new ids.
 */
import { once } from "node:events"

import { Client } from "pg"

import { Postgres } from "../test/storage/Postgres.ts"
import * as Catalogues from "./Catalogues.ts"
import * as Contestants from "./Contestants.ts"
import type { EventLoopDelay } from "./eventLoop.ts"
import type * as Load from "./Load.ts"
import * as OpenLoad from "./OpenLoad.ts"
import * as Processes from "./Processes.ts"
import * as ReaderCalls from "./ReaderCalls.ts"
import * as Rounds from "./Rounds.ts"
import { type Line, type Row, type Setting, type Target, wanted, write } from "./Row.ts"

const connections = 4
const inFlight = 64

/** The deadline of a call, in milliseconds. */
const timeout = 10_000

/** The duration of a round, in milliseconds. */
const duration = 800

/** What is called, with the ids of the books of the catalogue. */
type MakeCalls = (bookIds: ReadonlyArray<number>) => ReaderCalls.Calls

interface Workload {
  readonly key: string
  readonly title: string
  readonly makeCalls: MakeCalls
  readonly isFilled?: boolean
}

export const workloads: ReadonlyArray<Workload> = [
  { key: "record", title: "RecordFeedback of one record", makeCalls: (bookIds) => ReaderCalls.record(1, bookIds) },
  {
    key: "record-100",
    title: "RecordFeedback of 100 records",
    makeCalls: (bookIds) => ReaderCalls.record(100, bookIds)
  },
  { key: "search", title: "SearchBooks in 10,000 books, 10 found", makeCalls: () => ReaderCalls.search() },
  { key: "list", title: "ListFeedback of 50 records", makeCalls: () => ReaderCalls.list(), isFilled: true }
]

/** Fails unless every call was answered with OK and a right answer. */
const outcomeOf = ({ elapsed, latencies, statuses }: OpenLoad.Outcome): Load.Outcome => {
  if ([...statuses.keys()].some((status) => status !== 0)) {
    throw new Error(`Not every call was answered as expected: ${JSON.stringify([...statuses])}`)
  }
  const micros = (share: number) => latencies[Math.floor(latencies.length * share)]! * 1000
  return { requests: latencies.length, seconds: elapsed / 1000, median: micros(0.5), p99: micros(0.99) }
}

/** Writes a catalogue of made-up books. */
export const makeCatalogue = (setting: Pick<Setting, "folder">) => {
  const { text } = Catalogues.madeUp(10_000)
  const bookIds = text
    .trimEnd()
    .split("\n")
    .slice(1)
    .map((line) => Number.parseInt(line, 10))
  return { file: write(setting, "10000.csv", text), bookIds }
}

/** Prepares the database of a server, and returns what loads the server for less than a second. */
export const startLoad = async (
  { isFilled = false, makeCalls }: Workload,
  port: number,
  bookIds: ReadonlyArray<number>
): Promise<() => Promise<Load.Outcome>> => {
  if (isFilled) {
    const filling = await OpenLoad.start({ ...ReaderCalls.fill(bookIds), port, connections: 1, timeout })
    outcomeOf(await filling.repeat(ReaderCalls.listedReaders))
    filling.close()
  }
  const load = await OpenLoad.start({ ...makeCalls(bookIds), port, connections, timeout })
  return async () => outcomeOf(await load.saturate(inFlight, duration))
}

/** Compares servers; `database` makes the URL of a new database for each. */
const compare = async (
  setting: Setting,
  workload: Workload,
  contestants: ReadonlyArray<Contestants.Contestant>,
  database: () => Promise<string | undefined>
): Promise<ReadonlyArray<Line>> => {
  const { bookIds, file } = makeCatalogue(setting)
  const byName = new Map(contestants.map((contestant) => [contestant.name, contestant]))
  const start = async (name: string): Promise<Rounds.Subject> => {
    const port = await Contestants.freePort()
    const process = byName.get(name)!.start({
      collector: setting.collector,
      core: Processes.measuredCore,
      port,
      catalogue: file,
      database: await database()
    })
    const socket = await Contestants.connected(port)
    socket.destroy()
    const load = await startLoad(workload, port, bookIds)
    return { name, process, load }
  }
  return Rounds.compare([...byName.keys()], start, {
    processes: setting.processes,
    rounds: Math.ceil(7 * setting.effort),
    warmUps: 4
  })
}

const load = `${connections} connections with ${inFlight / connections} calls each`

const targetsAgainst = (against: string): ReadonlyArray<Target> => [
  { against, column: "cpu", atLeast: 0.8 },
  { against, column: "throughput", atLeast: 0.8 }
]

const sqliteRow = (workload: Workload): Row => ({
  key: workload.key,
  title: `${workload.title}, SQLite: ${load}`,
  targets: targetsAgainst(Contestants.byHandSqlite.name),
  run: async (setting) => {
    const contestants = wanted(setting, [Contestants.ours, Contestants.byHandSqlite])
    return { lines: await compare(setting, workload, contestants, async () => undefined) }
  }
})

const postgresRow = (workload: Workload): Row => ({
  key: `${workload.key}-pg`,
  title: `${workload.title}, PostgreSQL: ${load}`,
  targets: targetsAgainst(Contestants.byHandPostgres.name),
  run: (setting) =>
    withPostgres(async (database) => {
      const contestants = wanted(setting, [Contestants.ours, Contestants.byHandPostgres])
      return { lines: await compare(setting, workload, contestants, database) }
    })
})

/** Runs with a server of PostgreSQL, on the core of the load generator; a row without one has no lines. */
const withPostgres = async <A extends { readonly lines: ReadonlyArray<Line> }>(
  run: (database: () => Promise<string>) => Promise<A>
): Promise<A | { readonly lines: readonly [] }> => {
  if (!Postgres.isInstalled()) {
    console.error("The rows of PostgreSQL are left out; to include them: apt-get install postgresql")
    return { lines: [] }
  }
  const server = await Postgres.start()
  const kill = () => void server.kill()
  process.on("exit", kill)
  let databases = 0
  const create = async () => {
    const name = `bench_${databases++}`
    const client = new Client({ connectionString: server.url("postgres") })
    await client.connect()
    await client.query(`CREATE DATABASE ${name}`)
    await client.end()
    return server.url(name)
  }
  try {
    return await run(create)
  } finally {
    process.off("exit", kill)
    await server.remove()
  }
}

/** Calls a second of {@link eventLoop}. */
const rate = 2_000

const eventLoop: Row = {
  key: "record-loop",
  title: `The event loop under ${rate} RecordFeedback calls of one record a second, SQLite: ${connections} connections`,
  targets: [{ against: "", column: "loop", fact: "ms of event-loop delay at the 99th percentile", atMost: 5 }],
  run: async (setting) => {
    const { bookIds, file } = makeCatalogue(setting)
    const lines: Array<Line> = []
    for (const contestant of wanted(setting, [Contestants.ours, Contestants.byHandSqlite])) {
      const others = Processes.count()
      const port = await Contestants.freePort()
      const child = contestant.start({
        core: Processes.measuredCore,
        port,
        catalogue: file,
        collector: setting.collector,
        nodeOptions: `--import=${new URL("eventLoop.ts", import.meta.url).href}`
      })
      const socket = await Contestants.connected(port)
      socket.destroy()
      const load = await OpenLoad.start({ ...ReaderCalls.record(1, bookIds), port, connections, timeout: 1_000 })
      const delay = async () => {
        child.send("delay")
        const [seen] = (await once(child, "message")) as [EventLoopDelay]
        return seen.p99
      }
      await load.run(rate, 4_000)
      await delay()
      const delays: Array<number> = []
      const rounds: Array<OpenLoad.Outcome> = []
      for (let round = 0; round < Math.ceil(5 * setting.effort); round++) {
        rounds.push(await load.run(rate, 2_000))
        delays.push(await delay())
      }
      load.close()
      Processes.stop(others)
      const figure = (values: ReadonlyArray<number>, best: (...values: ReadonlyArray<number>) => number) => ({
        best: best(...values),
        middle: values.toSorted((a, b) => a - b)[values.length >> 1]!
      })
      lines.push({
        name: contestant.name,
        throughput: figure(
          rounds.map(({ elapsed, latencies }) => (latencies.length / elapsed) * 1000),
          Math.max
        ),
        median: figure(
          rounds.map(({ latencies }) => (latencies[latencies.length >> 1] ?? Number.NaN) * 1000),
          Math.min
        ),
        loop: figure(delays, Math.min)
      })
    }
    const [first] = lines
    return {
      lines,
      facts: { "ms of event-loop delay at the 99th percentile": first?.loop?.best ?? Number.NaN }
    }
  }
}

export const rows: ReadonlyArray<Row> = [...workloads.map(sqliteRow), eventLoop, ...workloads.map(postgresRow)]
