/**
 * The types of handlers. A missing method, a misspelt field of a response and an error without a status do not compile. A method that
 * the server does not implement has {@link Unimplemented} in place of its handler.
 */
import type { Effect, Stream, Types } from "effect"

import type { GrpcCall } from "./GrpcCall.ts"
import type * as GrpcService from "./GrpcService.ts"
import type { Encoded } from "./MessageCodec.ts"
import type { Status } from "./Status.ts"

/** An error that a handler may fail with. {@link StatusTable} is keyed by its tag. */
export interface TaggedError {
  readonly _tag: string
}

/** The type of `GrpcServer.unimplemented`, in place of a handler. */
export interface Unimplemented {
  readonly _tag: "Unimplemented"
}

/** One function for each method of a service. Streams of messages are Streams, in both directions. */
export type Handlers<Methods> = {
  readonly [Name in keyof Methods]: Methods[Name] extends GrpcService.AnyMethod
    ? Handler<Methods[Name]> | Unimplemented
    : never
}

type Handler<Method extends GrpcService.AnyMethod> = {
  readonly unary: (request: Method["requestOut"]) => Effect.Effect<Response<Method>, TaggedError, unknown>
  readonly serverStream: (request: Method["requestOut"]) => Stream.Stream<Response<Method>, TaggedError, unknown>
  readonly clientStream: (
    requests: Stream.Stream<Method["requestOut"]>
  ) => Effect.Effect<Response<Method>, TaggedError, unknown>
  readonly bidi: (
    requests: Stream.Stream<Method["requestOut"]>
  ) => Stream.Stream<Response<Method>, TaggedError, unknown>
}[Method["kind"]]

/** A message, or its encoding. */
type Response<Method extends GrpcService.AnyMethod> = Method["responseIn"] | Encoded<Method["responseIn"]>

/** The response, the error and the services of a handler. */
type Answer<H> = H extends (request: never) => infer Answer
  ? Answer extends Effect.Effect<infer A, infer E, infer R>
    ? { readonly message: A; readonly error: E; readonly services: R }
    : Answer extends Stream.Stream<infer A, infer E, infer R>
      ? { readonly message: A; readonly error: E; readonly services: R }
      : never
  : never

/** The errors of handlers. */
export type ErrorOf<H> = { [Name in keyof H]: Answer<H[Name]>["error"] }[keyof H]

/** The services that handlers require at each call, besides {@link GrpcCall}. */
export type ServicesOf<H> = Exclude<{ [Name in keyof H]: Answer<H[Name]>["services"] }[keyof H], GrpcCall>

/** A status for every error, by tag. */
export type StatusTable<E> = {
  readonly [Tag in Types.Tags<E>]: (error: Types.ExtractTag<E, Tag>) => Status
}

/**
 * Rejects handlers whose responses have other fields than their messages, at any depth. Without it, a misspelt optional field would
 * compile, since values may have more properties than their types.
 */
export type Exact<Methods, H> = {
  readonly [Name in keyof H]: Name extends keyof Methods
    ? Methods[Name] extends GrpcService.AnyMethod
      ? [ExtraField<Methods[Name]["responseIn"], Answer<H[Name]>["message"]>] extends [never]
        ? unknown
        : {
            readonly "the response has no such field": ExtraField<
              Methods[Name]["responseIn"],
              Answer<H[Name]>["message"]
            >
          }
      : unknown
    : { readonly "the service has no such method": Name }
}

type ExtraField<Expected, Actual> =
  Actual extends Encoded<infer Message>
    ? ExtraField<Expected, Message>
    : Actual extends ReadonlyArray<infer ActualItem>
      ? Expected extends ReadonlyArray<infer ExpectedItem>
        ? ExtraField<ExpectedItem, ActualItem>
        : never
      : Actual extends Uint8Array
        ? never
        : Actual extends object
          ? Expected extends object
            ? string extends keyof Expected // a map has any key
              ? never
              : {
                  [K in keyof Actual & string]: K extends keyof Expected
                    ? ExtraField<NonNullable<Expected[K]>, NonNullable<Actual[K]>>
                    : K
                }[keyof Actual & string]
            : never
          : never
