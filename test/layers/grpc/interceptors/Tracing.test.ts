import { assert, describe, it } from "@effect/vitest"
import { Metadata } from "@grpc/grpc-js"
import { Context, Deferred, Effect, Layer, Option, Stream, Tracer } from "effect"

import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import { GrpcCall } from "../../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import * as GrpcServer from "../../../../src/layers/grpc/GrpcServer.ts"
import * as RetryPolicy from "../../../../src/layers/grpc/RetryPolicy.ts"
import * as Status from "../../../../src/layers/grpc/Status.ts"
import * as Sampling from "../../../../src/layers/telemetry/Sampling.ts"
import { EchoService, methods } from "../../../../src/layers/testing/EchoServer.ts"
import * as RawCall from "../../../integration/RawCall.ts"
import * as Spans from "../../telemetry/Spans.ts"
import * as Tls from "../../tls/Tls.ts"
import * as Echo from "../Echo.ts"
import * as Outcomes from "../Outcomes.ts"

it.live("the span of a call over mutual TLS has the names of the client", () =>
  Effect.gen(function* () {
    const { spans, tracer } = Spans.recorder()
    const layer = Layer.succeed(Tracer.Tracer, tracer)
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
      NodeGrpcChannel.layer({
        target: `127.0.0.1:${port}`,
        tls: { certificates: watched, serverName: "localhost" },
        // no second span if the TLS handshake is slow
        policy: { retry: RetryPolicy.never }
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

it.live("spans of a handler are children of the span of its call", () =>
  Effect.gen(function* () {
    const { spans, tracer } = Spans.recorder()
    const layer = Layer.succeed(Tracer.Tracer, tracer)
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

const traceId = "0af7651916cd43dd8448eb211c80319c"
const spanId = "b7ad6b7169203331"

/** Metadata with a trace context. */
const traced = (flags: string, state?: string) => {
  const metadata = new Metadata()
  metadata.set("traceparent", `00-${traceId}-${spanId}-${flags}`)
  if (state !== undefined) metadata.set("tracestate", state)
  return metadata
}

/** The statuses that make a server's or a client's span an error. Cancellation is no error. */
const errors: { readonly [side: string]: ReadonlyArray<string> } = {
  server: ["Unavailable", "Internal", "DeadlineExceeded"],
  client: ["NotFound", "Unavailable", "Internal", "DeadlineExceeded"]
}

describe("the spans of a call", () => {
  it.live.each(Outcomes.cases)("have the status of $outcome of a $kind call", ({ code, kind, outcome }) =>
    Effect.gen(function* () {
      const { spans, tracer } = Spans.recorder()
      const { run } = yield* Effect.provideService(Outcomes.make(), Tracer.Tracer, tracer)
      spans.length = 0
      yield* Effect.provideService(run(kind, outcome), Tracer.Tracer, tracer)

      const name = `${EchoService.name}/${methods[kind]}`
      const [call, attempt, server, ...others] = spans.filter((span) => span.name === name)
      assert.deepStrictEqual(others, [])
      assert(call !== undefined && attempt !== undefined && server !== undefined)
      assert.deepStrictEqual([call.kind, attempt.kind, server.kind], ["internal", "client", "server"])
      assert.deepStrictEqual(
        [Spans.parentOf(call), Spans.parentOf(attempt), Spans.parentOf(server)],
        [undefined, call.spanId, attempt.spanId]
      )
      assert.deepStrictEqual([attempt.traceId, server.traceId], [call.traceId, call.traceId])
      const status = code === "OK" ? "OK" : Status.nameInCapitals[code]
      for (const [side, span] of [
        ["client", call],
        ["client", attempt],
        ["server", server]
      ] as const) {
        assert.strictEqual(span.status._tag, "Ended", side)
        assert.strictEqual(span.attributes.get("rpc.system.name"), "grpc")
        assert.strictEqual(span.attributes.get("rpc.method"), name)
        assert.strictEqual(span.attributes.get("rpc.status_code"), status, side)
        const isError = errors[side]?.includes(code) === true
        assert.strictEqual(Spans.isError(span), isError, side)
        assert.strictEqual(span.attributes.get("error.type"), isError ? status : undefined, side)
      }
      assert.strictEqual(attempt.attributes.get("server.address"), "127.0.0.1")
      // for cancelled calls, grpc-js does not always know the peer
      if (outcome !== "interruption") {
        assert.strictEqual(attempt.attributes.get("network.peer.address"), "127.0.0.1")
        assert.strictEqual(attempt.attributes.get("network.peer.port"), attempt.attributes.get("server.port"))
      }
    }).pipe(Effect.scoped)
  )

  it.live("include one for each attempt, which is the parent of the server's span", () =>
    Effect.gen(function* () {
      const { named, tracer } = Spans.recorder()
      let failures = 1
      const flaky = Effect.suspend(() => (failures-- > 0 ? Effect.fail(Status.unavailable("not yet")) : Effect.void))
      yield* Outcomes.serve({ inputs: { flaky } }).pipe(
        Effect.flatMap(({ call }) => call("unary", "flaky")),
        Effect.provideService(Tracer.Tracer, tracer)
      )
      const spans = named(`${EchoService.name}/Echo`)
      const attempts = spans.filter(({ kind }) => kind === "client")
      assert.deepStrictEqual(
        attempts.map(({ attributes }) => [attributes.get("previous-rpc-attempts"), attributes.get("rpc.status_code")]),
        [
          [0, "UNAVAILABLE"],
          [1, "OK"]
        ]
      )
      const call = spans.find(({ kind }) => kind === "internal")
      assert.deepStrictEqual(attempts.map(Spans.parentOf), [call?.spanId, call?.spanId])
      assert.isFalse(Spans.isError(call!))
      assert.deepStrictEqual(
        spans.filter(({ kind }) => kind === "server").map(Spans.parentOf),
        attempts.map(({ spanId }) => spanId)
      )
    })
  )

  it.live("include one for a call that is rejected before its handler", () =>
    Effect.gen(function* () {
      const { named, tracer } = Spans.recorder()
      const { seen, target } = yield* Effect.provideService(Outcomes.make(), Tracer.Tracer, tracer)
      yield* RawCall.send(target, { path: "/a/b", body: new Uint8Array(5) })
      yield* seen
      const [span] = named("_OTHER")
      assert.strictEqual(span?.attributes.get("rpc.method"), "_OTHER")
      assert.strictEqual(span?.attributes.get("rpc.method_original"), "a/b")
      assert.strictEqual(span?.attributes.get("rpc.status_code"), "UNIMPLEMENTED")
    }).pipe(Effect.scoped)
  )
})

describe("the trace context", () => {
  /** Makes a call whose handler calls a second server. Succeeds with the trace context that the second server receives. */
  const throughTwo = Effect.fnUntraced(function* (metadata: Metadata, tracer: Tracer.Tracer) {
    const heard = yield* Deferred.make<Metadata>()
    yield* Effect.gen(function* () {
      const hear = Effect.flatMap(GrpcCall, ({ metadata }) => Effect.asVoid(Deferred.succeed(heard, metadata)))
      const { client: next } = yield* Outcomes.serve({ inputs: { hello: hear } })
      const passOn = Effect.asVoid(Effect.orDie(next.Echo({ text: "hello" })))
      const { client } = yield* Outcomes.serve({ inputs: { hello: passOn } })
      // the test's client has no tracer, and sends the trace context of the metadata
      yield* Effect.provideService(client.Echo({ text: "hello" }, { metadata }), Tracer.Tracer, Tracer.nativeTracer)
    }).pipe(Effect.provideService(Tracer.Tracer, tracer), Effect.scoped)
    const got = yield* Deferred.await(heard)
    const [parent] = got.get("traceparent")
    return { parent: parent === undefined ? undefined : String(parent).split("-"), state: got.get("tracestate") }
  })

  it.live("is passed on unchanged without a tracer", () =>
    Effect.gen(function* () {
      for (const flags of ["00", "01"]) {
        const { parent, state } = yield* throughTwo(traced(flags, "vendor=1"), Tracer.nativeTracer)
        assert.deepStrictEqual(parent, ["00", traceId, spanId, flags])
        assert.deepStrictEqual(state, ["vendor=1"])
      }
      assert.isUndefined((yield* throughTwo(new Metadata(), Tracer.nativeTracer)).parent)
    })
  )

  it.live("has the span of the call as parent, recorded if the caller has set the sampled flag", () =>
    Effect.gen(function* () {
      const { spans, tracer } = Spans.recorder()
      const sampled = Sampling.tracer(tracer, { name: "parentbased_always_off", ratio: 0 })
      const { parent, state } = yield* throughTwo(traced("01", "vendor=1"), sampled)
      assert.deepStrictEqual([parent?.[0], parent?.[1], parent?.[3]], ["00", traceId, "01"])
      assert.include(
        spans.map(({ spanId }) => spanId),
        parent?.[2] ?? ""
      )
      assert.deepStrictEqual(state, ["vendor=1"])
    })
  )

  it.live("is passed on without recorded spans if the trace is not sampled", () =>
    Effect.gen(function* () {
      const { spans, tracer } = Spans.recorder()
      const sampled = Sampling.tracer(tracer, { name: "parentbased_always_on", ratio: 0 })
      const { parent, state } = yield* throughTwo(traced("00", "vendor=1"), sampled)
      assert.deepStrictEqual([parent?.[0], parent?.[1], parent?.[3]], ["00", traceId, "00"])
      assert.deepStrictEqual(state, ["vendor=1"])
      assert.deepStrictEqual(spans, [])
    })
  )

  it.live("is created if the caller sent none, so that the sampling decision is made once", () =>
    Effect.gen(function* () {
      const { spans, tracer } = Spans.recorder()
      const sampled = Sampling.tracer(tracer, { name: "parentbased_always_off", ratio: 0 })
      const { parent } = yield* throughTwo(new Metadata(), sampled)
      assert.match(parent?.join("-") ?? "", /^00-[\da-f]{32}-[\da-f]{16}-00$/)
      assert.deepStrictEqual(spans, [])
    })
  )
})
