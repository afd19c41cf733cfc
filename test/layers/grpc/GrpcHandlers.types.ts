/**
 * Type tests of handlers, interceptors and clients: code that must compile and code that must not. `npm run check` compiles this file, and
 * `@ts-expect-error` fails where there is no error.
 */
import { Context, Effect, Layer, Stream } from "effect"

import { GrpcCall } from "../../../src/layers/grpc/GrpcCall.ts"
import type * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as GrpcInterceptor from "../../../src/layers/grpc/GrpcInterceptor.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import * as GrpcService from "../../../src/layers/grpc/GrpcService.ts"
import { Encoded } from "../../../src/layers/grpc/MessageCodec.ts"
import * as NodeGrpcServer from "../../../src/layers/grpc/server/NodeGrpcServer.ts"
import * as Status from "../../../src/layers/grpc/Status.ts"
import type { Drain } from "../../../src/layers/process/Drain.ts"
import type { ListenError } from "../../../src/layers/process/ListenError.ts"
import type { EchoRequest__Output } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"
import type { EchoResponse__Output } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoResponse.ts"
import type {
  EchoServiceDefinition,
  EchoServiceHandlers
} from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoService.ts"
import { EchoService as Echo } from "../../../src/layers/testing/generated/services.ts"
import { Refused } from "./Echo.ts"

type Request = EchoRequest__Output

const { definitions } = Echo

/** One method of each kind is enough here. */
const EchoService = GrpcService.make<Pick<EchoServiceDefinition, "Echo">, EchoServiceHandlers>()({
  name: "Echo",
  definitions
})
const StreamService = GrpcService.make<Pick<EchoServiceDefinition, "Expand" | "Collect">, EchoServiceHandlers>()({
  name: "Streams",
  definitions
})
const refused = { Refused: () => Status.notFound("refused") }

// compiles
GrpcServer.serve(
  EchoService,
  Effect.succeed({
    Echo: ({ text }) =>
      text === "" ? Effect.fail(new Refused({ field: "text" })) : Effect.succeed({ text, items: [{ name: "a" }] })
  }),
  refused
)

// @ts-expect-error a method is missing
GrpcServer.serve(EchoService, Effect.succeed({}), {})

// compiles: the method is declared as unimplemented
GrpcServer.serve(EchoService, Effect.succeed({ Echo: GrpcServer.unimplemented }), {}) satisfies Layer.Layer<
  never,
  never,
  GrpcServer.GrpcServer
>

// @ts-expect-error a method is missing beside one that is declared as unimplemented
GrpcServer.serve(StreamService, Effect.succeed({ Expand: GrpcServer.unimplemented }), {})

GrpcServer.serve(
  EchoService,
  // @ts-expect-error an unknown method
  Effect.succeed({ Echo: ({ text }) => Effect.succeed({ text, items: [] }), Ecco: () => Effect.void }),
  {}
)

GrpcServer.serve(
  EchoService,
  // @ts-expect-error a field is missing
  Effect.succeed({ Echo: ({ text }) => Effect.succeed({ text }) }),
  {}
)

GrpcServer.serve(
  EchoService,
  // @ts-expect-error an optional field ("number") is misspelt
  Effect.succeed({ Echo: ({ text }) => Effect.succeed({ text, items: [], nubmer: 1 }) }),
  {}
)

GrpcServer.serve(
  EchoService,
  // @ts-expect-error a field of a nested message is misspelt
  Effect.succeed({ Echo: ({ text }) => Effect.succeed({ text, items: [{ name: "a", cuont: 1 }] }) }),
  {}
)

GrpcServer.serve(
  EchoService,
  // @ts-expect-error a field of another type
  Effect.succeed({ Echo: () => Effect.succeed({ text: 1, items: [] }) }),
  {}
)

GrpcServer.serve(
  EchoService,
  Effect.succeed({ Echo: () => Effect.fail(new Refused({ field: "text" })) }),
  // @ts-expect-error an error has no status
  {}
)

GrpcServer.serve(
  EchoService,
  Effect.succeed({ Echo: () => Effect.fail(new Refused({ field: "text" })) }),
  // @ts-expect-error a status for an error that no handler has
  { ...refused, Other: () => Status.notFound("other") }
)

GrpcServer.serve(
  EchoService,
  // @ts-expect-error an error without a tag
  // @effect-diagnostics-next-line missingEffectError:off
  Effect.succeed({ Echo: () => Effect.fail("no tag") }),
  {}
)

// compiles: a stream may use GrpcCall, and its error has a status
GrpcServer.serve(
  StreamService,
  Effect.succeed({
    Expand: ({ text }) =>
      Stream.fromEffect(Effect.map(GrpcCall, ({ peer }) => ({ text: text + peer.address, items: [] }))).pipe(
        Stream.concat(Stream.fail(new Refused({ field: "text" })))
      ),
    Collect: (requests) => Effect.map(Stream.runCount(requests), (count) => ({ text: String(count), items: [] }))
  }),
  refused
) satisfies Layer.Layer<never, never, GrpcServer.GrpcServer>

GrpcServer.serve(
  StreamService,
  // @ts-expect-error an Effect in place of a Stream
  Effect.succeed({
    Expand: ({ text }) => Effect.succeed({ text, items: [] }),
    Collect: () => Effect.succeed({ text: "", items: [] })
  }),
  {}
)

GrpcServer.serve(
  StreamService,
  // @ts-expect-error a field is misspelt in a stream
  Effect.succeed({
    Expand: ({ text }) => Stream.succeed({ text, items: [], nubmer: 1 }),
    Collect: () => Effect.succeed({ text: "", items: [] })
  }),
  {}
)

GrpcServer.serve(
  StreamService,
  Effect.succeed({
    Expand: () => Stream.fail(new Refused({ field: "text" })),
    Collect: () => Effect.succeed({ text: "", items: [] })
  }),
  // @ts-expect-error the error of a stream has no status
  {}
)

// these compile: encoded bytes in place of a message, and either of the two
GrpcServer.serve(
  EchoService,
  Effect.succeed({
    Echo: ({ text }) =>
      Effect.succeed(text === "" ? new Encoded<EchoResponse__Output>(Buffer.of()) : { text, items: [] })
  }),
  {}
)
GrpcServer.serve(
  StreamService,
  Effect.succeed({
    Expand: () => Stream.make(new Encoded<EchoResponse__Output>(Buffer.of()), { text: "", items: [] }),
    Collect: () => Effect.succeed(new Encoded<EchoResponse__Output>(Buffer.of()))
  }),
  {}
)

GrpcServer.serve(
  EchoService,
  // @ts-expect-error the bytes of another message
  Effect.succeed({ Echo: () => Effect.succeed(new Encoded<Request>(Buffer.of())) }),
  {}
)

GrpcServer.serve(
  EchoService,
  // @ts-expect-error plain bytes
  Effect.succeed({ Echo: () => Effect.succeed({ bytes: Buffer.of() }) }),
  {}
)

GrpcServer.serve(
  EchoService,
  // @ts-expect-error a field is misspelt in a handler that may return encoded bytes
  Effect.succeed({
    Echo: ({ text }) =>
      Effect.succeed(text === "" ? new Encoded<EchoResponse__Output>(Buffer.of()) : { text, items: [], nubmer: 1 })
  }),
  {}
)

GrpcServer.serve(
  StreamService,
  // @ts-expect-error the same in a stream
  Effect.succeed({
    Expand: () => Stream.make(new Encoded<EchoResponse__Output>(Buffer.of()), { text: "", items: [], nubmer: 1 }),
    Collect: () => Effect.succeed({ text: "", items: [] })
  }),
  {}
)

class CurrentUser extends Context.Service<CurrentUser, { readonly name: string }>()("test/CurrentUser") {}
class Tenant extends Context.Service<Tenant, { readonly id: number }>()("test/Tenant") {}

const authenticated = GrpcInterceptor.provide(CurrentUser, () => Effect.succeed({ name: "Ada" }))
const ofTenant = GrpcInterceptor.provide(Tenant, () => Effect.succeed({ id: 1 }))
const observer: GrpcInterceptor.ServerInterceptor = { onEnd: () => {} }

const greet = Effect.succeed({ Echo: () => Effect.map(CurrentUser, ({ name }) => ({ text: name, items: [] })) })
const greetInTenant = Effect.succeed({
  Echo: () =>
    Effect.gen(function* () {
      const { name } = yield* CurrentUser
      const { id } = yield* Tenant
      return { text: `${name} of ${id}`, items: [] }
    })
})

// these compile: the services of handlers are provided by an interceptor of the service or of the server, or by a layer
GrpcServer.serve(EchoService, greet, {}, { interceptors: [observer, authenticated] }) satisfies Layer.Layer<
  never,
  never,
  GrpcServer.GrpcServer
>
GrpcServer.serve(EchoService, greetInTenant, {}, { interceptors: [authenticated, ofTenant] }) satisfies Layer.Layer<
  never,
  never,
  GrpcServer.GrpcServer
>
GrpcServer.serve(EchoService, greetInTenant, {}, { interceptors: [ofTenant] }).pipe(
  NodeGrpcServer.listen({ host: "127.0.0.1", port: 0, interceptors: [authenticated, observer] })
) satisfies Layer.Layer<GrpcServer.GrpcServer, ListenError, Drain>
GrpcServer.serve(EchoService, greet, {}).pipe(
  Layer.provide(Layer.succeed(CurrentUser, { name: "everybody" })),
  NodeGrpcServer.listen({ host: "127.0.0.1", port: 0 })
) satisfies Layer.Layer<GrpcServer.GrpcServer, ListenError, Drain>

// @ts-expect-error the service is not provided
// @effect-diagnostics-next-line missingLayerContext:off
GrpcServer.serve(EchoService, greet, {}, { interceptors: [observer] }) satisfies Layer.Layer<
  never,
  never,
  GrpcServer.GrpcServer
>

// @ts-expect-error one of two services is missing
// @effect-diagnostics-next-line missingLayerContext:off
GrpcServer.serve(EchoService, greetInTenant, {}, { interceptors: [authenticated] }) satisfies Layer.Layer<
  never,
  never,
  GrpcServer.GrpcServer
>

GrpcServer.serve(EchoService, greet, {}).pipe(
  NodeGrpcServer.listen({ host: "127.0.0.1", port: 0, interceptors: [ofTenant, { onEnd: () => {} }] })
  // @ts-expect-error the interceptors of the server do not provide the service
  // @effect-diagnostics-next-line missingLayerContext:off
) satisfies Layer.Layer<GrpcServer.GrpcServer, ListenError, Drain>

// @ts-expect-error an interceptor that provides another type than that of its service
GrpcInterceptor.provide(CurrentUser, () => Effect.succeed({ id: 1 }))

declare const client: GrpcClient.GrpcClient<(typeof EchoService)["Methods"] & {}>
declare const streams: GrpcClient.GrpcClient<(typeof StreamService)["Methods"] & {}>

export const calls = [
  client.Echo({ text: "a", color: 1 }),
  // @ts-expect-error a request with an unknown field
  client.Echo({ txt: "a" }),
  // @ts-expect-error a request with a field of another type
  client.Echo({ int32Value: "1" }),
  // @ts-expect-error an unknown method
  client.Ecco({}),
  Stream.runCollect(streams.Expand({ text: "a" })),
  streams.Collect(Stream.make({ text: "a" })),
  // @ts-expect-error a request in place of a stream of requests
  streams.Collect({ text: "a" })
]
