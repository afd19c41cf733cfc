/**
 * The status of a gRPC call that failed (https://grpc.io/docs/guides/status-codes/), for servers and clients: a server turns its errors into a
 * {@link Status}, and the `reason` of a client's `GrpcError` is one.
 */
import { Metadata } from "@grpc/grpc-js"
import { Predicate, Record, String } from "effect"

import * as LogTruncation from "../telemetry/LogTruncation.ts"
import { BadRequest, type ErrorDetail, type FieldViolation } from "./ErrorDetail.ts"

/** The code of each status except OK, which is 0. */
export const codes = {
  Cancelled: 1,
  Unknown: 2,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  OutOfRange: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  DataLoss: 15,
  Unauthenticated: 16
} as const

/** The name of a status, in CamelCase as in gRPC's metrics. */
export type StatusName = keyof typeof codes

/** The name of a status in protos and in OpenTelemetry, such as "NOT_FOUND". */
export const nameInCapitals: { readonly [Name in StatusName]: string } = Record.map(codes, (_code, name) =>
  String.pascalToSnake(name).toUpperCase()
)

/** The status of that name. */
export interface StatusOf<Name extends StatusName> {
  readonly _tag: Name
  readonly code: (typeof codes)[Name]
  /** In English, for developers. Clients must not parse it. */
  readonly message: string
  /** Machine-readable. They are sent in the trailer grpc-status-details-bin. */
  readonly details: ReadonlyArray<ErrorDetail>
  /** Other trailers. */
  readonly metadata: Metadata
}

/** Any status but OK. */
export type Status = { readonly [Name in StatusName]: StatusOf<Name> }[StatusName]

/** The parts of a status that may be left out. */
export interface Options {
  readonly details?: ReadonlyArray<ErrorDetail>
  readonly metadata?: Metadata
}

const constructor =
  <Name extends StatusName>(name: Name) =>
  (message: string, options?: Options): StatusOf<Name> => ({
    _tag: name,
    code: codes[name],
    message,
    details: options?.details ?? [],
    metadata: options?.metadata ?? new Metadata()
  })

/** The call was cancelled, usually by its client. */
export const cancelled = constructor("Cancelled")
/** An error that has no more specific status. */
export const unknown = constructor("Unknown")
/** The deadline expired. */
export const deadlineExceeded = constructor("DeadlineExceeded")
/** The requested entity does not exist. */
export const notFound = constructor("NotFound")
/** The entity to be created already exists. */
export const alreadyExists = constructor("AlreadyExists")
/** The caller is known but may not do this. */
export const permissionDenied = constructor("PermissionDenied")
/** A limit of the server or a quota of the caller is exceeded. */
export const resourceExhausted = constructor("ResourceExhausted")
/** The system is not in the state that the call requires. */
export const failedPrecondition = constructor("FailedPrecondition")
/** The call conflicts with another one. The caller may retry the whole operation. */
export const aborted = constructor("Aborted")
/** The call exceeds the valid range. */
export const outOfRange = constructor("OutOfRange")
/** The server does not implement the method. */
export const unimplemented = constructor("Unimplemented")
/** A bug. */
export const internal = constructor("Internal")
/** The server cannot answer at the moment. The caller should retry. */
export const unavailable = constructor("Unavailable")
/** Data is lost or corrupt. */
export const dataLoss = constructor("DataLoss")
/** The caller has no valid credentials. */
export const unauthenticated = constructor("Unauthenticated")

/** The maximum number of fields that an {@link invalidArgument} names. Further ones are only counted. */
const maxViolations = 20

/**
 * The maximum size of the named fields as {@link StatusCodec} encodes them, in bytes. The trailers of a response then stay below 8 KiB, the
 * limit of many clients and proxies.
 */
const maxViolationsSize = 7_680

/**
 * The request is invalid in any state of the system. The message and a BadRequest detail name each field: at most 20 of them, and fewer
 * if their texts are long. The message then ends with "and N more".
 */
export const invalidArgument = (violations: ReadonlyArray<FieldViolation>): StatusOf<"InvalidArgument"> => {
  const named: Array<FieldViolation> = []
  let size = 0
  for (const { description, field } of violations.slice(0, maxViolations)) {
    // one violation of this length always fits
    const violation = { field: LogTruncation.text(field, 100), description: LogTruncation.text(description, 300) }
    size += sizeOf(violation)
    if (size > maxViolationsSize) break
    named.push(violation)
  }
  const more = violations.length - named.length
  const texts = named.map(textOf)
  return constructor("InvalidArgument")((more === 0 ? texts : [...texts, `and ${more} more`]).join("; "), {
    details: [BadRequest({ fieldViolations: named })]
  })
}

const textOf = ({ description, field }: FieldViolation): string => `${field}: ${description}`

/** The size of a violation: percent-encoded in the message, and twice (message and detail) as base64 in the trailer with the details. */
const sizeOf = (violation: FieldViolation): number => {
  const text = textOf(violation).toWellFormed()
  return encodeURI(text).length + ((Buffer.byteLength(text) + 8) * 2 * 4) / 3
}

const names = new Map<number, StatusName>(Object.entries(codes).map(([name, code]) => [code, name as StatusName]))

/** The status with that code. A code that gRPC does not define is Unknown. */
export const fromCode = (code: number, message: string, options?: Options): Status =>
  // the compiler cannot relate each name to its code
  constructor(names.get(code) ?? "Unknown")(message, options) as Status

/** Whether a value is a status. */
export const isStatus = (u: unknown): u is Status =>
  Predicate.hasProperty(u, "_tag") &&
  Predicate.isString(u._tag) &&
  Object.hasOwn(codes, u._tag) &&
  Predicate.hasProperty(u, "code")

const serverErrors: ReadonlySet<StatusName> = new Set([
  "Unknown",
  "DeadlineExceeded",
  "Unimplemented",
  "Internal",
  "Unavailable",
  "DataLoss"
])

/** Whether a status is an error of the server and not of its caller, by OpenTelemetry's conventions for gRPC. */
export const isServerError = ({ _tag }: Status): boolean => serverErrors.has(_tag)
