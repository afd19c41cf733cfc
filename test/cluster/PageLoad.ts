/**
 * Readers of the shop: a pod in a namespace of their own that requests pages (see load.mjs).
 */
import { Effect, Schema } from "effect"

import * as Kubectl from "./Kubectl.ts"
import * as Scripts from "./Scripts.ts"
import { namespaces, Shop } from "./Shop.ts"

export interface Options {
  /** The name of the pod, for several loads at once. */
  readonly name?: string
  /** Pages a second. Undefined: each reader requests one page after another. */
  readonly rate?: number
  /** Connections that are opened before; without a rate, the number of readers. */
  readonly connections?: number
  /** The share of pages that are requested on a new connection. */
  readonly fresh?: number
}

const Counts = Schema.Record(Schema.String, Schema.Int)

const Progress = Schema.Struct({ pages: Schema.Int, refused: Schema.Int, failed: Counts })

const Result = Schema.Struct({
  ...Progress.fields,
  latencies: Schema.Struct({ answered: Counts, refused: Counts }),
  seconds: Schema.Finite
})

/** The figures of a load. Latencies are in milliseconds. */
export interface Figures {
  readonly pages: number
  readonly seconds: number
  /** Pages that were refused with 503 and Retry-After. */
  readonly refused: number
  /** Failed pages by reason; refused ones are none of them. */
  readonly failed: Readonly<Record<string, number>>
  readonly p50: number
  readonly p99: number
  readonly max: number
  /** The 99th percentile of refused pages. */
  readonly refusedP99: number
}

export interface PageLoad {
  /** Waits for a number of further responses. */
  readonly answered: (count: number) => Effect.Effect<void, Kubectl.KubectlError | Kubectl.NotReached, Kubectl.Kubectl>
  /** Stops requesting, and waits for outstanding responses. */
  readonly finish: Effect.Effect<Figures, Kubectl.KubectlError | Kubectl.NotReached, Kubectl.Kubectl>
}

/** The last line of JSON that the pod has printed with these fields. */
const lastLine = Effect.fnUntraced(function* <A, I>(pod: string, schema: Schema.Codec<A, I>) {
  const log = yield* Kubectl.run(["logs", pod, "--namespace", namespaces.readers, "--tail=20"])
  const decode = Schema.decodeUnknownOption(Schema.fromJsonString(schema))
  return log
    .split("\n")
    .map((line) => decode(line))
    .findLast(({ _tag }) => _tag === "Some")
})

/** Requests pages until the end of the scope. */
export const start = Effect.fnUntraced(function* ({ connections, fresh, name = "load", rate }: Options) {
  const { image, url } = yield* Shop
  yield* Scripts.start({
    name,
    namespace: namespaces.readers,
    image,
    command: ["node", "/scripts/load.mjs"],
    // so that throttling of the readers is not counted as latency of the shop
    cpu: "500m",
    env: {
      URL: url,
      ...(rate === undefined ? {} : { RATE: String(rate) }),
      ...(connections === undefined ? {} : { CONNECTIONS: String(connections) }),
      ...(fresh === undefined ? {} : { FRESH: String(fresh) })
    }
  })
  const pages = Effect.map(lastLine(name, Progress), (line) => (line?._tag === "Some" ? line.value.pages : 0))
  const finish = Effect.gen(function* () {
    // the command may be killed with the container
    const stop = Effect.ignore(Scripts.exec(namespaces.readers, name, ["--eval", "process.kill(1, 'SIGTERM')"]))
    const phase = Effect.map(
      Kubectl.get<{ readonly status: { readonly phase: string } }>("pod", name, "--namespace", namespaces.readers),
      ({ status }) => status.phase
    )
    yield* Kubectl.until(
      "readers stopped",
      Effect.flatMap(phase, (phase) => (phase === "Running" ? Effect.as(stop, false) : Effect.succeed(true)))
    )
    const line = yield* lastLine(name, Result)
    if (line?._tag !== "Some") return yield* new Kubectl.NotReached({ state: "figures of the readers" })
    return figuresOf(line.value)
  })
  return {
    answered: (count) =>
      Effect.flatMap(pages, (before) =>
        Kubectl.until(
          `${count} pages`,
          Effect.map(pages, (now) => now >= before + count)
        )
      ),
    finish
  } satisfies PageLoad as PageLoad
})

const figuresOf = ({ failed, latencies, pages, refused, seconds }: typeof Result.Type): Figures => ({
  pages,
  refused,
  failed,
  seconds,
  p50: quantile(latencies.answered, 0.5),
  p99: quantile(latencies.answered, 0.99),
  max: quantile(latencies.answered, 1),
  refusedP99: quantile(latencies.refused, 0.99)
})

/** The latency that a share of the pages did not exceed. */
const quantile = (counts: Readonly<Record<string, number>>, share: number): number => {
  const sorted = Object.entries(counts)
    .map(([latency, count]) => ({ latency: Number(latency), count }))
    .toSorted((a, b) => a.latency - b.latency)
  let left = sorted.reduce((sum, { count }) => sum + count, 0) * share
  return sorted.find(({ count }) => (left -= count) <= 0)?.latency ?? 0
}
