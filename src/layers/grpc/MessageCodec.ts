/**
 * Encodes and decodes protobuf messages. A client checks the values of a request before it is encoded, and may limit how much of a
 * response is decoded.
 */
import { Predicate } from "effect"
import protobuf from "protobufjs"

import type { FieldViolation } from "./ErrorDetail.ts"

/**
 * Matches the content type of requests and responses with such messages
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). gRPC-Web is not accepted.
 */
export const contentType = /^application\/grpc(?:$|[+;])/

/** How a message is encoded and decoded. */
export interface Codec {
  readonly encode: (message: object) => Buffer
  readonly decode: (bytes: Uint8Array) => object
  /** The protobufjs type. */
  readonly type: () => protobuf.Type
}

/**
 * A message that is already encoded. A handler may return it in place of the message: for responses that are sent to many calls, or that
 * are stored as bytes.
 */
export class Encoded<out Message> {
  /** Exists only in the type, so that the bytes of one message type are not used as another. */
  declare protected readonly Message: Message
  readonly bytes: Buffer

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }
}

/** `lookup` is called when a message is first encoded or decoded. */
export const make = (lookup: () => protobuf.Type): Codec => {
  let found: protobuf.Type | undefined
  const type = () => (found ??= lookup())
  return {
    type,
    encode: (message) => {
      const known = found ?? type()
      return known.encode(known.fromObject(message)).finish() as Buffer
    },
    decode: (bytes) => {
      const known = found ?? type()
      return known.toObject(known.decode(bytes), conversion)
    }
  }
}

/** Must agree with the types that proto-loader-gen-types writes (scripts/generate.ts). */
const conversion: protobuf.IConversionOptions = { defaults: true, longs: String }

/** How much of a response is decoded; the rest is dropped. */
export interface ResponseLimit {
  /** Fields of the message itself; each element of a repeated field counts as one. */
  readonly maxFields: number
  /** The size of one such field with its content, in bytes. A larger one is dropped. */
  readonly maxFieldSize: number
}

/** A tag of a wire type that does not exist (7): no decoder accepts it. */
const invalidTag = Buffer.from([0x07])

/**
 * Returns the message without the fields that exceed a limit. A small message can decode into many objects, such as empty elements of two
 * bytes each; a caller that has requested a number of elements needs no more of them.
 *
 * A malformed field or a group is replaced by an invalid tag that ends the message, so that the decoder fails there and never decodes
 * the unchecked rest.
 */
export const limit = (bytes: Buffer, { maxFields, maxFieldSize }: ResponseLimit): Buffer => {
  /** The fields before `start` that are within the limits. */
  const kept: Array<Buffer> = []
  let start = 0
  let at = 0
  for (let count = 0; count < maxFields && at < bytes.length; count++) {
    const end = endOfField(bytes, at)
    // not `end > bytes.length`, which is false for NaN
    if (!(end <= bytes.length)) return Buffer.concat([...kept, bytes.subarray(start, at), invalidTag])
    if (end - at > maxFieldSize) {
      kept.push(bytes.subarray(start, at))
      start = end
    }
    at = end
  }
  if (kept.length > 0) return Buffer.concat([...kept, bytes.subarray(start, at)])
  return at === bytes.length ? bytes : bytes.subarray(0, at)
}

/** The end of the field that starts at an offset: beyond the end of the bytes if the field is malformed, NaN if it is a group. */
const endOfField = (bytes: Buffer, start: number): number => {
  let at = start
  while (bytes[at]! >= 0x80) at++
  at++
  switch (bytes[start]! & 7) {
    case 0:
      while (bytes[at]! >= 0x80) at++
      return at + 1
    case 1:
      return at + 8
    case 2: {
      let length = 0
      let unit = 1
      for (; bytes[at]! >= 0x80; at++, unit *= 128) length += (bytes[at]! & 0x7f) * unit
      return at + 1 + length + bytes[at]! * unit
    }
    case 5:
      return at + 4
    default:
      // groups, which proto3 does not have
      return Number.NaN
  }
}

/**
 * Adds a violation for each value that does not fit its field type, by its path, such as `items[0].count`; returns all violations.
 * protobufjs converts such values silently (3e9 in an int32 becomes -1294967296, "oops" becomes 0, a misspelt field is dropped), so that
 * the receiver gets a different value.
 */
export const check = (
  type: protobuf.Type,
  message: unknown,
  path = "",
  violations: Array<FieldViolation> = []
): ReadonlyArray<FieldViolation> => {
  if (!isRecord(message)) {
    violations.push({ field: path, description: `expected ${type.name}, a plain object, got ${show(message)}` })
    return violations
  }
  let oneofs: Map<protobuf.OneOf, string> | undefined
  for (const [key, value] of Object.entries(message)) {
    // unset fields are not sent
    if (value === undefined || value === null) continue
    const at = path === "" ? key : `${path}.${key}`
    const field = Object.hasOwn(type.fields, key) ? type.fields[key]?.resolve() : undefined
    if (field === undefined) {
      violations.push({ field: at, description: `${type.name} has no such field` })
      continue
    }
    if (field.partOf !== null) {
      oneofs ??= new Map()
      const other = oneofs.get(field.partOf)
      if (other !== undefined) {
        violations.push({ field: at, description: `oneof ${field.partOf.name} is already set by ${other}` })
      }
      oneofs.set(field.partOf, key)
    }
    if (field.repeated || field.map) checkItems(field, value, at, violations)
    else checkValue(field, value, at, violations)
  }
  return violations
}

/** A plain object, and not one whose content is not in its properties, such as a Map or a Date. */
const isRecord = (value: unknown): value is object =>
  Predicate.isObject(value) &&
  !Array.isArray(value) &&
  !(value instanceof Map || value instanceof Set || value instanceof Date)

/** Checks a map or an array. */
const checkItems = (field: protobuf.Field, value: unknown, path: string, violations: Array<FieldViolation>): void => {
  if (field instanceof protobuf.MapField) {
    const key = { type: field.keyType, resolvedType: null }
    if (!isRecord(value)) {
      violations.push({ field: path, description: `expected a map, a plain object, got ${show(value)}` })
      return
    }
    for (const [name, item] of Object.entries(value)) {
      const at = `${path}[${JSON.stringify(name)}]`
      checkValue(key, toKey(field.keyType, name), at, violations)
      checkValue(field, item, at, violations)
    }
  } else if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) checkValue(field, item, `${path}[${index}]`, violations)
  } else {
    violations.push({ field: path, description: `expected an array, got ${show(value)}` })
  }
}

/** Converts the key of a map's entry to its type; in JavaScript's objects, every key is a string. */
const toKey = (type: string, key: string): unknown => {
  if (type === "string" || type.endsWith("64")) return key
  if (type === "bool") return key === "true" ? true : key === "false" ? false : key
  return Number(key)
}

const checkValue = (
  field: Pick<protobuf.Field, "resolvedType" | "type">,
  value: unknown,
  path: string,
  violations: Array<FieldViolation>
): void => {
  const type = field.resolvedType
  if (type instanceof protobuf.Type) {
    check(type, value, path, violations)
  } else if (type instanceof protobuf.Enum) {
    // enums of proto3 are open: any int32 is valid
    if (!int32.carries(value) && !(Predicate.isString(value) && Object.hasOwn(type.values, value))) {
      violations.push({ field: path, description: `expected a value of ${type.name}, got ${show(value)}` })
    }
  } else {
    const kind = kinds[field.type]
    if (kind !== undefined && !kind.carries(value)) {
      violations.push({ field: path, description: `expected ${kind.expected}, got ${show(value)}` })
    }
  }
}

const isInteger = (minimum: number, maximum: number) => (value: unknown) =>
  Number.isInteger(value) && Number(value) >= minimum && Number(value) <= maximum

/** An integer as a number if that is safe, as a string of decimal digits, or as a Long. */
const isInteger64 = (minimum: bigint, maximum: bigint) => (value: unknown) => {
  if (Predicate.isNumber(value) ? !Number.isSafeInteger(value) : !Predicate.isString(value) && !isLong(value))
    return false
  const digits = String(value)
  return /^-?\d+$/.test(digits) && BigInt(digits) >= minimum && BigInt(digits) <= maximum
}

/** A 64-bit integer of protobufjs. */
const isLong = (value: unknown): boolean => Predicate.hasProperty(value, "low") && Predicate.hasProperty(value, "high")

interface Kind {
  readonly expected: string
  readonly carries: (value: unknown) => boolean
}

const int32: Kind = {
  expected: "a whole number from -2147483648 to 2147483647",
  carries: isInteger(-0x8000_0000, 0x7fff_ffff)
}
const uint32: Kind = { expected: "a whole number from 0 to 4294967295", carries: isInteger(0, 0xffff_ffff) }
const int64: Kind = { expected: "a whole number of 64 bits", carries: isInteger64(-(2n ** 63n), 2n ** 63n - 1n) }
const uint64: Kind = { expected: "a whole number of 64 bits, 0 or above", carries: isInteger64(0n, 2n ** 64n - 1n) }
const real: Kind = { expected: "a number", carries: Predicate.isNumber }

/** https://protobuf.dev/programming-guides/proto3/#scalar */
const kinds: { readonly [type: string]: Kind } = {
  double: real,
  float: {
    expected: "a number of single precision",
    carries: (value) => Predicate.isNumber(value) && Number.isFinite(value) === Number.isFinite(Math.fround(value))
  },
  int32,
  sint32: int32,
  sfixed32: int32,
  uint32,
  fixed32: uint32,
  int64,
  sint64: int64,
  sfixed64: int64,
  uint64,
  fixed64: uint64,
  bool: { expected: "true or false", carries: Predicate.isBoolean },
  string: {
    expected: "a string of whole characters",
    carries: (value) => Predicate.isString(value) && value.isWellFormed()
  },
  bytes: {
    expected: "bytes, or a string in base64",
    carries: (value) =>
      value instanceof Uint8Array ||
      (Predicate.isString(value) && /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(value))
  }
}

const show = (value: unknown): string => {
  const shown = Predicate.isString(value)
    ? JSON.stringify(value)
    : Array.isArray(value)
      ? "an array"
      : Predicate.isObject(value)
        ? "an object"
        : String(value)
  return shown.length > 60 ? `${shown.slice(0, 60)}...` : shown
}
