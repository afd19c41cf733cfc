/**
 * The rows of the benchmark.
 */
import { mkdtempSync } from "node:fs"
import { join } from "node:path"

import * as Certificates from "../scripts/certificates.ts"
import * as Catalogues from "./Catalogues.ts"
import * as Contestants from "./Contestants.ts"
import * as DatabaseRows from "./DatabaseRows.ts"
import * as Load from "./Load.ts"
import * as Processes from "./Processes.ts"
import { firstPath, recommend, recommendFirst, recommendPath } from "./Requests.ts"
import * as Rounds from "./Rounds.ts"
import { type Result, type Row, type Setting, wanted, write } from "./Row.ts"
import * as Starts from "./Starts.ts"
import * as TemporaryDatabase from "./TemporaryDatabase.ts"

interface GrpcRow {
  readonly contestants: ReadonlyArray<Contestants.Contestant>
  readonly situation: Partial<Contestants.Situation>
  /** The client certificate for servers with mutual TLS. */
  readonly clientTls?: Contestants.TlsFiles
  readonly path: string
  readonly request: Buffer
  readonly answerSize: number
  readonly connections: number
  readonly streams: number
  readonly calls: number
  readonly rounds: number
  readonly warmUps: number
}

/** Compares gRPC servers; with TLS through a tunnel, since h2load cannot present a client certificate. */
const compareGrpc = async (setting: Setting, row: GrpcRow): Promise<ReadonlyArray<Rounds.Figures>> => {
  const { calls, contestants, rounds, situation, warmUps } = row
  const file = write(setting, "request", row.request)
  const log = join(setting.folder, "calls")
  const byName = new Map(wanted(setting, contestants).map((contestant) => [contestant.name, contestant]))
  const start = async (name: string): Promise<Rounds.Subject> => {
    const { collector } = setting
    const port = await Contestants.freePort()
    const core = Processes.measuredCore
    const process = byName.get(name)!.start({ collector, ...situation, core, port })
    const socket = await Contestants.connected(port)
    socket.destroy()
    const entry = row.clientTls === undefined ? port : await tunnel(port, row.clientTls)
    return { name, process, load: () => Load.grpc({ ...row, calls, file, log, port: entry }) }
  }
  return Rounds.compare([...byName.keys()], start, {
    processes: setting.processes,
    rounds: Math.ceil(rounds * setting.effort),
    warmUps
  })
}

const tunnel = async (port: number, tls: Contestants.TlsFiles): Promise<number> => {
  const child = Processes.start({
    core: Processes.otherCore,
    command: process.execPath,
    args: [join(import.meta.dirname, "tlsTunnel.ts")],
    env: { PORT: String(port), TLS_CA_FILE: tls.ca, TLS_CERT_FILE: tls.cert, TLS_KEY_FILE: tls.key }
  })
  return Number(await Processes.find(child, /listening on 127\.0\.0\.1:(\d+)/))
}

const busy = { connections: 4, streams: 16, calls: 10_000, rounds: 9, warmUps: 4 }

const three: Row = {
  key: "three",
  title: "Recommend, 3 of the shipped catalogue: 4 connections with 16 calls each",
  targets: [
    { against: "grpc-js by hand", column: "cpu", atLeast: 1 },
    { against: "nice-grpc", column: "cpu", atLeast: 1.15 },
    { against: "connect-node", column: "cpu", atLeast: 4.5 },
    { against: "Python, grpcio", column: "cpu", atLeast: 3.5 },
    { against: "grpc-js by hand", column: "memory", atMost: 1.15 }
  ],
  run: async (setting) => {
    const catalogue = Catalogues.shipped()
    const answerSize = Catalogues.sizeOfAnswer(catalogue, 3)
    const constant = Load.frame(new Uint8Array(answerSize - 5))
    const { byHand, connectNode, niceGrpc, ours, pythonGrpc } = Contestants
    const lines = await compareGrpc(setting, {
      ...busy,
      contestants: [ours, byHand, niceGrpc, connectNode, pythonGrpc, Contestants.constant(constant)],
      situation: { catalogue: write(setting, "shipped.csv", catalogue.text) },
      path: recommendPath,
      request: recommend(3),
      answerSize
    })
    return { lines }
  }
}

/** Compares Recommend of the first API. */
const compareFirst = async (setting: Setting, row: Pick<GrpcRow, "calls" | "rounds" | "warmUps">): Promise<Result> => {
  const catalogue = Catalogues.shippedForFirst()
  const { byHand, niceGrpc, ours } = Contestants
  const lines = await compareGrpc(setting, {
    ...busy,
    ...row,
    contestants: [ours, byHand, niceGrpc],
    situation: { catalogue: write(setting, "first.csv", catalogue.text) },
    path: firstPath,
    request: recommendFirst(3),
    answerSize: Catalogues.sizeOfAnswer(catalogue, 3)
  })
  return { lines }
}

const first: Row = {
  key: "first",
  title: "Recommend of the first API, 3 of the shipped catalogue: 4 connections with 16 calls each",
  targets: [{ against: "grpc-js by hand", column: "cpu", atLeast: 1 }],
  run: (setting) => compareFirst(setting, busy)
}

const firstCold: Row = {
  key: "first-cold",
  title: "Recommend of the first API, 3 of the shipped catalogue: the first 50,000 calls of a process",
  targets: [{ against: "grpc-js by hand", column: "cpu", atLeast: 1 }],
  // one round of each process, and more processes
  run: ({ effort, processes, ...setting }) =>
    compareFirst(
      { ...setting, effort: 1, processes: Math.ceil(3 * processes * effort) },
      { calls: 50_000, rounds: 1, warmUps: 0 }
    )
}

const hundred: Row = {
  key: "hundred",
  title: "Recommend, 100 of a 10,000-book catalogue: 4 connections with 16 calls each",
  targets: [{ against: "grpc-js by hand", column: "cpu", atLeast: 1 }],
  run: async (setting) => {
    const catalogue = Catalogues.madeUp(10_000)
    const lines = await compareGrpc(setting, {
      ...busy,
      calls: 3_000,
      contestants: [Contestants.ours, Contestants.byHand],
      situation: { catalogue: write(setting, "10000.csv", catalogue.text) },
      path: recommendPath,
      request: recommend(100),
      answerSize: Catalogues.sizeOfAnswer(catalogue, 100)
    })
    return { lines }
  }
}

const alone: Row = {
  key: "alone",
  title: "Recommend, 3 of the shipped catalogue: one connection with one call at a time",
  targets: [{ against: "grpc-js by hand", column: "median", atMost: 1.05 }],
  run: async (setting) => {
    const catalogue = Catalogues.shipped()
    const lines = await compareGrpc(setting, {
      ...busy,
      connections: 1,
      streams: 1,
      calls: 3_000,
      contestants: [Contestants.ours, Contestants.byHand],
      situation: { catalogue: write(setting, "shipped.csv", catalogue.text) },
      path: recommendPath,
      request: recommend(3),
      answerSize: Catalogues.sizeOfAnswer(catalogue, 3)
    })
    return { lines }
  }
}

const tls: Row = {
  key: "tls",
  title: "Recommend, 3 of the shipped catalogue, over mutual TLS: 4 connections with 16 calls each",
  targets: [{ against: "grpc-js by hand", column: "cpu", atLeast: 1 }],
  run: async (setting) => {
    const catalogue = Catalogues.shipped()
    const authority = await Certificates.makeAuthority()
    const [server, client] = await Promise.all(
      (["server", "client"] as const).map((usage) => Certificates.issue(authority, { names: ["DNS:localhost"], usage }))
    )
    const ca = write(setting, "ca.pem", authority.cert)
    const filesOf = (name: string, { cert, key }: Certificates.Issued) => ({
      ca,
      cert: write(setting, `${name}.pem`, cert),
      key: write(setting, `${name}-key.pem`, key)
    })
    const lines = await compareGrpc(setting, {
      ...busy,
      contestants: [Contestants.ours, Contestants.byHand],
      situation: { catalogue: write(setting, "shipped.csv", catalogue.text), tls: filesOf("server", server!) },
      clientTls: filesOf("client", client!),
      path: recommendPath,
      request: recommend(3),
      answerSize: Catalogues.sizeOfAnswer(catalogue, 3)
    })
    return { lines }
  }
}

const page: Row = {
  key: "page",
  title: "A page with three books, all from the same Recommendations: 16 connections",
  targets: [
    { against: "node:http and grpc-js by hand", column: "cpu", atLeast: 0.9 },
    { against: "Python, Flask's own server", column: "cpu", atLeast: 5 },
    { against: "Python, Flask under gunicorn", column: "cpu", atLeast: 3 }
  ],
  run: async (setting) => {
    const backend = await Contestants.freePort()
    Contestants.ours.start({ core: Processes.otherCore, port: backend })
    const socket = await Contestants.connected(backend)
    socket.destroy()
    const { flask, gunicorn, ourPage, pageByHand } = Contestants
    const byName = new Map(
      wanted(setting, [ourPage, pageByHand, flask, gunicorn]).map((contestant) => [contestant.name, contestant])
    )
    const start = async (name: string): Promise<Rounds.Subject> => {
      const port = await Contestants.freePort()
      const { collector } = setting
      const process = byName.get(name)!.start({ backend, collector, core: Processes.measuredCore, port })
      const probe = await Contestants.connected(port)
      probe.destroy()
      return { name, process, load: () => Load.pages({ port, connections: 16, seconds: 1, books: 3 }) }
    }
    const lines = await Rounds.compare([...byName.keys()], start, {
      processes: setting.processes,
      rounds: Math.ceil(7 * setting.effort),
      warmUps: 6
    })
    return { lines }
  }
}

/** Compares starts; with `isImported`, the database of each server has the catalogue already. */
const compareStarts = async (setting: Setting, isImported: boolean): Promise<Result> => {
  const compileCache = mkdtempSync(join(setting.folder, "compile-cache-"))
  const frame = recommend(3)
  const { byHand, byHandSqlite, ours, pythonGrpc } = Contestants
  const contestants = [
    { ...ours, cache: compileCache },
    { ...ours, name: "ours, without the image's compile cache", cache: undefined },
    ...wanted(setting, [byHandSqlite, byHand, pythonGrpc]).map((contestant) => ({ ...contestant, cache: undefined }))
  ].map((contestant) => ({ ...contestant, database: isImported ? TemporaryDatabase.create() : undefined }))
  const once = async ({ cache, database, ...contestant }: (typeof contestants)[number]) => {
    const port = await Contestants.freePort()
    const situation = {
      core: Processes.measuredCore,
      port,
      compileCache: cache,
      database,
      collector: setting.collector,
      catalogue: Catalogues.shippedFile
    }
    return Starts.first(contestant, situation, recommendPath, frame)
  }
  // a process that is killed writes no compile cache
  await Contestants.fillCompileCache(compileCache)
  const starts = contestants.map((contestant) => () => once(contestant))
  if (isImported) await Starts.compare(starts, 1)
  const figures = await Starts.compare(starts, Math.ceil(15 * setting.effort))
  return { lines: contestants.map(({ name }, at) => ({ name, start: figures[at]! })) }
}

const startTargets = [{ against: "grpc-js and node:sqlite by hand", column: "start", atMost: 1.3 }] as const

const start: Row = {
  key: "start",
  title: "From being started to the first answered call, with a database that has the catalogue",
  targets: startTargets,
  run: (setting) => compareStarts(setting, true)
}

const firstStart: Row = {
  key: "start-first",
  title: "From being started to the first answered call, with a new database into which the catalogue is imported",
  targets: startTargets,
  run: (setting) => compareStarts(setting, false)
}

const million: Row = {
  key: "million",
  title: "Recommend, 10 of 100 books and of 1,000,000: 4 connections with 16 calls each",
  targets: [
    { against: "ours, 100 books", column: "cpu", atMost: 1.2 },
    { against: "", column: "start", fact: "seconds to start with 1,000,000 books", atMost: 10 },
    { against: "", column: "memory", fact: "bytes of resident memory a book", atMost: 600 }
  ],
  run: async (setting) => {
    const small = Catalogues.madeUp(100)
    const large = Catalogues.madeUp(1_000_000)
    const files = [write(setting, "1000000.csv", large.text), write(setting, "100.csv", small.text)]
    const contestants = ["ours, 1,000,000 books", "ours, 100 books"].map((name, at) => ({
      ...Contestants.ours,
      name,
      start: (situation: Contestants.Situation) => Contestants.ours.start({ ...situation, catalogue: files[at] })
    }))
    const frame = recommend(10)
    const others = Processes.count()
    const facts: Array<{ readonly seconds: number; readonly bytes: number }> = []
    for (const contestant of contestants) {
      const database = `sqlite:${join(setting.folder, `${facts.length}.db`)}`
      const situation = { core: Processes.measuredCore, port: await Contestants.freePort(), database }
      let child: ReturnType<Contestants.Contestant["start"]> | undefined
      const kept = { ...contestant, start: (given: Contestants.Situation) => (child = contestant.start(given)) }
      const seconds = async () => (await Starts.first(kept, situation, recommendPath, frame)) / 1000
      // the first start imports the books
      await seconds()
      await Processes.stopAll(others)
      facts.push({ seconds: await seconds(), bytes: Processes.memoryOf(child!.pid!).now })
      await Processes.stopAll(others)
    }
    const lines = await compareGrpc(setting, {
      ...busy,
      contestants,
      situation: {},
      path: recommendPath,
      request: frame,
      answerSize: Catalogues.sizeOfAnswer(small, 10)
    })
    return {
      lines,
      facts: {
        "seconds to start with 1,000,000 books": facts[0]!.seconds,
        "bytes of resident memory a book": (facts[0]!.bytes - facts[1]!.bytes) / 999_900
      }
    }
  }
}

/** The messages of each round, on one connection. */
const messages = 250_000

const stream: Row = {
  key: "stream",
  title: "One stream of 250,000 small messages after the other, from server to client: figures are of a message",
  targets: [{ against: "grpc-js by hand", column: "cpu", atLeast: 0.8 }],
  run: async (setting) => {
    const text = "hello"
    // a request has the text and `int32_value`, a response the text and `number`, a varint from 1 up
    const count = [...varint(messages)]
    const numbers = Array.from({ length: messages }, (_, index) => varint(index + 1).length)
    const answerSize = numbers.reduce((sum, size) => sum + 5 + 2 + text.length + 1 + size, 0)
    const lines = await compareGrpc(setting, {
      contestants: [Contestants.ourStream, Contestants.streamByHand],
      situation: {},
      path: "/onlinebooks.layers.testing.EchoService/Expand",
      request: Load.frame(Uint8Array.of(0x0a, text.length, ...Buffer.from(text), 0x10, ...count)),
      answerSize,
      connections: 1,
      streams: 1,
      calls: 1,
      rounds: 4,
      warmUps: 1
    })
    const perMessage = ({ best, middle }: Rounds.Figure, by: number) => ({ best: best / by, middle: middle / by })
    return {
      lines: lines.map(({ cpu, memory, name, throughput }) => ({
        name,
        memory,
        cpu: perMessage(cpu, messages),
        throughput: perMessage(throughput, 1 / messages)
      }))
    }
  }
}

const varint = (value: number): Uint8Array => {
  const bytes: Array<number> = []
  let rest = value
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80)
  return Uint8Array.from([...bytes, rest])
}

export const rows: ReadonlyArray<Row> = [
  three,
  first,
  firstCold,
  hundred,
  alone,
  tls,
  page,
  start,
  firstStart,
  million,
  stream,
  ...DatabaseRows.rows
]
