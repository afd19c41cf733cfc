/**
 * What is done to the cluster in little while readers ask for pages and clients for books, and what was lost of both.
 */
import { credentials } from "@grpc/grpc-js"
import { Console, Duration, Effect } from "effect"

import * as Load from "../../test/integration/Load.ts"
import * as PageLoad from "../../test/integration/PageLoad.ts"
import * as RpcLoad from "../../test/integration/RpcLoad.ts"
import { Cluster } from "./Cluster.ts"
import type { Deployment, ProgressError } from "./Deployment.ts"

/** Calls a second, of each API. */
const callRate = 20

/** How long clients of gRPC that are not ours rely on what they were told, in milliseconds. */
const dnsWindow = 1_000

/** A rehearsal. */
export interface Rehearsal {
  readonly name: string
  readonly description: string
  /**
   * What becomes of a page whose connection breaks before its answer begins. Browsers ask again where the connection had been
   * used before; balancers of HTTP (an Ingress, a Gateway) do so on new ones too, and only they get over a Marketplace that
   * is killed.
   */
  readonly retry: PageLoad.Options["retry"]
  readonly perform: Effect.Effect<void, ProgressError, Cluster>
}

/** Does the same to all Deployments, and waits until they are as they should be. */
const toAll = (change: (deployment: Deployment) => Effect.Effect<void>) =>
  Effect.gen(function* () {
    const { deployments } = yield* Cluster
    yield* Effect.forEach(deployments, (deployment) => Effect.andThen(change(deployment), deployment.settled), {
      concurrency: "unbounded",
      discard: true
    })
  })

export const rollout: Rehearsal = {
  name: "rollout",
  description: "every pod of both Deployments is replaced",
  retry: "reused",
  perform: toAll(({ restart }) => restart)
}

export const scale: Rehearsal = {
  name: "scale",
  description: "both Deployments get two replicas more, and lose them again",
  retry: "reused",
  perform: Effect.andThen(
    toAll(({ scale, workload }) => scale(workload.replicas + 2)),
    toAll(({ scale, workload }) => scale(workload.replicas))
  )
}

export const kill: Rehearsal = {
  name: "kill",
  description: "a pod of each Deployment is killed without a word, one after the other",
  retry: "unanswered",
  perform: Effect.gen(function* () {
    const { deployments } = yield* Cluster
    for (const { settled, status } of deployments) {
      const { pods } = yield* status
      yield* pods[0]!.crash
      yield* settled
    }
  })
}

export const all: ReadonlyArray<Rehearsal> = [rollout, scale, kill]

const seconds = (duration: Duration.Duration) => `${Duration.toSeconds(duration).toFixed(1)} s`

const figures = (samples: ReadonlyArray<Load.Sample>, what: string): string => {
  const { count, failed, max, p50, p99 } = Load.summarize(samples)
  return (
    `  ${what}: ${count}, ${failed.length} failed ` +
    `(p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, max ${max.toFixed(0)} ms)`
  )
}

const startLoads = Effect.fnUntraced(function* (rate: number, retry: PageLoad.Options["retry"]) {
  const { endpoints, identity, target } = yield* Cluster
  const client = identity("marketplace-tls")
  const rpcs: RpcLoad.Options = {
    rate: callRate,
    target: target("recommendations"),
    dnsWindow,
    credentials:
      client === undefined
        ? credentials.createInsecure()
        : credentials.createSsl(Buffer.from(client.ca), Buffer.from(client.key), Buffer.from(client.cert))
  }
  return {
    pages: yield* PageLoad.start({ rate, retry, backends: () => endpoints("marketplace") }),
    v1: yield* RpcLoad.v1(rpcs),
    first: yield* RpcLoad.first(rpcs)
  }
})

/** Asks for pages one after another until each Marketplace is up to the pace of what follows: none has done anything yet. */
export const warmUp = Effect.gen(function* () {
  const { endpoints } = yield* Cluster
  const pages = yield* PageLoad.start({ rate: 20, retry: "unanswered", backends: () => endpoints("marketplace") })
  yield* pages.answered(100)
  yield* pages.finish
}).pipe(Effect.scoped)

/** Performs a rehearsal under so many pages a second, prints what came of it, and gives how many requests have failed. */
export const rehearse = Effect.fnUntraced(function* ({ description, name, perform, retry }: Rehearsal, rate: number) {
  const { deployments } = yield* Cluster
  const before = yield* Effect.forEach(deployments, ({ endings }) => endings)
  yield* Console.log(`\n${name}: ${description}`)
  const { first, pages, v1 } = yield* startLoads(rate, retry)
  // what follows is under load from its first moment to its last
  yield* pages.answered(rate)
  const [took] = yield* Effect.timed(perform)
  yield* pages.answered(rate)
  const samples = yield* Effect.all(
    { pages: pages.finish, "calls, today's API": v1.finish, "calls, first API": first.finish },
    { concurrency: "unbounded" }
  )

  let failed = 0
  for (const [what, requests] of Object.entries(samples)) {
    yield* Console.log(figures(requests, what))
    for (const reason of Load.reasons(requests)) yield* Console.log(`    ${reason}`)
    failed += requests.filter(({ failure }) => failure !== undefined).length
  }
  for (const [index, { endings, workload }] of deployments.entries()) {
    const left = (yield* endings).slice(before[index]?.length)
    const orderly = left.filter(({ isOrderly }) => isOrderly)
    if (left.length === 0) continue
    const longest = Duration.millis(Math.max(...left.map(({ took }) => Duration.toMillis(took))))
    yield* Console.log(
      `  ${workload.name}: ${left.length} pods told to leave, ${orderly.length} left with exit code 0, ` +
        `the last of them after ${seconds(longest)} (of ${seconds(workload.grace)})`
    )
    failed += left.length - orderly.length
  }
  yield* Console.log(`  in ${seconds(took)}`)
  return failed
}, Effect.scoped)
