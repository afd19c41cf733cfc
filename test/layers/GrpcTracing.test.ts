import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Stream, Tracer } from "effect"

import * as GrpcChannel from "../../src/layers/GrpcChannel.ts"
import * as GrpcClient from "../../src/layers/GrpcClient.ts"
import * as GrpcServer from "../../src/layers/GrpcServer.ts"
import * as Echo from "./Echo.ts"
import * as Tls from "./Tls.ts"

/** A tracer, and the spans that it has made. */
const recorder = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return { spans, layer: Layer.succeed(Tracer.Tracer, tracer) }
}

it.live("a call over mutual TLS has a span that says who called", () =>
  Effect.gen(function* () {
    const { layer, spans } = recorder()
    const authority = yield* Tls.makeAuthority()
    const { watched: certificates } = yield* Tls.watch(yield* Tls.serverCertificate(authority), authority.cert)
    const context = yield* Layer.build(
      Echo.serve({}, { tls: { certificates } }).pipe(Layer.withSpan("start"), Layer.provide(layer))
    )
    spans.length = 0

    const names = ["DNS:frontend", "URI:spiffe://shop/frontend"]
    const { watched } = yield* Tls.watch(yield* Tls.clientCertificate(authority, { names }), authority.cert)
    const { address } = Context.get(context, GrpcServer.GrpcServer)
    const { port } = yield* address
    const channel = yield* Layer.build(
      GrpcChannel.GrpcChannel.layer({
        target: `127.0.0.1:${port}`,
        tls: { certificates: watched, serverName: "localhost" }
      })
    )
    const client = yield* GrpcClient.make(Echo.EchoService).pipe(Effect.provideContext(Context.merge(context, channel)))
    yield* client.Echo({ text: "hello" })
    yield* Stream.runDrain(client.Expand({ text: "hello", numbers: [1, 2, 3] }))

    assert.deepStrictEqual(
      spans.map(({ kind, name, status }) => [name, kind, status._tag]),
      [
        [`${Echo.EchoService.name}/Echo`, "server", "Ended"],
        [`${Echo.EchoService.name}/Expand`, "server", "Ended"]
      ]
    )
    for (const { attributes, name, parent } of spans) {
      assert.deepStrictEqual(parent, Option.none())
      const { "client.port": clientPort, ...others } = Object.fromEntries(attributes)
      assert.isAbove(Number(clientPort), 0)
      assert.deepStrictEqual(others, {
        "rpc.system.name": "grpc",
        "rpc.method": name,
        "rpc.status_code": "OK",
        "client.address": "127.0.0.1",
        "rpc.grpc.peer.names": names
      })
    }
  }).pipe(Effect.scoped)
)

it.live("what a handler does is below the span of its call", () =>
  Effect.gen(function* () {
    const { layer, spans } = recorder()
    yield* Effect.gen(function* () {
      const { Echo: call } = yield* Echo.client
      yield* call({ text: "hello" })
    }).pipe(
      Effect.provide(Echo.layer((request) => Effect.withSpan(Echo.echo(request), "inner")).pipe(Layer.provide(layer)))
    )
    const [outer, inner] = spans
    assert.strictEqual(outer?.name, `${Echo.EchoService.name}/Echo`)
    assert.isFalse(outer?.attributes.has("rpc.grpc.peer.names"))
    assert.strictEqual(Option.getOrUndefined(inner!.parent)?.spanId, outer?.spanId)
  })
)

it.live("without a tracer no call has a span", () =>
  Effect.gen(function* () {
    let span: unknown = "not called"
    yield* Effect.gen(function* () {
      const { Echo: call } = yield* Echo.client
      yield* call({ text: "hello" })
    }).pipe(
      Effect.provide(
        Echo.layer((request) =>
          Effect.andThen(
            Effect.map(Effect.option(Effect.currentSpan), (current) => {
              span = current
            }),
            Echo.echo(request)
          )
        )
      )
    )
    assert.deepStrictEqual(span, Option.none())
  })
)
