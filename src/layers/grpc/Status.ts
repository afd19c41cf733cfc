/**
 * How a gRPC call ended that did not end well, the same value on both sides: a server turns its errors into a
 * {@link Status}, and a client finds one in the `reason` of its `GrpcError`.
 *
 * The codes are those of https://grpc.io/docs/guides/status-codes/.
 */
import { Metadata } from "@grpc/grpc-js"
import { Predicate } from "effect"

import { BadRequest, type ErrorDetail, type FieldViolation } from "./ErrorDetail.ts"

/** The number of every status but OK, which is 0. */
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

/** The name of a status, in the CamelCase that gRPC's metrics use. */
export type StatusName = keyof typeof codes

/** The name of a status as protos and OpenTelemetry write it, such as "NOT_FOUND". */
export const nameInCapitals: { readonly [Name in StatusName]: string } = {
  Cancelled: "CANCELLED",
  Unknown: "UNKNOWN",
  InvalidArgument: "INVALID_ARGUMENT",
  DeadlineExceeded: "DEADLINE_EXCEEDED",
  NotFound: "NOT_FOUND",
  AlreadyExists: "ALREADY_EXISTS",
  PermissionDenied: "PERMISSION_DENIED",
  ResourceExhausted: "RESOURCE_EXHAUSTED",
  FailedPrecondition: "FAILED_PRECONDITION",
  Aborted: "ABORTED",
  OutOfRange: "OUT_OF_RANGE",
  Unimplemented: "UNIMPLEMENTED",
  Internal: "INTERNAL",
  Unavailable: "UNAVAILABLE",
  DataLoss: "DATA_LOSS",
  Unauthenticated: "UNAUTHENTICATED"
}

/** A status by its name. */
export interface StatusOf<Name extends StatusName> {
  readonly _tag: Name
  readonly code: (typeof codes)[Name]
  /** For developers, in English; clients must not parse it. */
  readonly message: string
  /** For programs: the trailer grpc-status-details-bin. */
  readonly details: ReadonlyArray<ErrorDetail>
  /** The other trailers. */
  readonly metadata: Metadata
}

/** Any status but OK. */
export type Status = { readonly [Name in StatusName]: StatusOf<Name> }[StatusName]

/** What a status carries besides its code and message. */
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

/** The call was cancelled, most often by its client. */
export const cancelled = constructor("Cancelled")
/** Something failed that has no better status. */
export const unknown = constructor("Unknown")
/** The time for the call ran out. */
export const deadlineExceeded = constructor("DeadlineExceeded")
/** What the call is about does not exist. */
export const notFound = constructor("NotFound")
/** What the call should create exists. */
export const alreadyExists = constructor("AlreadyExists")
/** The caller is known, and not allowed to. */
export const permissionDenied = constructor("PermissionDenied")
/** Too much is being asked of the server, or of the caller's quota. */
export const resourceExhausted = constructor("ResourceExhausted")
/** The system is not in the state that the call needs. */
export const failedPrecondition = constructor("FailedPrecondition")
/** The call lost to another one; the caller may start over. */
export const aborted = constructor("Aborted")
/** The call went past the end of what there is. */
export const outOfRange = constructor("OutOfRange")
/** The server has no such method. */
export const unimplemented = constructor("Unimplemented")
/** A bug. */
export const internal = constructor("Internal")
/** The server cannot answer just now; calling again is the right thing to do. */
export const unavailable = constructor("Unavailable")
/** Data is lost or broken. */
export const dataLoss = constructor("DataLoss")
/** The caller did not say who it is. */
export const unauthenticated = constructor("Unauthenticated")

/** The request is wrong whatever state the system is in: the message and a BadRequest detail name every field. */
export const invalidArgument = (violations: ReadonlyArray<FieldViolation>): StatusOf<"InvalidArgument"> =>
  constructor("InvalidArgument")(violations.map(({ description, field }) => `${field}: ${description}`).join("; "), {
    details: [BadRequest({ fieldViolations: violations })]
  })

const names = new Map<number, StatusName>(Object.entries(codes).map(([name, code]) => [code, name as StatusName]))

/** The status with that number; a number that gRPC does not define is Unknown, as its specification has it. */
export const fromCode = (code: number, message: string, options?: Options): Status =>
  // each name with its own code, which the compiler cannot see through the union
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

/** Whether that is an error of the server, and not of who calls it, by OpenTelemetry's conventions for gRPC. */
export const isServerError = ({ _tag }: Status): boolean => serverErrors.has(_tag)
