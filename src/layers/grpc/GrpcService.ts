/**
 * A gRPC service as a value: its name, the definitions of its messages, and their types. scripts/generate.ts writes one for each
 * service of a proto, into the `services.ts` beside the generated types. Pass it to {@link GrpcServer.serve} or to
 * {@link GrpcClient.make}.
 */
import type { MethodDefinition } from "@grpc/proto-loader"
import type { INamespace } from "protobufjs"

import type { Kind } from "./GrpcCall.ts"

export interface GrpcService<out Methods> {
  /** With its package, as in the path of a call. */
  readonly name: string
  /** The definitions of its proto file and of its imports, as protobufjs' JSON: see {@link EmbeddedProtos}. */
  readonly definitions: INamespace
  /** The types of its methods; never has a value. */
  readonly Methods?: Methods
}

/** Makes a service, by the two types that proto-loader-gen-types writes for it. Generated code calls it. */
export const make =
  <Definition, Handlers>() =>
  (options: {
    readonly name: string
    readonly definitions: INamespace
  }): GrpcService<MethodsOf<Definition, Handlers>> =>
    options

/** A method, by the types of its messages as each side sends and receives them. */
export interface Method<out K extends Kind, out RequestIn, out RequestOut, out ResponseIn, out ResponseOut> {
  readonly kind: K
  /** What a client sends: every field may be left out. */
  readonly requestIn: RequestIn
  /** What a server receives: every field has a value. */
  readonly requestOut: RequestOut
  /** What a server sends: every field is required, except those that the proto marks optional. */
  readonly responseIn: ResponseIn
  /** What a client receives: every field has a value. */
  readonly responseOut: ResponseOut
}

/** Any method. */
export type AnyMethod = Method<Kind, unknown, unknown, unknown, unknown>

/** The methods of a service by name: their messages from its definition, their kinds from its handlers. */
export type MethodsOf<Definition, Handlers> = {
  // without the index signature that grpc-js adds to every definition
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

/** The call that grpc-js passes to a handler has `request` if there is one request, and `write` if there are many responses. */
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
