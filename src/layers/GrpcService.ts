/**
 * A gRPC service as a value: its name, its proto file, and the types of its messages, which
 * `proto-loader-gen-types` writes from the same file. It knows nothing of servers and clients; {@link GrpcServer} answers
 * one and {@link GrpcClient} calls one.
 */
import {
  load as loadProto,
  type MethodDefinition,
  type PackageDefinition,
  type ServiceDefinition
} from "@grpc/proto-loader"
import { Context, Effect, Layer, Schema } from "effect"

import { ProjectRoot } from "./ProjectRoot.ts"

/**
 * A service, by the definition that the generator writes for it:
 *
 * ```ts
 * const Echo = GrpcService.make<EchoServiceDefinition>()({
 *   name: "onlinebooks.layers.testing.EchoService",
 *   file: "echo.proto"
 * })
 * ```
 */
export interface GrpcService<out Definition> {
  /** With its package, as it stands in the path of a call. */
  readonly name: string
  /** Where it is defined, below the folder of {@link ProtoFiles}. */
  readonly file: string
  /** The types of its messages; there is no value here. */
  readonly Definition?: Definition
}

export const make =
  <Definition>() =>
  (options: { readonly name: string; readonly file: string }): GrpcService<Definition> =>
    options

/** The names of a service's methods, without the index signature that grpc-js gives every definition. */
export type MethodName<Definition> = keyof {
  [Name in keyof Definition as string extends Name ? never : Name]: Definition[Name]
} &
  string

/** What a client may send: every field may be left out. */
export type RequestInput<Method> =
  Method extends MethodDefinition<infer Request, infer _Response, infer _RequestOut, infer _ResponseOut>
    ? Request
    : never

/** What a server gets: every field has a value. */
export type RequestOutput<Method> =
  Method extends MethodDefinition<infer _Request, infer _Response, infer RequestOut, infer _ResponseOut>
    ? RequestOut
    : never

/** What a client gets: every field has a value. */
export type ResponseOutput<Method> =
  Method extends MethodDefinition<infer _Request, infer _Response, infer _RequestOut, infer ResponseOut>
    ? ResponseOut
    : never

/** What a server answers: every field is given, but for those that the proto marks optional. */
export type ResponseInput<Method> = DeepReadonly<ResponseOutput<Method>>

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
}) {}

/** Where proto files are found. Each is loaded by itself, so that two of them may use one name for different things. */
export class ProtoFiles extends Context.Service<
  ProtoFiles,
  {
    readonly load: (file: string) => Effect.Effect<PackageDefinition, ProtoError>
  }
>()("onlinebooks/layers/ProtoFiles") {
  /** The files below a folder of the project. */
  static readonly layer = (folder: string) =>
    Layer.effect(
      ProtoFiles,
      Effect.map(ProjectRoot, ({ resolve }) =>
        ProtoFiles.of({
          load: (file) =>
            Effect.tryPromise({
              // the options that scripts/generate.ts writes types for
              try: () => loadProto(file, { defaults: true, includeDirs: [resolve(folder)], longs: String }),
              catch: (cause) =>
                new ProtoError({ file, message: cause instanceof Error ? cause.message : String(cause) })
            })
        })
      )
    )
}

/** Reads a service's definition. Only unary methods are served and called. */
export const load = Effect.fnUntraced(function* (
  service: GrpcService<unknown>
): Effect.fn.Return<ServiceDefinition, ProtoError, ProtoFiles> {
  const { file, name } = service
  const definition = (yield* (yield* ProtoFiles).load(file))[name]
  // a message or an enum of that name has a format, a service has methods
  if (definition === undefined || typeof definition["format"] === "string") {
    return yield* new ProtoError({ file, message: `it defines no service ${name}` })
  }
  const methods = definition as ServiceDefinition
  for (const method of Object.values(methods)) {
    if (method.requestStream || method.responseStream) {
      return yield* new ProtoError({ file, message: `${method.path} is a stream, only unary methods are served` })
    }
  }
  return methods
})
