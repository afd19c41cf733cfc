/**
 * A gRPC service as a value: its name, its proto file, and the types of its messages, which
 * `proto-loader-gen-types` writes from the same file. It knows nothing of servers and clients; {@link GrpcServer} answers
 * one and {@link GrpcClient} calls one.
 */
import type { AnyDefinition, MethodDefinition, PackageDefinition, ServiceDefinition } from "@grpc/proto-loader"
import { Context, Effect, Layer, Record, Schema } from "effect"
import type { INamespace } from "protobufjs"

import { ProjectRoot } from "../config/ProjectRoot.ts"
import * as EmbeddedProtos from "./EmbeddedProtos.ts"
import type { Kind } from "./GrpcCall.ts"

/**
 * A service, by the two types that the generator writes for it:
 *
 * ```ts
 * const Echo = GrpcService.make<EchoServiceDefinition, EchoServiceHandlers>()({
 *   name: "onlinebooks.layers.testing.EchoService",
 *   file: "echo.proto"
 * })
 * ```
 */
export interface GrpcService<out Methods> {
  /** With its package, as it stands in the path of a call. */
  readonly name: string
  /** Where it is defined, below the folder of {@link ProtoFiles}. */
  readonly file: string
  /** The types of its methods; there is no value here. */
  readonly Methods?: Methods
}

export const make =
  <Definition, Handlers>() =>
  (options: { readonly name: string; readonly file: string }): GrpcService<MethodsOf<Definition, Handlers>> =>
    options

/** A method, by the types of its messages as each side gives and gets them. */
export interface Method<out K extends Kind, out RequestIn, out RequestOut, out ResponseIn, out ResponseOut> {
  readonly kind: K
  /** What a client may send: every field may be left out. */
  readonly requestIn: RequestIn
  /** What a server gets: every field has a value. */
  readonly requestOut: RequestOut
  /** What a server answers: every field is given, but for those that the proto marks optional. */
  readonly responseIn: ResponseIn
  /** What a client gets: every field has a value. */
  readonly responseOut: ResponseOut
}

/** Any method. */
export type AnyMethod = Method<Kind, unknown, unknown, unknown, unknown>

/** The methods of a service by name: their messages from its definition, their kinds from its handlers. */
export type MethodsOf<Definition, Handlers> = {
  // without the index signature that grpc-js gives every definition
  readonly [Name in keyof Definition as string extends Name ? never : Name]: Definition[Name] extends MethodDefinition<
    infer RequestIn,
    infer _ResponseIn,
    infer RequestOut,
    infer ResponseOut
  >
    ? Name extends keyof Handlers
      ? Method<KindOf<Handlers[Name]>, RequestIn, RequestOut, DeepReadonly<ResponseOut>, ResponseOut>
      : never
    : never
}

/** grpc-js gives a handler a call that has the request if there is one, and is written to if there are many responses. */
type KindOf<Handler> = Handler extends (call: infer Call, ...rest: never) => unknown
  ? Call extends { readonly request: unknown }
    ? Call extends { readonly write: unknown }
      ? "serverStream"
      : "unary"
    : Call extends { readonly write: unknown }
      ? "bidi"
      : "clientStream"
  : never

type DeepReadonly<A> =
  A extends ReadonlyArray<infer Item>
    ? ReadonlyArray<DeepReadonly<Item>>
    : A extends Uint8Array
      ? A
      : A extends object
        ? { readonly [K in keyof A]: DeepReadonly<A[K]> | (object extends Pick<A, K> ? undefined : never) }
        : A

/** The proto of a service cannot be used: it is not there, does not parse, or does not define the service. */
export class ProtoError extends Schema.TaggedError<ProtoError>()("ProtoError", {
  file: Schema.String,
  message: Schema.String
}) {
  static readonly fromCause = (file: string, cause: unknown) =>
    new ProtoError({ file, message: cause instanceof Error ? cause.message : String(cause) })
}

/** A method, as much of it as it takes to answer its calls. */
export type ServerMethod = Pick<
  MethodDefinition<object, object>,
  "path" | "requestDeserialize" | "requestStream" | "responseSerialize" | "responseStream"
>

/** The methods of a service by name. */
export interface ServerMethods {
  readonly [method: string]: ServerMethod
}

/** Where proto files are found. Each is loaded by itself, so that two of them may use one name for different things. */
export class ProtoFiles extends Context.Service<
  ProtoFiles,
  {
    /** All that a file defines. */
    readonly load: (file: string) => Effect.Effect<PackageDefinition, ProtoError>
    /** The services of a file by their full names, to be served. */
    readonly loadServed: (file: string) => Effect.Effect<{ readonly [service: string]: ServerMethods }, ProtoError>
  }
>()("layers/grpc/ProtoFiles") {
  /** The files below a folder of the project. */
  static readonly layer = (folder: string) =>
    Layer.effect(
      ProtoFiles,
      Effect.map(ProjectRoot, ({ resolve }) => {
        const load = (file: string) =>
          Effect.tryPromise({
            try: () => protoLoader().then(({ load }) => load(file, { ...loadOptions, includeDirs: [resolve(folder)] })),
            catch: (cause) => ProtoError.fromCause(file, cause)
          })
        return ProtoFiles.of({ load, loadServed: (file) => Effect.map(load(file), Record.filter(isService)) })
      })
    )

  /** Definitions that are part of the program, as scripts/generate.ts embeds them: any file is all of them. */
  static readonly layerEmbedded = (definitions: INamespace) =>
    Layer.succeed(ProtoFiles, {
      load: (file) =>
        Effect.tryPromise({
          try: () => protoLoader().then(({ fromJSON }) => fromJSON(definitions, loadOptions)),
          catch: (cause) => ProtoError.fromCause(file, cause)
        }),
      loadServed: () => Effect.sync(() => EmbeddedProtos.services(definitions, loadOptions))
    })
}

/** It takes a while to be there, and some never need it: see {@link EmbeddedProtos}. */
const protoLoader = () => import("@grpc/proto-loader")

/** Those that scripts/generate.ts writes types for. */
const loadOptions = { defaults: true, longs: String }

/** A message or an enum has a format, a service has methods. */
const isService = (definition: AnyDefinition): definition is ServiceDefinition =>
  typeof definition["format"] !== "string"

/** Reads a service's definition. */
export const load = Effect.fnUntraced(function* (
  service: GrpcService<unknown>
): Effect.fn.Return<ServiceDefinition, ProtoError, ProtoFiles> {
  const definition = (yield* (yield* ProtoFiles).load(service.file))[service.name]
  return definition !== undefined && isService(definition) ? definition : yield* undefinedIn(service)
})

/** Reads as much of it as a server needs. */
export const loadServed = Effect.fnUntraced(function* (
  service: GrpcService<unknown>
): Effect.fn.Return<ServerMethods, ProtoError, ProtoFiles> {
  const services = yield* (yield* ProtoFiles).loadServed(service.file)
  return services[service.name] ?? (yield* undefinedIn(service))
})

const undefinedIn = ({ file, name }: GrpcService<unknown>) =>
  new ProtoError({ file, message: `it defines no service ${name}` })

/** Which of the four kinds a method is of. */
export const kindOf = (method: { readonly requestStream: boolean; readonly responseStream: boolean }): Kind =>
  method.requestStream
    ? method.responseStream
      ? "bidi"
      : "clientStream"
    : method.responseStream
      ? "serverStream"
      : "unary"
