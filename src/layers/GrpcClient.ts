/**
 * A gRPC client over grpc-js: a service becomes functions from a request to an Effect that fails with one
 * {@link GrpcError}. Interrupting the Effect cancels the call.
 *
 * ```ts
 * const recommendations = yield* GrpcClient.make(RecommendationsService)
 * const { books } = yield* recommendations.Recommend({ maxResults: 3 }, { timeout: "800 millis" }).pipe(
 *   Effect.catchReason("GrpcError", "NotFound", (status) => ...)
 * )
 * ```
 */
import { isIP } from "node:net"

import { Client, credentials, Metadata } from "@grpc/grpc-js"
import type { MethodDefinition } from "@grpc/proto-loader"
import { Config, Context, Duration, Effect, Layer, Option } from "effect"

import * as Address from "./Address.ts"
import { GrpcError } from "./GrpcError.ts"
import * as GrpcLog from "./GrpcLog.ts"
import * as GrpcService from "./GrpcService.ts"
import * as MessageCheck from "./MessageCheck.ts"
import * as Setting from "./Setting.ts"
import * as Status from "./Status.ts"
import * as StatusWire from "./StatusWire.ts"

/** What a caller may say about one call. */
export interface CallOptions {
  /** How long the call may take; the server is told. Without it a call may take for ever. */
  readonly timeout?: Duration.Input | undefined
  readonly metadata?: Metadata | undefined
}

/** One function for each method of a service. */
export type GrpcClient<Definition> = {
  readonly [Name in GrpcService.MethodName<Definition>]: (
    request: GrpcService.RequestInput<Definition[Name]>,
    options?: CallOptions
  ) => Effect.Effect<GrpcService.ResponseOutput<Definition[Name]>, GrpcError>
}

/** The connections to one target, shared by all that call it, and closed with the layer. */
export class GrpcChannel extends Context.Service<GrpcChannel, { readonly client: Client }>()(
  "onlinebooks/layers/GrpcChannel"
) {
  /**
   * A channel to a target as gRPC names them (https://github.com/grpc/grpc/blob/master/doc/naming.md), such as
   * "localhost:50051" or "dns:///recommendations:50051". It connects at the first call.
   */
  static readonly layer = (target: string) =>
    Layer.effect(
      GrpcChannel,
      Effect.acquireRelease(
        Effect.as(GrpcLog.redirect, GrpcChannel.of({ client: new Client(target, credentials.createInsecure()) })),
        ({ client }) => Effect.sync(() => client.close())
      )
    )

  /** As {@link GrpcChannel.layer}, by {@link target}. */
  static readonly layerConfig = (prefix: string) => Layer.unwrap(Effect.map(target(prefix), GrpcChannel.layer))
}

/**
 * Whether that is a target that grpc-js can resolve, of those that https://github.com/grpc/grpc/blob/master/doc/naming.md
 * names. grpc-js itself takes almost anything, and fails at the first call.
 */
const isTarget = (text: string): boolean => {
  const [, scheme = "dns", rest = text] = /^(dns|ipv4|ipv6|unix):(.*)$/.exec(text) ?? []
  if (scheme === "unix") return rest !== "" && rest !== "//"
  if (scheme !== "dns") {
    return rest.split(",").every((address) => isHostPort(address, (host) => isIP(host) === (scheme === "ipv4" ? 4 : 6)))
  }
  const [, server = "", name = rest] = /^\/\/([^/]*)\/(.*)$/.exec(rest) ?? []
  return (server === "" || isHostPort(server, (host) => isIP(host) !== 0)) && isHostPort(name, Address.isHost)
}

/** Whether that is a host, in brackets if it has colons, with a port from 1 to 65535 or without. */
const isHostPort = (text: string, isHost: (host: string) => boolean): boolean => {
  const [, bracketed, plain, port = "443"] = /^(?:\[(.+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  return isHost(bracketed ?? plain ?? "") && Number(port) >= 1 && Number(port) <= 65535
}

/** `<prefix>_TARGET`, or else `<prefix>_HOST` (localhost) and `<prefix>_GRPC_PORT` (50051). */
export const target = (prefix: string): Config.Config<string> =>
  Config.all({
    target: Setting.optional(`${prefix}_TARGET`, {
      expected: 'a gRPC target such as "recommendations:50051" or "dns:///recommendations:50051"',
      parse: Option.liftPredicate(isTarget)
    }),
    host: Setting.host(`${prefix}_HOST`).pipe(Config.map(Option.getOrElse(() => "localhost"))),
    port: Setting.port(`${prefix}_GRPC_PORT`, 50051)
  }).pipe(Config.map(({ host, port, target }) => Option.getOrElse(target, () => Address.format({ host, port }))))

/** The functions of a service. They fail before anything is sent if the message cannot carry the request. */
export const make = Effect.fnUntraced(function* <Definition>(
  service: GrpcService.GrpcService<Definition>
): Effect.fn.Return<GrpcClient<Definition>, GrpcService.ProtoError, GrpcChannel | GrpcService.ProtoFiles> {
  const { client } = yield* GrpcChannel
  const definition = yield* GrpcService.load(service)
  return Object.fromEntries(
    Object.entries(definition).map(([name, method]) => [
      name,
      unary(client, method as MethodDefinition<object, object>)
    ])
    // one function a method, each of which takes what its definition's types say
  ) as unknown as GrpcClient<Definition>
})

const unary = (client: Client, method: MethodDefinition<object, object>) => {
  const check = MessageCheck.ofRequest(method)
  const name = method.path.slice(1)
  return Effect.fnUntraced(function* (request: object, options?: CallOptions) {
    const violations = check(request)
    if (violations.length > 0) {
      return yield* new GrpcError({ method: name, reason: Status.invalidArgument(violations) })
    }
    // by the clock of the machine, which grpc-js measures it with
    const deadline = options?.timeout === undefined ? Infinity : Date.now() + Duration.toMillis(options.timeout)
    return yield* Effect.callback<object, GrpcError>((resume) => {
      const call = client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        options?.metadata ?? new Metadata(),
        { deadline },
        (error, response) => {
          if (error !== null) resume(Effect.fail(new GrpcError({ method: name, reason: StatusWire.decode(error) })))
          // grpc-js fails a call that ends with OK and without a response
          else resume(Effect.succeed(response!))
        }
      )
      return Effect.sync(() => call.cancel())
    })
  })
}
