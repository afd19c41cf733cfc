/**
 * The cluster of a context, through `kubectl` alone.
 */
import { Context, Effect, Layer, Schedule, Schema, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

export class KubectlError extends Schema.TaggedError<KubectlError>()("KubectlError", {
  command: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `kubectl ${this.command}: ${this.reason}`
  }
}

/** The cluster did not reach a state in time. */
export class NotReached extends Schema.TaggedError<NotReached>()("NotReached", { state: Schema.String }) {
  override get message(): string {
    return `Not within ten minutes: ${this.state}`
  }
}

/** The parts of objects that rehearsals read. */
export interface Resource {
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly generation?: number
    readonly deletionTimestamp?: string
    readonly labels?: { readonly [label: string]: string }
    readonly annotations?: { readonly [annotation: string]: string }
  }
}

export class Kubectl extends Context.Service<
  Kubectl,
  {
    /** Returns what the command prints. */
    readonly run: (args: ReadonlyArray<string>, stdin?: unknown) => Effect.Effect<string, KubectlError>
    /** The lines of a command that runs until the Stream ends, such as a watch. */
    readonly lines: (args: ReadonlyArray<string>) => Stream.Stream<string, KubectlError>
  }
>()("onlinebooks/test/cluster/Kubectl") {
  static readonly layer = (context: string) =>
    Layer.effect(
      Kubectl,
      Effect.gen(function* () {
        const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
        const make = (args: ReadonlyArray<string>, stdin: ChildProcess.CommandInput) =>
          // In a process group of its own: Ctrl-C in a terminal must not stop the commands that clean up.
          ChildProcess.make("kubectl", ["--context", context, ...args], { stdin, detached: true })
        const errorOf = (args: ReadonlyArray<string>) => (error: { readonly message: string }) =>
          new KubectlError({ command: args.join(" "), reason: error.message })
        const run = Effect.fnUntraced(function* (args: ReadonlyArray<string>, stdin?: unknown) {
          const input = stdin === undefined ? "ignore" : Stream.encodeText(Stream.make(JSON.stringify(stdin)))
          const { exitCode, stderr, stdout } = yield* Effect.gen(function* () {
            const process = yield* spawner.spawn(make(args, input))
            const text = (stream: typeof process.stdout) => Stream.mkString(Stream.decodeText(stream))
            return yield* Effect.all(
              { stdout: text(process.stdout), stderr: text(process.stderr), exitCode: process.exitCode },
              { concurrency: "unbounded" }
            )
          }).pipe(Effect.scoped, Effect.mapError(errorOf(args)))
          if (exitCode !== 0) return yield* errorOf(args)({ message: stderr.trim() })
          return stdout
        })
        return {
          run,
          lines: (args) => Stream.mapError(spawner.streamLines(make(args, "ignore")), errorOf(args))
        }
      })
    )
}

export const run = (args: ReadonlyArray<string>, stdin?: unknown) =>
  Effect.flatMap(Kubectl, (kubectl) => kubectl.run(args, stdin))

/** An object, or a list of objects, as JSON. */
export const get = <A = Resource>(...args: ReadonlyArray<string>) =>
  Effect.map(run(["get", ...args, "--output", "json"]), (json) => JSON.parse(json) as A)

/** The objects of a kind that match a selector. */
export const list = <A = Resource>(...args: ReadonlyArray<string>) =>
  Effect.map(get<{ readonly items: ReadonlyArray<A> }>(...args), ({ items }) => items)

/** Whether an object exists, or whether the cluster has a kind. */
export const exists = (...args: ReadonlyArray<string>) =>
  run(["get", ...args, "--output", "name"]).pipe(
    Effect.as(true),
    Effect.catchIf(
      ({ reason }) => /NotFound|not found|doesn't have a resource type/.test(reason),
      () => Effect.succeed(false)
    )
  )

/** Checks each second until a state is reached. */
export const until = <E, R>(
  state: string,
  check: Effect.Effect<boolean, E, R>
): Effect.Effect<void, E | NotReached, R> =>
  check.pipe(
    Effect.repeat({ until: (isReached) => isReached, schedule: Schedule.spaced("1 second") }),
    Effect.timeoutOrElse({ duration: "10 minutes", orElse: () => Effect.fail(new NotReached({ state })) }),
    Effect.asVoid
  )
