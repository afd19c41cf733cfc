/**
 * A real server of the Echo service on a free port, and clients of it.
 */
import { Metadata } from "@grpc/grpc-js"
import { Context, Effect, Layer, Schema, Stream } from "effect"

import * as NodeGrpcChannel from "../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import type { GrpcCall } from "../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import type * as GrpcService from "../../../src/layers/grpc/GrpcService.ts"
import * as NodeGrpcServer from "../../../src/layers/grpc/server/NodeGrpcServer.ts"
import * as Status from "../../../src/layers/grpc/Status.ts"
import { Drain } from "../../../src/layers/process/Drain.ts"
import { EchoService } from "../../../src/layers/testing/EchoServer.ts"
import type { EchoRequest__Output } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"
import type { EchoResponse__Output } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoResponse.ts"

export { EchoService }

/** An error of handlers, which is INVALID_ARGUMENT. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { field: Schema.String }) {}

export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", {
  metadata: Schema.instanceOf(Metadata)
}) {}

type EchoError = Refused | Unavailable

type EchoHandler = (request: EchoRequest__Output) => Effect.Effect<EchoResponse__Output, EchoError, GrpcCall>
type Requests = Stream.Stream<EchoRequest__Output>

/** The handlers of Echo, as its proto describes them. */
export const handlers = {
  Echo: ((request) => echo(request)) as EchoHandler,
  EchoOnce: ((request) => echo(request)) as EchoHandler,
  Expand: ({ numbers, text }: EchoRequest__Output): Stream.Stream<EchoResponse__Output, EchoError, GrpcCall> =>
    Stream.map(Stream.fromIterable(numbers), (number) => ({ text, number, items: [] })),
  Collect: (requests: Requests): Effect.Effect<EchoResponse__Output, EchoError, GrpcCall> =>
    Effect.map(Stream.runCollect(requests), (all) => ({ text: all.map(({ text }) => text).join(" "), items: [] })),
  Chat: (requests: Requests): Stream.Stream<EchoResponse__Output, EchoError, GrpcCall> =>
    Stream.map(requests, ({ text }) => ({ text, items: [] }))
}

/** Responds with the text of the request. */
export const echo: EchoHandler = ({ text }) => Effect.succeed({ text, items: [] })

/** Serves Echo on 127.0.0.1. `overrides` replace default handlers. */
export const serve = (
  overrides: Partial<typeof handlers> = {},
  options: Pick<GrpcServer.Options, "limits" | "tls"> & {
    readonly drain?: Layer.Layer<Drain>
    /** A free port by default. */
    readonly port?: number
    readonly beside?: Layer.Layer<never, never, GrpcServer.GrpcServer>
  } = {}
) =>
  GrpcServer.serve(EchoService, Effect.succeed({ ...handlers, ...overrides }), {
    Refused: ({ field }) => {
      if (field === "throw") throw new Error("secret")
      return Status.invalidArgument([{ field, description: "refused" }])
    },
    Unavailable: ({ metadata }) => Status.unavailable("Unavailable", { metadata })
  }).pipe(
    Layer.merge(options.beside ?? Layer.empty),
    NodeGrpcServer.listen({ host: "127.0.0.1", port: options.port ?? 0, limits: options.limits, tls: options.tls }),
    Layer.provideMerge(options.drain ?? Drain.layerTest())
  )

/** Serves Echo with this handler of its first method. */
export const layer = (handler: EchoHandler, drain?: Layer.Layer<Drain>) =>
  serve({ Echo: handler }, drain === undefined ? {} : { drain })

/** The target of the current server. */
export const target = Effect.flatMap(GrpcServer.GrpcServer, ({ address }) =>
  Effect.map(address, ({ host, port }) => `${host}:${port}`)
)

/** A client of a service of the current server. */
export const clientOf = Effect.fnUntraced(function* <Methods>(service: GrpcService.GrpcService<Methods>) {
  const context = yield* Layer.build(NodeGrpcChannel.layer({ target: yield* target }))
  return yield* Effect.provideContext(GrpcClient.make(service), context)
})

export const client = clientOf(EchoService)

/** Serves Echo until the scope closes. Succeeds with a client, the port of the server and its load. */
export const start = Effect.fnUntraced(function* (...options: Parameters<typeof serve>) {
  const context = yield* Layer.build(serve(...options))
  const { address, load } = Context.get(context, GrpcServer.GrpcServer)
  return { client: yield* Effect.provideContext(client, context), port: (yield* address).port, load }
})
