/**
 * Generates invalid calls at random, reproducible by a seed. Fuzz.ts generates invalid connections.
 */
import { constants, type OutgoingHttpHeaders } from "node:http2"
import { gzipSync } from "node:zlib"

import { message as framed } from "./Http2Frames.ts"

/** A source of random values. */
export interface Chance {
  /** An integer from 0 up to, but not including, a limit. */
  readonly below: (limit: number) => number
  readonly of: <A>(all: ReadonlyArray<A>) => A
  readonly bytes: (length: number) => Buffer
}

/** A pseudorandom generator (mulberry32). */
export const chanceOf = (seed: number): Chance => {
  let state = seed | 0
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return {
    below,
    of: (all) => all[below(all.length)]!,
    bytes: (length) => Buffer.from(Array.from({ length }, () => below(256)))
  }
}

/** An invalid call. */
export interface Shot {
  /** What is invalid. */
  readonly kind: string
  readonly headers: OutgoingHttpHeaders
  /** The chunks of the request body. */
  readonly body: ReadonlyArray<Buffer>
  /** Resets the stream with this HTTP/2 error code instead of half-closing it. */
  readonly resets?: number | undefined
  /** The acceptable results: a grpc-status, an HTTP status such as "HTTP 415", or "none". */
  readonly answers: ReadonlyArray<string>
}

const paths = {
  first: "/Recommendations/Recommend",
  v1: "/onlinebooks.recommendations.v1.RecommendationsService/Recommend",
  categories: "/onlinebooks.recommendations.v1.RecommendationsService/ListCategories",
  reflection: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
  watch: "/grpc.health.v1.Health/Watch"
}

/** Valid requests: user 7 asks for three books of a category. */
const valid = Buffer.from([0x08, 7, 0x10, 1, 0x18, 3])

const headersFor = (path: string, more: OutgoingHttpHeaders = {}): OutgoingHttpHeaders => ({
  [constants.HTTP2_HEADER_METHOD]: "POST",
  [constants.HTTP2_HEADER_PATH]: path,
  [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
  [constants.HTTP2_HEADER_TE]: "trailers",
  ...more
})

/** The statuses of a handler: OK, INVALID_ARGUMENT, NOT_FOUND. */
const handled = ["0", "3", "5"]
/** Those of a handler, and INTERNAL for a malformed message. */
const parsed = [...handled, "13"]
const internal = ["13"]
const deadlineExceeded = "4"
const resourceExhausted = ["8"]
const unimplemented = ["12"]
const none = "none"

/** A compressed message that decompresses to more than the limit. */
const bomb = gzipSync(Buffer.alloc(5 * 1024 * 1024))

/** Changes, inserts or removes some bytes of a message. */
const mutate = (chance: Chance, message: Buffer): Buffer => {
  const bytes = [...message]
  for (let changes = 1 + chance.below(4); changes > 0; changes--) {
    const at = chance.below(bytes.length + 1)
    const how = chance.below(4)
    if (how === 0) bytes.splice(at, 1)
    else if (how === 1) bytes.splice(at, 0, chance.below(256))
    else if (how === 2) bytes[Math.min(at, bytes.length)] = chance.below(256)
    else bytes[at] = (bytes[at] ?? 0) ^ (1 << chance.below(8))
  }
  return Buffer.from(bytes)
}

const token = (chance: Chance, length: number) =>
  Array.from({ length }, () => chance.of([..."abcdefghijklmnopqrstuvwxyz0123456789-_."])).join("")

type Maker = (chance: Chance, path: string) => Omit<Shot, "kind">

const makers: { readonly [kind: string]: Maker } = {
  "a mutated request": (chance, path) => ({
    headers: headersFor(path),
    body: [framed(mutate(chance, valid))],
    answers: parsed
  }),
  "a random message": (chance, path) => ({
    headers: headersFor(path),
    body: [framed(chance.bytes(chance.below(200)))],
    answers: parsed
  }),
  "a message in pieces": (chance, path) => {
    const bytes = framed(mutate(chance, valid))
    const at = chance.below(bytes.length)
    return { headers: headersFor(path), body: [bytes.subarray(0, at), bytes.subarray(at)], answers: parsed }
  },
  "bytes without a frame": (chance, path) => ({
    headers: headersFor(path),
    body: [chance.bytes(chance.below(64))],
    // the first five bytes are read as a length prefix
    answers: [...parsed, ...unimplemented, ...resourceExhausted]
  }),
  "a message shorter than its length prefix": (chance, path) => ({
    headers: headersFor(path),
    body: [framed(valid, { length: valid.length + 1 + chance.below(1_000) })],
    answers: internal
  }),
  "a message longer than its length prefix": (chance, path) => ({
    headers: headersFor(path),
    body: [framed(valid, { length: chance.below(valid.length) })],
    // the rest is read as the start of another message
    answers: [...parsed, ...unimplemented, ...resourceExhausted]
  }),
  "a message that is too large": (chance, path) => ({
    headers: headersFor(path),
    body: [framed(valid, { length: 4 * 1024 * 1024 + 1 + chance.below(2 ** 31) })],
    answers: resourceExhausted
  }),
  "two messages": (_, path) => ({
    headers: headersFor(path),
    body: [framed(valid), framed(valid)],
    answers: unimplemented
  }),
  "no message": (_, path) => ({ headers: headersFor(path), body: [], answers: unimplemented }),
  "an uncompressed message with the compressed flag": (chance, path) => ({
    headers: headersFor(path),
    body: [framed(mutate(chance, valid), { flag: 1 + chance.below(255) })],
    answers: internal
  }),
  "a compressed message": (_, path) => ({
    headers: headersFor(path, { "grpc-encoding": "gzip" }),
    body: [framed(gzipSync(valid), { flag: 1 })],
    answers: handled
  }),
  "a message that does not decompress": (chance, path) => ({
    headers: headersFor(path, { "grpc-encoding": chance.of(["gzip", "deflate"]) }),
    // no gzip or deflate data starts with this byte
    body: [framed(Buffer.concat([Buffer.of(0xff), chance.bytes(20)]), { flag: 1 })],
    answers: internal
  }),
  "a message that decompresses to more than the limit": (_, path) => ({
    headers: headersFor(path, { "grpc-encoding": "gzip" }),
    body: [framed(bomb, { flag: 1 })],
    answers: resourceExhausted
  }),
  "an unknown compression": (chance, path) => ({
    headers: headersFor(path, { "grpc-encoding": `x${token(chance, 8)}` }),
    body: [framed(valid, { flag: 1 })],
    answers: unimplemented
  }),
  "an invalid timeout": (chance, path) => ({
    headers: headersFor(path, {
      "grpc-timeout": chance.of(["soon", "1", "S", "-", "1s", "1.5", "1x", "m1", "-1", "-1S", "99999999999S"])
    }),
    body: [framed(valid)],
    answers: internal
  }),
  "a timeout of zero or very long": (chance, path) => ({
    headers: headersFor(path, { "grpc-timeout": chance.of(["0n", "0S", "99999999H", "1n"]) }),
    body: [framed(valid)],
    answers: [...handled, deadlineExceeded]
  }),
  "another content type": (chance, path) => ({
    headers: headersFor(path, {
      [constants.HTTP2_HEADER_CONTENT_TYPE]: chance.of(["text/html", "application/json", "", "grpc", token(chance, 12)])
    }),
    body: [framed(valid)],
    answers: ["HTTP 415"]
  }),
  "no te": (chance, path) => ({
    headers: { ...headersFor(path), [constants.HTTP2_HEADER_TE]: undefined },
    body: [framed(mutate(chance, valid))],
    answers: parsed
  }),
  "another HTTP method": (chance, path) => ({
    headers: headersFor(path, { [constants.HTTP2_HEADER_METHOD]: chance.of(["PUT", "PATCH", "BREW", "OPTIONS"]) }),
    body: [framed(valid)],
    answers: ["HTTP 405"]
  }),
  "an unknown path": (chance, path) => ({
    headers: headersFor(
      chance.of([
        `/${token(chance, 20)}`,
        `${path}/`,
        path.slice(1),
        path.toLowerCase(),
        "*",
        "//",
        `${path}?x=1`,
        "/%00"
      ])
    ),
    body: [framed(chance.bytes(chance.below(32)))],
    // HTTP/2 requires paths to start with a slash
    answers: [...unimplemented, none]
  }),
  "random metadata": (chance, path) => ({
    headers: headersFor(path, {
      [`x-${token(chance, 8)}`]: token(chance, chance.below(200)),
      [`x-${token(chance, 8)}-bin`]: chance.of(["====", "not base64!", chance.bytes(30).toString("base64"), ",,"]),
      "grpc-accept-encoding": token(chance, 10),
      "grpc-previous-rpc-attempts": token(chance, 3),
      traceparent: token(chance, 55)
    }),
    body: [framed(mutate(chance, valid))],
    answers: parsed
  }),
  "headers beyond the limit": (chance, path) => ({
    headers: headersFor(path, { [`x-${token(chance, 8)}`]: "x".repeat(20_000 + chance.below(20_000)) }),
    body: [framed(valid)],
    answers: [none]
  }),
  "messages to a streaming method": (chance) => ({
    headers: headersFor(paths.reflection),
    body: Array.from({ length: chance.below(5) }, () => framed(chance.bytes(chance.below(30)))),
    answers: parsed
  }),
  "a message to a method that does not end": (chance) => ({
    headers: headersFor(paths.watch, { "grpc-timeout": "50m" }),
    body: [framed(chance.bytes(chance.below(10)))],
    answers: [...internal, deadlineExceeded]
  }),
  "a client that resets the stream": (chance, path) => ({
    headers: headersFor(path),
    body: chance.below(2) === 0 ? [] : [framed(valid).subarray(0, chance.below(11))],
    // except NO_ERROR, for which Node's client sends no RST_STREAM
    resets: chance.of([constants.NGHTTP2_CANCEL, constants.NGHTTP2_INTERNAL_ERROR, 0x7f]),
    answers: [...parsed, ...unimplemented, none]
  })
}

const kinds = Object.keys(makers)

/** A random invalid call. */
export const shot = (chance: Chance): Shot => {
  // calls that break their connection are rare, since all calls on it fail
  let kind = chance.of(kinds)
  if (kind === "headers beyond the limit" && chance.below(20) !== 0) kind = "a mutated request"
  if (kind === "a message that decompresses to more than the limit" && chance.below(20) !== 0) kind = "a random message"
  const path = chance.of([paths.first, paths.v1, paths.categories])
  return { kind, ...makers[kind]!(chance, path) }
}
