/**
 * For tests of interceptors and of connections: a real server on port 0 and a real client of it. The service has a method of each kind,
 * which echoes its requests, or does what the test sets for an input:
 *
 * ```ts
 * it.live("counts failures", () =>
 *   Effect.gen(function* () {
 *     const { client } = yield* EchoServer
 *     yield* Effect.flip(client.Echo({ text: "fail" }))
 *     assert.strictEqual(failures, 1)
 *   }).pipe(
 *     Effect.provide(
 *       EchoServer.layer({ interceptors: [countFailures], inputs: { fail: Effect.fail(Status.notFound("no such thing")) } })
 *     )
 *   )
 * )
 * ```
 *
 * Calls take real time: tests with it are `it.live`. Use {@link InMemory} to test a service.
 */
import { Context, Duration, Effect, Layer, Schema, Stream } from "effect"

import * as Address from "../config/Address.ts"
import type { ChannelInterceptors, ChannelOptions } from "../grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../grpc/client/NodeGrpcChannel.ts"
import type { GrpcCall, Kind } from "../grpc/GrpcCall.ts"
import * as GrpcClient from "../grpc/GrpcClient.ts"
import type { GrpcError } from "../grpc/GrpcError.ts"
import * as GrpcServer from "../grpc/GrpcServer.ts"
import * as NodeGrpcServer from "../grpc/server/NodeGrpcServer.ts"
import * as Status from "../grpc/Status.ts"
import { Drain } from "../process/Drain.ts"
import type { EchoRequest__Output } from "./generated/onlinebooks/layers/testing/EchoRequest.ts"
import { EchoService } from "./generated/services.ts"

export { EchoService }

/** The methods that `call` uses, by kind. */
export const methods = { unary: "Echo", serverStream: "Expand", clientStream: "Collect", bidi: "Chat" } as const

/** Runs before an input is echoed: it may fail with a status, die, or wait. */
export type Input = Effect.Effect<void, Status.Status, GrpcCall>

export interface Options extends Pick<GrpcServer.Options, "interceptors" | "limits" | "observers" | "tls"> {
  /** By the text of the input; other inputs are echoed at once. */
  readonly inputs?: { readonly [text: string]: Input } | undefined
  /** The policy and the interceptors of the client. */
  readonly client?: (ChannelInterceptors & Pick<ChannelOptions, "policy">) | undefined
}

class Failure extends Schema.TaggedError<Failure>()("Failure", { status: Schema.declare(Status.isStatus) }) {
  override get message() {
    return this.status.message
  }
}

export class EchoServer extends Context.Service<
  EchoServer,
  {
    readonly client: GrpcClient.GrpcClient<Required<typeof EchoService>["Methods"]>
    /** Calls the method of a kind with one message, and returns the texts of its responses. */
    readonly call: (
      kind: Kind,
      text: string,
      options?: GrpcClient.CallOptions
    ) => Effect.Effect<ReadonlyArray<string>, GrpcError>
    /** The address of the server, for other clients. */
    readonly target: string
  }
>()("layers/testing/EchoServer") {
  static readonly layer = (options: Options = {}) =>
    Layer.effect(
      EchoServer,
      Effect.gen(function* () {
        const server = yield* GrpcServer.GrpcServer
        const target = Address.format(yield* server.address)
        const channel = yield* Layer.build(NodeGrpcChannel.layer({ ...options.client, target }))
        const client = yield* Effect.provideContext(GrpcClient.make(EchoService), channel)
        const call = (kind: Kind, text: string, options?: GrpcClient.CallOptions) => {
          switch (kind) {
            case "unary":
              return Effect.map(client.Echo({ text }, options), (response) => [response.text])
            case "serverStream":
              return textsOf(client.Expand({ text, numbers: [1] }, options))
            case "clientStream":
              return Effect.map(client.Collect(Stream.make({ text }), options), (response) => [response.text])
            case "bidi":
              return textsOf(client.Chat(Stream.make({ text }), options))
          }
        }
        return EchoServer.of({ client, call, target })
      })
    ).pipe(
      Layer.provideMerge(serve(options.inputs).pipe(NodeGrpcServer.listen({ ...options, host: "127.0.0.1", port: 0 }))),
      Layer.provide(Drain.layerTest(Duration.seconds(1)))
    )
}

/** Serves Echo, with these inputs, on any server. */
export const serve = (inputs: Options["inputs"] = {}) =>
  GrpcServer.serve(EchoService, Effect.succeed(handlers(inputs)), { Failure: ({ status }) => status })

const handlers = (inputs: { readonly [text: string]: Input }) => {
  const respond = ({ text }: EchoRequest__Output) =>
    Effect.mapError(
      Object.hasOwn(inputs, text) ? inputs[text]! : Effect.void,
      (status) => new Failure({ status })
    ).pipe(Effect.as({ text, items: [] as ReadonlyArray<never> }))
  const collect = (requests: Stream.Stream<EchoRequest__Output>) =>
    Stream.runCollect(Stream.mapEffect(requests, respond))
  return {
    Echo: respond,
    EchoOnce: respond,
    Expand: (request: EchoRequest__Output) =>
      Stream.fromIterable(request.numbers).pipe(
        Stream.mapEffect((number) => Effect.map(respond(request), (response) => ({ ...response, number })))
      ),
    Collect: (requests: Stream.Stream<EchoRequest__Output>) =>
      Effect.map(collect(requests), (all) => ({ text: all.map(({ text }) => text).join(" "), items: [] })),
    Chat: (requests: Stream.Stream<EchoRequest__Output>) => Stream.mapEffect(requests, respond)
  }
}

const textsOf = <E>(responses: Stream.Stream<{ readonly text: string }, E>) =>
  Effect.map(Stream.runCollect(responses), (all) => all.map(({ text }) => text))
