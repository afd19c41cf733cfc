/**
 * `npm run cluster`: the rendered manifests as processes on one machine, and what is lost while they are replaced, scaled and
 * killed under load. It ends with 1 if anything is.
 */
// before everything that imports grpc-js
import "./Resolver.ts"
import { NodeHttpClient, NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Console, Duration, Effect, Layer, Option, Schema } from "effect"
import { Command, Flag } from "effect/cli"

import project from "../../package.json" with { type: "json" }
import { Cluster, differences } from "./Cluster.ts"
import * as Kustomize from "./Kustomize.ts"
import * as Manifests from "./Manifests.ts"
import * as Rehearsal from "./Rehearsal.ts"

/** What was done to the cluster cost requests. */
class RequestsLost extends Schema.TaggedError<RequestsLost>()("RequestsLost", { count: Schema.Int }) {
  override get message(): string {
    return `\n${this.count} failed`
  }
}

/** A failure that was foreseen is its message; only a bug shows a stack. */
const explain = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.tapCauseIf(
    effect,
    (cause) => !Cause.hasInterruptsOnly(cause),
    (cause) =>
      Console.error(
        Option.match(Cause.findErrorOption(cause), {
          onSome: ({ message }) => message,
          onNone: () => Cause.pretty(cause)
        })
      )
  )

/** The manifests of a folder, performed until the effect ends. */
const withCluster = <A, E>(folder: string, use: Effect.Effect<A, E, Cluster>) =>
  Effect.gen(function* () {
    yield* Console.log(`${folder}, as processes of this machine. What is not as the manifests have it:`)
    for (const difference of differences) yield* Console.log(`- ${difference}`)
    const manifests = yield* Manifests.read(yield* Kustomize.render(folder))
    return yield* Effect.gen(function* () {
      const { deployments, endpoints } = yield* Cluster
      for (const { settled, workload } of deployments) {
        yield* settled
        yield* Console.log(
          `\n${workload.name}: ${workload.replicas} replicas available, ${Duration.format(workload.minReady)} after they ` +
            "were ready"
        )
      }
      for (const { host, port } of endpoints("marketplace")) yield* Console.log(`  http://${host}:${port}`)
      return yield* use
    }).pipe(Effect.provide(Cluster.layer(manifests)))
  })

const rehearse = (rehearsals: ReadonlyArray<Rehearsal.Rehearsal>) =>
  Effect.fnUntraced(function* ({ manifests, rate }: { readonly manifests: string; readonly rate: number }) {
    const failed = yield* withCluster(
      manifests,
      Effect.gen(function* () {
        const { deployments } = yield* Cluster
        yield* Rehearsal.warmUp
        const failed = yield* Effect.forEach(rehearsals, (rehearsal) => Rehearsal.rehearse(rehearsal, rate))
        const sum = failed.reduce((sum, count) => sum + count, 0)
        if (sum > 0) {
          const lines = (yield* Effect.forEach(deployments, ({ complaints }) => complaints)).flat()
          yield* Console.log(`\nThe first of ${lines.length} warnings and errors of the pods:`)
          for (const line of lines.slice(0, 20)) yield* Console.log(line)
        }
        return sum
      })
    )
    if (failed === 0) yield* Console.log("\n0 failed")
    if (failed > 0) return yield* new RequestsLost({ count: failed })
  }, explain)

const flags = {
  manifests: Flag.Directory("manifests", { mustExist: true }).pipe(
    Flag.withDescription("The folder of the kustomization"),
    Flag.withDefault("k8s/base")
  ),
  rate: Flag.Int("rate").pipe(Flag.withDescription("Pages a second"), Flag.withDefault(100))
}

const up = Command.make(
  "up",
  { manifests: flags.manifests },
  Effect.fnUntraced(function* ({ manifests }) {
    return yield* withCluster(manifests, Effect.andThen(Console.log("\nCtrl-C ends it."), Effect.never))
  }, explain)
).pipe(Command.withDescription("Starts the replicas, and keeps them"))

Command.make("cluster", flags, rehearse(Rehearsal.all)).pipe(
  Command.withDescription("Performs Kubernetes manifests as processes, and rehearses a rollout, a scaling and a kill"),
  Command.withSubcommands([
    up,
    ...Rehearsal.all.map((rehearsal) =>
      Command.make(rehearsal.name, flags, rehearse([rehearsal])).pipe(Command.withDescription(rehearsal.description))
    )
  ]),
  Command.run({ version: project.version }),
  Effect.provide(Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerNodeHttp)),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
