/**
 * Calls with long deadlines or endless requests. test/interop/RequestBytes.test.ts makes calls with malformed messages.
 */
import { assert, describe, it, vi } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"

import { GrpcCall } from "../../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcServer from "../../../../src/layers/grpc/GrpcServer.ts"
import * as Health from "../../../../src/layers/grpc/services/Health.ts"
import * as RawCall from "../../../integration/RawCall.ts"
import * as Echo from "../Echo.ts"
import * as Http2Backend from "../Http2Backend.ts"

const pathOf = (method: string) => `/${Echo.EchoService.name}/${method}`

/** Makes a call to a handler with this timeout, and succeeds with its status. */
const statusWithTimeout = Effect.fnUntraced(function* (handler: typeof Echo.echo, timeout: string) {
  const { port } = yield* Echo.start({ Echo: handler })
  const headers = { "grpc-timeout": timeout }
  const body = Http2Backend.frame(Buffer.of())
  return yield* RawCall.send(`127.0.0.1:${port}`, { path: pathOf("Echo"), body, headers })
})

describe("a deadline", () => {
  const day = 24 * 3_600
  it.live.each([
    { timeout: "1H", seconds: 3_600 },
    { timeout: "99999999H", seconds: 2 ** 31 / 1000 },
    { timeout: "99999999m", seconds: day + 13_599.999 },
    { timeout: "99999999u", seconds: 99.999999 }
  ])("of $timeout is kept, or capped at 24.8 days", ({ seconds, timeout }) =>
    Effect.gen(function* () {
      let left = 0
      const handler: typeof Echo.echo = (request) =>
        Effect.andThen(
          Effect.map(GrpcCall, ({ deadline }) => void (left = (deadline - performance.now()) / 1000)),
          Echo.echo(request)
        )
      assert.strictEqual(yield* statusWithTimeout(handler, timeout), "0")
      assert.closeTo(left, seconds, 10)
    })
  )

  it.live("does not move with the wall clock", () =>
    Effect.gen(function* () {
      const now = Date.now()
      let left = 0
      const handler: typeof Echo.echo = (request) =>
        Effect.gen(function* () {
          const clock = vi.spyOn(Date, "now").mockReturnValue(now + 3_600_000)
          const { deadline } = yield* GrpcCall
          left = (deadline - performance.now()) / 1000
          clock.mockRestore()
          return yield* Echo.echo(request)
        })
      assert.strictEqual(yield* statusWithTimeout(handler, "60S"), "0")
      assert.closeTo(left, 60, 10)
    })
  )
})

const HealthLayer = Layer.effectDiscard(Health.Health).pipe(Layer.provide(Health.Health.layer))

it.live("a health watch accepts a request of up to 4 KiB", () =>
  Effect.gen(function* () {
    const target = yield* Echo.target
    const watch = { path: "/grpc.health.v1.Health/Watch", body: Http2Backend.frame(Buffer.alloc(5_000)) }
    assert.strictEqual(yield* RawCall.send(target, watch), "8")
  }).pipe(Effect.scoped, Effect.provide(Echo.serve({}, { beside: HealthLayer })))
)

it.live("a call ends when its handler fails, although requests are still to come", () =>
  Effect.gen(function* () {
    const held = yield* RawCall.hold(Number((yield* Echo.target).split(":")[1]), pathOf("Collect"))
    yield* held.send
    assert.strictEqual(yield* held.status, "3")
    const { load } = yield* GrpcServer.GrpcServer
    assert.deepInclude(yield* load, { answering: 0 })
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Echo.serve({
        Collect: (requests) => Effect.andThen(Stream.runHead(requests), new Echo.Refused({ field: "text" }))
      })
    )
  )
)
