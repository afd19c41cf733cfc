/**
 * What is left of calls that have ended: their streams, as long as V8 keeps them, and nothing that those lead to.
 */
import { once } from "node:events"
import { connect, createServer, type Http2Stream } from "node:http2"
import type { AddressInfo } from "node:net"

import { assert, describe, it } from "@effect/vitest"
import { Http2SubchannelCall } from "@grpc/grpc-js/build/src/subchannel-call.js"
import { Effect } from "effect"

import { StableSet } from "../../../../src/layers/collections/StableSet.ts"
import * as ClosedStreams from "../../../../src/layers/grpc/grpc-js/ClosedStreams.ts"
import { EchoServer } from "../../../../src/layers/testing/EchoServer.ts"

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

const listenersOf = (stream: Http2Stream): number =>
  stream.eventNames().reduce((sum, name) => sum + stream.listenerCount(name), 0)

/** The two streams of one request, of which the server has answered and the client has not ended its side. */
const open = Effect.acquireRelease(
  Effect.promise(async () => {
    const server = createServer().listen(0, "127.0.0.1")
    await once(server, "listening")
    const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const request = session.request({ ":method": "POST" }, { endStream: false })
    const [answered] = (await once(server, "stream")) as [
      Http2Stream & { respond: (headers: object, options: object) => void }
    ]
    answered.respond({ ":status": 200 }, { endStream: true })
    answered.resume()
    request.resume()
    return { server, session, request, answered }
  }),
  ({ server, session }) =>
    Effect.sync(() => {
      session.destroy()
      server.close()
    })
)

describe("a stream that is forgotten", () => {
  it.live("keeps its listeners until it is closed and they have been told so, and then none", () =>
    Effect.gen(function* () {
      const { answered, request } = yield* open
      let closed = 0
      answered.on("close", () => closed++)
      ClosedStreams.forget(answered)
      yield* Effect.promise(turn)
      yield* Effect.promise(turn)
      assert.isAbove(listenersOf(answered), 0)
      const close = once(answered, "close")
      request.end()
      yield* Effect.promise(() => close)
      yield* Effect.promise(turn)
      yield* Effect.promise(turn)
      assert.deepStrictEqual([closed, listenersOf(answered)], [1, 0])
    }).pipe(Effect.scoped)
  )

  it.live("has no listeners in the next turn if it is closed already", () =>
    Effect.gen(function* () {
      const { answered, request } = yield* open
      const close = once(answered, "close")
      request.end()
      yield* Effect.promise(() => close)
      ClosedStreams.forget(answered)
      yield* Effect.promise(turn)
      assert.strictEqual(listenersOf(answered), 0)
    }).pipe(Effect.scoped)
  )
})

describe("calls that have ended", () => {
  it.live("lead nowhere, on the side of the client", () =>
    Effect.gen(function* () {
      const { client } = yield* EchoServer
      yield* client.Echo({ text: "first" })
      // what grpc-js has of a call, whose class is the one that is seen to
      const prototype = Http2SubchannelCall.prototype as unknown as { outputStatus: (this: Call) => void }
      const { outputStatus } = prototype
      const calls: Array<Call> = []
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          prototype.outputStatus = function () {
            calls.push(this)
            outputStatus.call(this)
          }
        }),
        () =>
          Effect.sync(() => {
            prototype.outputStatus = outputStatus
          })
      )
      yield* Effect.all(
        Array.from({ length: 20 }, () => client.Echo({ text: "next" })),
        { concurrency: "unbounded" }
      )
      for (let turns = 0; turns < 10; turns++) yield* Effect.promise(turn)
      assert.strictEqual(calls.length, 20)
      for (const { http2Stream, transport } of calls) {
        assert.strictEqual(listenersOf(http2Stream), 0)
        assert.instanceOf(transport.activeCalls, StableSet)
        assert.strictEqual(transport.activeCalls.size, 0)
      }
    }).pipe(Effect.scoped, Effect.provide(EchoServer.layer()))
  )
})

interface Call {
  readonly http2Stream: Http2Stream
  readonly transport: { readonly activeCalls: StableSet<object> }
}
