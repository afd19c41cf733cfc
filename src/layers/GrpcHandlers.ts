/**
 * The types of a service's handlers. Leaving out a method, misspelling a field of a response, or leaving an error without
 * a status does not compile.
 */
import type { Effect, Types } from "effect"

import type * as GrpcService from "./GrpcService.ts"
import type { Status } from "./Status.ts"

/** An error that a handler may fail with: anything that can be told apart by its tag. */
export interface TaggedError {
  readonly _tag: string
}

/** One function for each method of a service. */
export type Handlers<Definition> = {
  readonly [Name in GrpcService.MethodName<Definition>]: (
    request: GrpcService.RequestOutput<Definition[Name]>
  ) => Effect.Effect<GrpcService.ResponseInput<Definition[Name]>, TaggedError, unknown>
}

/** What any of some handlers may fail with. */
export type ErrorOf<H> = {
  [Name in keyof H]: H[Name] extends (request: never) => Effect.Effect<unknown, infer E, unknown> ? E : never
}[keyof H]

/** What any of some handlers needs at each call. */
export type ServicesOf<H> = {
  [Name in keyof H]: H[Name] extends (request: never) => Effect.Effect<unknown, unknown, infer R> ? R : never
}[keyof H]

/** A status for every error, by tag. */
export type StatusTable<E> = {
  readonly [Tag in Types.Tags<E>]: (error: Types.ExtractTag<E, Tag>) => Status
}

/**
 * Handlers that answer with nothing but the fields of their messages, at any depth. Without this, a misspelt field beside
 * right ones would compile, since nothing forbids a value to have more properties than its type.
 */
export type Exact<Definition, H> = {
  readonly [Name in keyof H]: Name extends GrpcService.MethodName<Definition>
    ? H[Name] extends (request: never) => Effect.Effect<infer A, unknown, unknown>
      ? [ExtraField<GrpcService.ResponseInput<Definition[Name]>, A>] extends [never]
        ? unknown
        : { readonly "the response has no such field": ExtraField<GrpcService.ResponseInput<Definition[Name]>, A> }
      : unknown
    : { readonly "the service has no such method": Name }
}

type ExtraField<Expected, Actual> =
  Actual extends ReadonlyArray<infer ActualItem>
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
