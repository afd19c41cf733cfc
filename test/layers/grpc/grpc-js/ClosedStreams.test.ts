/**
 * Closed HTTP/2 streams keep no listeners, which would keep the objects of their calls in memory.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import { once } from "node:events"
import { connect, createServer, type Http2Stream } from "node:http2"
import type { AddressInfo } from "node:net"

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

import * as ClosedStreams from "../../../../src/layers/grpc/grpc-js/ClosedStreams.ts"
import { EchoServer } from "../../../../src/layers/testing/EchoServer.ts"

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

const listenersOf = (stream: Http2Stream): number =>
  stream.eventNames().reduce((sum, name) => sum + stream.listenerCount(name), 0)

/** Both streams of one request, which the server has answered and whose request the client has not ended. */
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

describe("a forgotten stream", () => {
  it.live("keeps its listeners until they have been told that it closed", () =>
    Effect.gen(function* () {
      const { answered, request } = yield* open
      let closed = 0
      answered.on("close", () => closed++)
      ClosedStreams.releaseListeners(answered)
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

  it.live("has no listeners in the next turn if it is already closed", () =>
    Effect.gen(function* () {
      const { answered, request } = yield* open
      const close = once(answered, "close")
      request.end()
      yield* Effect.promise(() => close)
      ClosedStreams.releaseListeners(answered)
      yield* Effect.promise(turn)
      assert.strictEqual(listenersOf(answered), 0)
    }).pipe(Effect.scoped)
  )
})

describe("the streams of a client's calls", () => {
  it.live("have no listeners once they are closed", () =>
    Effect.gen(function* () {
      const { client } = yield* EchoServer
      const streams: Array<Http2Stream> = []
      const onCreated = (message: unknown) => void streams.push((message as { readonly stream: Http2Stream }).stream)
      yield* Effect.acquireRelease(
        Effect.sync(() => subscribe("http2.client.stream.created", onCreated)),
        () => Effect.sync(() => void unsubscribe("http2.client.stream.created", onCreated))
      )
      yield* Effect.all(
        Array.from({ length: 20 }, () => client.Echo({ text: "next" })),
        { concurrency: "unbounded" }
      )
      for (let turns = 0; turns < 10; turns++) yield* Effect.promise(turn)
      assert.deepStrictEqual(
        streams.map(listenersOf),
        streams.map(() => 0)
      )
      assert.isAtLeast(streams.length, 20)
    }).pipe(Effect.scoped, Effect.provide(EchoServer.layer()))
  )
})
