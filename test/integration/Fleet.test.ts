/**
 * Both services under a steady load while replicas are replaced, crash, hang or are all down. Each test logs a line with its figures.
 */
import { writeSync } from "node:fs"

import { assert, layer } from "@effect/vitest"
import { credentials, type ChannelCredentials, type ChannelOptions } from "@grpc/grpc-js"
import { Duration, Effect } from "effect"

import * as CertificateFolder from "./CertificateFolder.ts"
import { Fleet, type Options } from "./Fleet.ts"
import { Installation, type Service } from "./Installation.ts"
import * as Load from "./Load.ts"
import * as PageLoad from "./PageLoad.ts"
import * as RpcLoad from "./RpcLoad.ts"

/** Pages a second: what two processors can serve while processes start. FLEET_RATE overrides it. */
const rate = Number(process.env["FLEET_RATE"] ?? 100)

/** Slightly longer than clients cache DNS answers: the minimum for minReadySeconds of a Deployment. */
const dnsWindow = 1_000
const minReady = "1200 millis"

/** MARKETPLACE_PAGE_BUDGET, in milliseconds. */
const budget = 800

/** The allowance beside the budget on a busy machine: network, rendering and scheduling. In milliseconds. */
const overhead = 200

/** A drain delay like in production, during which Marketplace sends Connection: close. */
const environment: Options["environment"] = {
  recommendations: { DRAIN_DELAY: "500 millis" },
  marketplace: { DRAIN_DELAY: "500 millis", MARKETPLACE_PAGE_BUDGET: `${budget} millis` }
}

const fleet: Options = { recommendations: 3, marketplaces: 2, minReady, environment }

/** Writes to stdout directly, since vitest only shows the output of failed tests. */
const say = (line: string) => Effect.sync(() => writeSync(1, `${line}\n`))

const figures = ({ count, failed, max, p50, p99, replicas }: Load.Summary) =>
  `${count} (${failed.length} failed; p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, max ${max.toFixed(0)} ms; ` +
  `from ${replicas.size} replicas)`

/** The loads of a fleet, by name. */
interface Loads {
  readonly pages: PageLoad.PageLoad
  readonly first: Load.Load
  readonly v1: Load.Load
}

/**
 * Requests pages one after another until each Marketplace is warm. Five cold processes on two processors cannot serve the full rate,
 * and a load balancer would not send it to them at once.
 */
const warmUp = Effect.gen(function* () {
  const { backends } = yield* Fleet
  const pages = yield* PageLoad.start({ rate: 20, backends, retry: "reused" })
  yield* pages.answered(100)
  yield* pages.finish
})

const startLoads = Effect.fnUntraced(function* (options: {
  readonly rate: number
  readonly retry: PageLoad.Options["retry"]
  readonly credentials?: ChannelCredentials | undefined
  readonly channelOptions?: ChannelOptions | undefined
}) {
  const { backends, target } = yield* Fleet
  yield* warmUp
  const rpcs: RpcLoad.Options = {
    rate: 20,
    target,
    dnsWindow,
    credentials: options.credentials ?? credentials.createInsecure(),
    channelOptions: options.channelOptions
  }
  return {
    pages: yield* PageLoad.start({ rate: options.rate, backends, retry: options.retry }),
    first: yield* RpcLoad.first(rpcs),
    v1: yield* RpcLoad.v1(rpcs)
  } satisfies Loads as Loads
})

/** Stops the loads and logs their results. */
const finishLoads = Effect.fnUntraced(function* (test: string, { first, pages, v1 }: Loads) {
  const [page, firstCalls, v1Calls] = yield* Effect.all([pages.finish, first.finish, v1.finish], {
    concurrency: "unbounded"
  })
  const { fresh, reused } = yield* pages.retried
  const result = {
    pages: Load.summarize(page),
    first: Load.summarize(firstCalls),
    v1: Load.summarize(v1Calls)
  }
  yield* say(
    `${test}: pages ${figures(result.pages)}; retried ${reused} on used and ${fresh} on new connections; ` +
      `first API ${figures(result.first)}; v1 ${figures(result.v1)}; ` +
      `sent at most ${(yield* pages.late).toFixed(0)} ms late`
  )
  for (const [name, samples] of Object.entries({ page, first: firstCalls, v1: v1Calls })) {
    yield* sayReasons(name, samples)
  }
  return result
})

const sayReasons = (name: string, samples: ReadonlyArray<Load.Sample>) =>
  Effect.forEach(Load.reasons(samples).slice(0, 8), (reason) => say(`  ${name}: ${reason}`), { discard: true })

/** The warnings and errors in the logs of the processes, for diagnosis. */
const sayComplaints = Effect.fnUntraced(function* (service: Service) {
  const { complaints } = yield* Fleet
  const lines = yield* complaints(service)
  if (lines.length === 0) return
  yield* say(`  ${service} wrote ${lines.length} warnings and errors, such as`)
  const kinds = new Map(lines.map((line) => [line.replaceAll(/\d+/g, "N").replaceAll(/[\w ]+: N\.Ns,/g, ""), line]))
  for (const line of [...kinds.values()].slice(0, 5)) yield* say(`    ${line.slice(0, 1_000)}`)
})

const assertNoFailures = ({ failed }: Load.Summary, what: string) =>
  assert.deepStrictEqual(Load.reasons(failed), [], what)

/** Replaces every replica of both services three times while pages are requested and both APIs are called. */
const rollingUpdate = (
  test: string,
  settings: {
    readonly environment?: Options["environment"]
    readonly credentials?: ChannelCredentials
    readonly channelOptions?: ChannelOptions
  } = {}
) =>
  Effect.gen(function* () {
    const { rollout } = yield* Fleet
    const loads = yield* startLoads({ rate, retry: "reused", ...settings })
    const exitCodes = yield* Effect.all([rollout("recommendations", 3), rollout("marketplace", 3)], {
      concurrency: "unbounded"
    })
    // the last replacement serves its share of the load too
    yield* loads.pages.answered(rate)
    const { first, pages, v1 } = yield* finishLoads(test, loads)
    yield* sayComplaints("marketplace")
    yield* sayComplaints("recommendations")

    assert.deepStrictEqual(
      exitCodes.flat(),
      Array.from({ length: 15 }, () => 0)
    )
    assertNoFailures(pages, "pages")
    assertNoFailures(first, "calls of the first API")
    assertNoFailures(v1, "calls of v1")
    // three at the start and nine replacements
    assert.strictEqual(pages.replicas.size, 12)
  }).pipe(
    Effect.provide(
      Fleet.layer({
        ...fleet,
        environment: {
          recommendations: { ...environment?.recommendations, ...settings.environment?.recommendations },
          marketplace: { ...environment?.marketplace, ...settings.environment?.marketplace }
        }
      })
    )
  )

layer(Installation.layer, { excludeTestServices: true })("a fleet", (it) => {
  it.effect("serves every page and every call through rolling updates", () => rollingUpdate("rolling update"))

  it.effect("serves every page and every call through rolling updates over mutual TLS", () =>
    Effect.gen(function* () {
      const { authority, environment, identity } = yield* CertificateFolder.makeBoth("rolling")
      yield* rollingUpdate("rolling update over mutual TLS", {
        environment,
        credentials: credentials.createSsl(
          Buffer.from(authority.cert),
          Buffer.from(identity.key),
          Buffer.from(identity.cert)
        )
      })
    })
  )

  it.effect("serves every page while replicas of both services crash", () =>
    Effect.gen(function* () {
      const { kill, replicas } = yield* Fleet
      // half the rate, since at times one cold Marketplace serves all of it while others start
      const loads = yield* startLoads({ rate: rate / 2, retry: "unanswered" })
      const crashes = (service: Service) =>
        Effect.replicateEffect(
          Effect.flatMap(replicas(service), (all) => Effect.forEach(all, kill)),
          3
        )
      yield* Effect.all([crashes("recommendations"), crashes("marketplace")], { concurrency: "unbounded" })
      yield* loads.pages.answered(rate)
      const { pages } = yield* finishLoads("crashes", loads)
      yield* sayComplaints("marketplace")

      assertNoFailures(pages, "pages")
    }).pipe(Effect.provide(Fleet.layer(fleet)))
  )

  it.effect(
    "serves every page within its budget while one replica is stopped, and uses the replica again afterwards",
    () =>
      Effect.gen(function* () {
        const { replicas, resume, stop } = yield* Fleet
        const loads = yield* startLoads({ rate, retry: "reused" })
        const [stopped] = yield* replicas("recommendations")
        const isFromStopped = ({ replica }: Load.Sample) => replica === stopped!.host
        yield* loads.pages.until(isFromStopped)
        const from = yield* loads.pages.elapsed
        yield* stop(stopped!)
        // ten seconds
        yield* loads.pages.answered(10 * rate)
        const to = yield* loads.pages.elapsed
        yield* resume(stopped!)
        const used = yield* loads.pages
          .until((sample) => sample.at > to && isFromStopped(sample))
          .pipe(Effect.timed, Effect.timeoutOption("10 seconds"))
        const { pages } = yield* finishLoads("stopped", loads)
        yield* say(
          `  stopped for ${(to - from).toFixed(0)} ms; ` +
            (used._tag === "Some"
              ? `used again after ${Duration.toMillis(used.value[0]).toFixed(0)} ms`
              : "not used again within ten seconds")
        )
        yield* sayComplaints("marketplace")

        assertNoFailures(pages, "pages")
        // on a machine that delays the load generator, pages are late too
        assert.isBelow(pages.max, budget + overhead + (yield* loads.pages.late))
        assert.strictEqual(used._tag, "Some")
      }).pipe(Effect.provide(Fleet.layer(fleet)))
  )

  // a crashed process refuses connections; a stopped one accepts them and does not answer
  it.effect.each(["crashed", "stopped"] as const)(
    "renders pages without books at once while all replicas have %s, and with books two seconds after their return",
    (how) =>
      Effect.gen(function* () {
        const { add, backends, crash, replicas, resume, stop } = yield* Fleet
        yield* warmUp
        const pages = yield* PageLoad.start({ rate, backends, retry: "reused" })
        yield* pages.answered(2 * rate)
        const all = yield* replicas("recommendations")
        const down = yield* pages.elapsed
        yield* Effect.forEach(all, how === "crashed" ? crash : stop, { concurrency: "unbounded" })
        // the circuit breakers open within two seconds; the next four seconds are measured
        yield* pages.answered(2 * rate)
        const open = yield* pages.elapsed
        yield* pages.answered(4 * rate)
        const end = yield* pages.elapsed
        yield* Effect.forEach(all, (replica) => (how === "crashed" ? add("recommendations") : resume(replica)), {
          concurrency: "unbounded",
          discard: true
        })
        const back = yield* pages.elapsed
        yield* pages.answered(5 * rate)
        const samples = yield* pages.finish

        const between = (from: number, to: number) => Load.summarize(samples.filter(({ at }) => at >= from && at < to))
        // a page requested before may be answered after
        const before = between(0, down - budget)
        const opening = between(down, open)
        // a page answered after the return may have books
        const whileOpen = Load.summarize(samples.filter(({ at, took }) => at >= open && at + took <= end))
        const settled = between(back + 2_000, Infinity)
        const firstBooks = samples.find(({ at, failure }) => at >= end && failure === undefined)
        const lastApology = samples.findLast(({ failure }) => failure !== undefined)
        yield* say(
          `all ${how}: the first two seconds ${figures(opening)}; after that ${figures(whileOpen)}; ` +
            `first books ${((firstBooks?.at ?? Number.NaN) - back).toFixed(0)} ms and last apology ` +
            `${((lastApology?.at ?? Number.NaN) - back).toFixed(0)} ms after the return of all; then ${figures(settled)}`
        )
        yield* sayReasons("page", samples)
        yield* sayComplaints("marketplace")

        assert.isAbove(before.count, rate)
        assertNoFailures(before, "pages before")
        // all pages were rendered without books
        assert.strictEqual(whileOpen.failed.length, whileOpen.count)
        assert.isTrue(samples.every(({ failure }) => failure === undefined || failure === "an apology"))
        assert.isAbove(whileOpen.count, rate)
        assert.isBelow(whileOpen.p50, 50)
        assert.isAbove(settled.count, rate)
        assertNoFailures(settled, "pages after the return")
      }).pipe(Effect.provide(Fleet.layer(fleet)))
  )
})
