/**
 * All outcomes of a call, for tests of interceptors and observers.
 */
import { Effect, Fiber, Layer, Queue } from "effect"

import type { Kind } from "../../../src/layers/grpc/GrpcCall.ts"
import * as DefaultObservers from "../../../src/layers/grpc/interceptors/DefaultObservers.ts"
import * as RetryPolicy from "../../../src/layers/grpc/RetryPolicy.ts"
import * as Status from "../../../src/layers/grpc/Status.ts"
import { EchoServer, type Options } from "../../../src/layers/testing/EchoServer.ts"

export const kinds: ReadonlyArray<Kind> = ["unary", "serverStream", "clientStream", "bidi"]

export const secret = "the secret of a bug"

/** The outcomes with their statuses. */
export const outcomes = [
  { outcome: "success", code: "OK" },
  { outcome: "a client error", code: "NotFound" },
  { outcome: "a server error", code: "Unavailable" },
  { outcome: "a defect", code: "Internal" },
  { outcome: "interruption", code: "Cancelled" },
  { outcome: "deadline", code: "DeadlineExceeded" }
] as const

export type Outcome = (typeof outcomes)[number]["outcome"]

export const cases = outcomes.flatMap((outcome) => kinds.map((kind) => ({ ...outcome, kind })))

/** Starts a server and a client of it, which live as long as the current scope. */
export const serve = (options?: Options) =>
  Effect.flatMap(Layer.build(EchoServer.layer(options)), (context) => Effect.provideContext(EchoServer, context))

/** Starts a server with these observers. `run` makes a call with a given outcome. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const started = yield* Queue.unbounded<void>()
  const ended = yield* Queue.unbounded<void>()
  const server = yield* serve({
    ...options,
    observers: [
      // runs after all other observers
      { onEnd: () => void Queue.offerUnsafe(ended, undefined) },
      ...(options.observers ?? DefaultObservers.server)
    ],
    inputs: {
      missing: Effect.fail(Status.notFound("no such thing")),
      down: Effect.fail(Status.unavailable("down")),
      die: Effect.suspend(() => Effect.die(new Error(secret))),
      hang: Effect.andThen(Queue.offer(started, undefined), Effect.never),
      ...options.inputs
    },
    client: { policy: { retry: RetryPolicy.never }, ...options.client }
  })

  /** Waits until all observers have run at the end of a call. */
  const seen = Queue.take(ended)

  /** Makes a call with this outcome, and waits until all observers have run. */
  const run = (kind: Kind, outcome: Outcome): Effect.Effect<void> => {
    const fails = (text: string) => Effect.flip(server.call(kind, text))
    const call = (): Effect.Effect<unknown, unknown> => {
      switch (outcome) {
        case "success":
          return server.call(kind, "hello")
        case "a client error":
          return fails("missing")
        case "a server error":
          return fails("down")
        case "a defect":
          return fails("die")
        case "interruption":
          return Effect.gen(function* () {
            const fiber = yield* Effect.forkChild(server.call(kind, "hang"))
            yield* Queue.take(started)
            yield* Fiber.interrupt(fiber)
          })
        case "deadline":
          return Effect.flip(server.call(kind, "hang", { timeout: "200 millis" }))
      }
    }
    return Effect.orDie(Effect.andThen(call(), seen))
  }

  // connects first, so that deadlines start at the same time on both sides
  yield* run("unary", "success")
  return { ...server, run, seen, started: Queue.take(started) }
})
