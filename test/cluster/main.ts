/**
 * `npm run test:cluster -- --context NAME`: rehearses what an operator fears on a real cluster, while readers request pages, and prints
 * what was lost. It exits with 1 if more was lost than the scenario allows. k8s/README.md describes it.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Config, Console, Effect, Exit, Layer, Option, Schema } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { identity } from "effect/Function"

import project from "../../package.json" with { type: "json" }
import { Kubectl } from "./Kubectl.ts"
import { PodWatch } from "./PodWatch.ts"
import * as Report from "./Report.ts"
import { Findings, NotDone, type Scenario } from "./Scenario.ts"
import { autoscale } from "./scenarios/autoscale.ts"
import { badImage, badSetting } from "./scenarios/badVersion.ts"
import { database } from "./scenarios/database.ts"
import { dns } from "./scenarios/dns.ts"
import { drain } from "./scenarios/drain.ts"
import { kill } from "./scenarios/kill.ts"
import { overload } from "./scenarios/overload.ts"
import { policies } from "./scenarios/policies.ts"
import { rollout } from "./scenarios/rollout.ts"
import { scale } from "./scenarios/scale.ts"
import { security } from "./scenarios/security.ts"
import { settings } from "./scenarios/settings.ts"
import { tls } from "./scenarios/tls.ts"
import { upgrade } from "./scenarios/upgrade.ts"
import { type Images, type Options, remove, requireNoOther, settled, Shop } from "./Shop.ts"
import * as Undo from "./Undo.ts"

const scenarios = [
  rollout,
  upgrade,
  scale,
  kill,
  database,
  badSetting,
  badImage,
  settings,
  tls,
  policies,
  autoscale,
  security,
  overload,
  drain,
  dns
]

/** A scenario lost more than it allows, or found something that is not as it should be. */
class RehearsalFailed extends Schema.TaggedError<RehearsalFailed>()("RehearsalFailed", { names: Schema.String }) {
  override get message(): string {
    return `Failed: ${this.names}`
  }
}

/** The scenario is noticed by others on the cluster, which was not allowed. */
class NeedsDisruptive extends Schema.TaggedError<NeedsDisruptive>()("NeedsDisruptive", { scenario: Schema.String }) {
  override get message(): string {
    return `${this.scenario} needs --disruptive: others on the cluster notice it`
  }
}

/** Runs a scenario, and restores the manifests after it. */
const rehearse = Effect.fnUntraced(function* ({ description, name, run }: Scenario) {
  yield* Console.log(`\n${name}: ${description}`)
  const { parts, problems } = yield* Findings
  const exit = yield* Effect.exit(Effect.scoped(run))
  if (Exit.isFailure(exit)) {
    if (Cause.hasInterrupts(exit.cause)) return yield* Effect.failCause(exit.cause)
    const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
    if (error instanceof NotDone) {
      yield* Console.log(`  not done: ${error.reason}`)
      return { scenario: name, parts, problems, notDone: error.reason }
    }
    problems.push(error?.message ?? Cause.pretty(exit.cause))
  }
  const restored = yield* Effect.exit(Effect.andThen((yield* Shop).apply({}), settled))
  if (Exit.isFailure(restored)) {
    if (Cause.hasInterrupts(restored.cause)) return yield* Effect.failCause(restored.cause)
    problems.push(`The manifests were not restored: ${Cause.pretty(restored.cause)}`)
  }
  for (const problem of problems) yield* Console.log(`  ${problem}`)
  return { scenario: name, parts, problems }
})

/** Images of both services: RECOMMENDATIONS,MARKETPLACE. */
const imagesFlag = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withDescription(`${description}: RECOMMENDATIONS,MARKETPLACE`),
    Flag.filterMap(
      (text) => {
        const [recommendations, marketplace, ...rest] = text.split(",")
        return recommendations && marketplace && rest.length === 0
          ? Option.some<Images>({ recommendations, marketplace })
          : Option.none()
      },
      (text) => `Expected RECOMMENDATIONS,MARKETPLACE, got ${text}`
    )
  )

const flags = {
  context: Flag.String("context").pipe(
    Flag.withDescription("The context of the cluster in the kubeconfig"),
    // kubectl would use the current context
    Flag.filter(
      (name) => name !== "",
      () => "Expected the name of a context"
    )
  ),
  manifests: Flag.Directory("manifests", { mustExist: true }).pipe(
    Flag.withDescription("The folder of the kustomization"),
    Flag.withDefault("k8s/overlays/local")
  ),
  images: imagesFlag("images", "Images in place of those of the manifests").pipe(Flag.withDefault<Images>({})),
  previous: Flag.optional(imagesFlag("previous", "Images of the version before, for the scenario upgrade")),
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("Print the results as JSON, and everything else to stderr"),
    Flag.withDefault(false)
  ),
  disruptive: Flag.Boolean("disruptive").pipe(
    Flag.withDescription("Also run drain and dns, which others on the cluster notice"),
    Flag.withDefault(false)
  ),
  undo: Flag.Boolean("undo").pipe(
    Flag.withDescription("Only restore what a killed run has left"),
    Flag.withDefault(false)
  ),
  names: Argument.Literals(
    "scenario",
    scenarios.map(({ name }) => name)
  ).pipe(Argument.withDescription("Without any, all are run"), Argument.variadic())
}

/** Runs scenarios on the cluster of a context. */
const rehearseAll = (chosen: ReadonlyArray<Scenario>, context: string, options: Options) =>
  Effect.gen(function* () {
    yield* requireNoOther
    yield* Undo.restore
    yield* Console.log(`${options.folder} on ${context}: ${yield* Report.versions}\n${Report.summary}`)
    return yield* Effect.forEach(chosen, (scenario) => Effect.provide(rehearse(scenario), Findings.layer)).pipe(
      Effect.provide(Layer.provideMerge(PodWatch.layer, Shop.layer(options)))
    )
  })

const command = Command.make(
  "test:cluster",
  flags,
  Effect.fnUntraced(function* ({ context, disruptive, images, json, manifests, names, previous, undo }) {
    const kubectl = Kubectl.layer(context)
    if (undo)
      return yield* requireNoOther.pipe(
        Effect.andThen(Effect.ensuring(Undo.restore, Effect.orDie(remove))),
        Effect.provide(kubectl)
      )
    const chosen = scenarios.filter(({ isDisruptive, name }) =>
      names.length === 0 ? disruptive || isDisruptive !== true : names.includes(name)
    )
    const disturbing = chosen.find(({ isDisruptive }) => isDisruptive)
    if (disturbing !== undefined && !disruptive) return yield* new NeedsDisruptive({ scenario: disturbing.name })
    const databaseUrl = yield* Config.option(Config.Redacted("DATABASE_URL"))
    const done = yield* rehearseAll(chosen, context, {
      folder: manifests,
      images,
      previous: Option.getOrUndefined(previous),
      databaseUrl: Option.getOrUndefined(databaseUrl)
    }).pipe(
      Effect.provide(kubectl),
      json ? Effect.provideService(Console.Console, new console.Console(process.stderr)) : identity
    )
    const leftOut = names.length > 0 ? [] : scenarios.filter((scenario) => !chosen.includes(scenario))
    const results: ReadonlyArray<Report.Result> = [
      ...done,
      ...leftOut.map(({ name }) => ({ scenario: name, parts: [], problems: [], notDone: "it needs --disruptive" }))
    ]
    yield* Console.log(json ? JSON.stringify(results, undefined, 2) : `\n${Report.table(results)}`)
    const failed = results.filter(Report.hasFailed).map(({ scenario }) => scenario)
    if (failed.length > 0) return yield* new RehearsalFailed({ names: failed.join(", ") })
  })
).pipe(Command.withDescription("Rehearses rollouts, failures and an overload of the shop on a cluster, under load"))

command.pipe(
  Command.run({ version: project.version }),
  Effect.tapCauseIf(
    (cause) => !Cause.hasInterruptsOnly(cause),
    (cause) =>
      Console.error(
        Option.match(Cause.findErrorOption(cause), {
          onSome: ({ message }) => message,
          onNone: () => Cause.pretty(cause)
        })
      )
  ),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
