/**
 * How a server closes its connections: promptly, and without losing a call.
 */
import { connect } from "node:http2"

import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Scope } from "effect"

import type { ChannelOptions } from "../../../../src/layers/grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import * as GrpcServer from "../../../../src/layers/grpc/GrpcServer.ts"
import * as Tls from "../../tls/Tls.ts"
import * as Echo from "../Echo.ts"

/** The time in which a server without calls closes, in milliseconds: far below the time that it waits for an answer to a PING. */
const promptly = 200

/** A server in a scope of its own, so that a test can close it while its clients are there. */
const start = Effect.fnUntraced(function* (options: Parameters<typeof Echo.serve>[1]) {
  const scope = yield* Scope.make()
  const context = yield* Scope.provide(Layer.build(Echo.serve({}, options)), scope)
  const { port } = yield* Context.get(context, GrpcServer.GrpcServer).address
  return {
    context,
    port,
    close: Effect.map(Effect.timed(Scope.close(scope, Exit.void)), ([took]) => Duration.toMillis(took))
  }
})

const echoClient = Effect.fnUntraced(function* (port: number, tls?: ChannelOptions["tls"]) {
  const channel = yield* Layer.build(NodeGrpcChannel.layer({ target: `localhost:${port}`, tls }))
  return yield* GrpcClient.make(Echo.EchoService).pipe(Effect.provideContext(channel))
})

describe("a server with an idle client closes promptly", () => {
  it.live("a client of this library", () =>
    Effect.gen(function* () {
      const { close, context, port } = yield* start({})
      const client = yield* Effect.provideContext(echoClient(port), context)
      yield* client.Echo({ text: "hello" })
      assert.isBelow(yield* close, promptly)
    }).pipe(Effect.scoped)
  )

  it.live("a client of this library, over TLS", () =>
    Effect.gen(function* () {
      const authority = yield* Tls.makeAuthority()
      const { watched: certificates } = yield* Tls.watch(yield* Tls.serverCertificate(authority), undefined)
      const { watched: trusted } = yield* Tls.watch(undefined, authority.cert)
      const { close, context, port } = yield* start({ tls: { certificates } })
      const client = yield* Effect.provideContext(echoClient(port, { certificates: trusted }), context)
      yield* client.Echo({ text: "hello" })
      assert.isBelow(yield* close, promptly)
    }).pipe(Effect.scoped)
  )

  it.live("a client of Node that has made no call", () =>
    Effect.gen(function* () {
      const { close, port } = yield* start({})
      const session = connect(`http://127.0.0.1:${port}`)
      yield* Effect.callback<void>((resume) => void session.once("remoteSettings", () => resume(Effect.void)))
      assert.isBelow(yield* close, promptly)
    })
  )
})

describe("a connection that reaches its maximum age", () => {
  it.live("loses none of the calls that cross its GOAWAY", () =>
    Effect.gen(function* () {
      const { context, port } = yield* start({ limits: { maxConnectionAge: Duration.millis(100) } })
      const client = yield* Effect.provideContext(echoClient(port), context)
      const calls = Effect.repeat(client.Echo({ text: "hello" }), { times: 150 })
      yield* Effect.all([calls, calls, calls, calls], { concurrency: "unbounded" })
    }).pipe(Effect.scoped)
  )
})
