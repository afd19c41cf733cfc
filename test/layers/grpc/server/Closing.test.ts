/**
 * A server closes its connections promptly and without losing calls.
 */
import { connect } from "node:http2"
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from "node:net"

import { describe, it, vi } from "@effect/vitest"
import { Client, credentials } from "@grpc/grpc-js"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Scope } from "effect"

import type { ChannelOptions } from "../../../../src/layers/grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import * as GrpcServer from "../../../../src/layers/grpc/GrpcServer.ts"
import * as Tls from "../../tls/Tls.ts"
import * as Echo from "../Echo.ts"

/** Starts a server in a scope of its own, so that a test can close it while clients are connected. */
const start = Effect.fnUntraced(function* (options: Parameters<typeof Echo.serve>[1]) {
  const scope = yield* Scope.make()
  const context = yield* Scope.provide(Layer.build(Echo.serve({}, options)), scope)
  const { port } = yield* Context.get(context, GrpcServer.GrpcServer).address
  return { context, port, close: Scope.close(scope, Exit.void) }
})

/** Runs an effect that must not depend on a timeout: none expires meanwhile. */
const withoutTimeouts = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => vi.useFakeTimers({ toFake: ["setTimeout"] })),
    () => effect,
    () => Effect.sync(() => vi.useRealTimers())
  )

const echoClient = Effect.fnUntraced(function* (port: number, tls?: ChannelOptions["tls"]) {
  const channel = yield* Layer.build(
    NodeGrpcChannel.layer({ target: `${tls === undefined ? "127.0.0.1" : "localhost"}:${port}`, tls })
  )
  return yield* GrpcClient.make(Echo.EchoService).pipe(Effect.provideContext(channel))
})

describe("a server closes without waiting for a timeout while it is connected to", () => {
  it.live("an idle client of this library", () =>
    Effect.gen(function* () {
      const { close, context, port } = yield* start({})
      const client = yield* Effect.provideContext(echoClient(port), context)
      yield* client.Echo({ text: "hello" })
      yield* withoutTimeouts(close)
    }).pipe(Effect.scoped)
  )

  it.live("an idle client of this library over TLS", () =>
    Effect.gen(function* () {
      const authority = yield* Tls.makeAuthority()
      const { watched: certificates } = yield* Tls.watch(yield* Tls.serverCertificate(authority), undefined)
      const { watched: trusted } = yield* Tls.watch(undefined, authority.cert)
      const { close, context, port } = yield* start({ tls: { certificates } })
      const client = yield* Effect.provideContext(echoClient(port, { certificates: trusted }), context)
      yield* client.Echo({ text: "hello" })
      yield* withoutTimeouts(close)
    }).pipe(Effect.scoped)
  )

  it.live("an idle client of grpc-js", () =>
    Effect.gen(function* () {
      const { close, port } = yield* start({})
      yield* yield* byGrpcJs(port)
      yield* withoutTimeouts(close)
    }).pipe(Effect.scoped)
  )

  it.live("an HTTP/2 client of Node that has made no call", () =>
    Effect.gen(function* () {
      const { close, port } = yield* start({})
      const session = connect(`http://127.0.0.1:${port}`)
      yield* Effect.callback<void>((resume) => void session.once("remoteSettings", () => resume(Effect.void)))
      yield* withoutTimeouts(close)
    })
  )
})

/** A TCP proxy to `target`, which applies to new connections. `hold` pauses what the server sends to the client, `release` resumes it. */
const makeProxy = Effect.gen(function* () {
  const proxy = { target: 0, hold: () => {}, release: () => {}, onRequest: () => {} }
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connectTcp(proxy.target, "127.0.0.1")
    for (const socket of [client, upstream]) socket.setNoDelay().on("error", () => {})
    sockets.add(client).add(upstream)
    proxy.hold = () => upstream.unpipe(client).pause()
    proxy.release = () => upstream.pipe(client)
    client.on("data", (bytes) => upstream.write(bytes, () => proxy.onRequest()))
    client.on("end", () => upstream.end())
    client.on("close", () => upstream.destroy())
    upstream.pipe(client)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.sync(() => {
        server.close()
        for (const socket of sockets) socket.destroy()
      })
  )
  return Object.assign(proxy, { port: (server.address() as AddressInfo).port })
})

/** A client of grpc-js. Succeeds with a unary call. */
const byGrpcJs = (port: number) =>
  Effect.gen(function* () {
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => new Client(`127.0.0.1:${port}`, credentials.createInsecure())),
      (client) => Effect.sync(() => client.close())
    )
    return Effect.callback<void, Error>((resume) => {
      const bytes = (message: Buffer) => message
      client.makeUnaryRequest(`/${Echo.EchoService.name}/Echo`, bytes, bytes, Buffer.alloc(0), (error) =>
        resume(error === null ? Effect.void : Effect.fail(error))
      )
    })
  })

describe("a call that crosses the GOAWAY of a closing server", () => {
  const clients = [
    {
      name: "this library",
      callerOf: (port: number) => Effect.map(echoClient(port), ({ Echo }) => Echo({ text: "" }))
    },
    { name: "grpc-js", callerOf: byGrpcJs }
  ]

  it.live.each(clients)("is retried on another connection by a client of $name", ({ callerOf }) =>
    Effect.gen(function* () {
      const proxy = yield* makeProxy
      for (let repetition = 0; repetition < 50; repetition++) {
        const closing = yield* start({})
        const next = yield* start({})
        yield* Effect.gen(function* () {
          const call = yield* Effect.provideContext(callerOf(proxy.port), closing.context)
          proxy.target = closing.port
          yield* call
          proxy.hold()
          proxy.target = next.port
          const server = Context.get(closing.context, GrpcServer.GrpcServer)
          const closed = yield* Effect.forkChild(closing.close)
          yield* server.awaitLeaving
          // the client has not received the GOAWAY yet
          const requested = yield* Deferred.make<void>()
          proxy.onRequest = () => Deferred.doneUnsafe(requested, Effect.void)
          const called = yield* Effect.forkChild(call)
          yield* Deferred.await(requested)
          proxy.release()
          yield* Fiber.join(called)
          yield* Fiber.join(closed)
        }).pipe(Effect.scoped)
        yield* next.close
      }
    }).pipe(Effect.scoped)
  )
})

describe("a connection that reaches maxConnectionAge", () => {
  it.live("loses no calls that cross its GOAWAY", () =>
    Effect.gen(function* () {
      const { context, port } = yield* start({ limits: { maxConnectionAge: Duration.millis(100) } })
      const client = yield* Effect.provideContext(echoClient(port), context)
      const calls = Effect.repeat(client.Echo({ text: "hello" }), { times: 150 })
      yield* Effect.all([calls, calls, calls, calls], { concurrency: "unbounded" })
    }).pipe(Effect.scoped)
  )
})
