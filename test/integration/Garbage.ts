/**
 * What a server must not mind: calls and connections that are wrong in every way that came to mind, by chance, but the same
 * chance for the same seed.
 */
import { constants, type OutgoingHttpHeaders } from "node:http2"
import { gzipSync } from "node:zlib"

import * as Http2Frames from "./Http2Frames.ts"
import { frame, message as framed, preface } from "./Http2Frames.ts"

/** Where chance comes from. */
export interface Chance {
  /** From 0 up to, and without, a number. */
  readonly below: (limit: number) => number
  readonly of: <A>(all: ReadonlyArray<A>) => A
  readonly bytes: (length: number) => Buffer
}

/** Numbers that are the same for the same seed (mulberry32). */
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

/** One call. */
export interface Shot {
  /** What is wrong with it. */
  readonly kind: string
  readonly headers: OutgoingHttpHeaders
  /** What is written, piece by piece. */
  readonly body: ReadonlyArray<Buffer>
  /** Does not say that it ends, but goes away with this HTTP/2 error code. */
  readonly resets?: number | undefined
  /** The answers that are right: a grpc-status, an HTTP status such as "HTTP 415", or "none". */
  readonly answers: ReadonlyArray<string>
}

const paths = {
  first: "/Recommendations/Recommend",
  v1: "/onlinebooks.recommendations.v1.RecommendationsService/Recommend",
  categories: "/onlinebooks.recommendations.v1.RecommendationsService/ListCategories",
  reflection: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
  watch: "/grpc.health.v1.Health/Watch"
}

/** Requests that are right: user 7 asks for three books of a category. */
const valid = Buffer.from([0x08, 7, 0x10, 1, 0x18, 3])

const headersFor = (path: string, more: OutgoingHttpHeaders = {}): OutgoingHttpHeaders => ({
  [constants.HTTP2_HEADER_METHOD]: "POST",
  [constants.HTTP2_HEADER_PATH]: path,
  [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
  [constants.HTTP2_HEADER_TE]: "trailers",
  ...more
})

/** What a handler answers to whatever it is asked: OK, INVALID_ARGUMENT, NOT_FOUND. */
const handled = ["0", "3", "5"]
/** And grpc-js to a message that does not parse: INTERNAL. */
const parsed = [...handled, "13"]
const internal = ["13"]
const deadlineExceeded = "4"
const resourceExhausted = ["8"]
const unimplemented = ["12"]
const none = "none"

/** More than a server takes in one message, in few bytes. */
const bomb = gzipSync(Buffer.alloc(5 * 1024 * 1024))

/** Some bytes of a message changed, added, or taken away. */
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
    // whatever their first five stand for
    answers: [...parsed, ...unimplemented, ...resourceExhausted]
  }),
  "a message that is shorter than its prefix says": (chance, path) => ({
    headers: headersFor(path),
    body: [framed(valid, { length: valid.length + 1 + chance.below(1_000) })],
    answers: internal
  }),
  "a message that is longer than its prefix says": (chance, path) => ({
    headers: headersFor(path),
    body: [framed(valid, { length: chance.below(valid.length) })],
    // the rest is the beginning of another message, or is not even that
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
  "a message said to be compressed": (chance, path) => ({
    headers: headersFor(path),
    body: [framed(mutate(chance, valid), { flag: 1 + chance.below(255) })],
    answers: internal
  }),
  "a message that is compressed": (_, path) => ({
    headers: headersFor(path, { "grpc-encoding": "gzip" }),
    body: [framed(gzipSync(valid), { flag: 1 })],
    answers: handled
  }),
  "a message that does not decompress": (chance, path) => ({
    headers: headersFor(path, { "grpc-encoding": chance.of(["gzip", "deflate"]) }),
    // no first byte of either format
    body: [framed(Buffer.concat([Buffer.of(0xff), chance.bytes(20)]), { flag: 1 })],
    answers: internal
  }),
  "a message that decompresses to too much": (_, path) => ({
    headers: headersFor(path, { "grpc-encoding": "gzip" }),
    body: [framed(bomb, { flag: 1 })],
    answers: resourceExhausted
  }),
  "an unknown compression": (chance, path) => ({
    headers: headersFor(path, { "grpc-encoding": `x${token(chance, 8)}` }),
    body: [framed(valid, { flag: 1 })],
    answers: unimplemented
  }),
  "a time-out that is none": (chance, path) => ({
    headers: headersFor(path, {
      "grpc-timeout": chance.of(["soon", "1", "S", "-", "1s", "1.5", "1x", "m1", "-1", "-1S", "99999999999S"])
    }),
    body: [framed(valid)],
    answers: internal
  }),
  "a time-out that is nothing, or very long": (chance, path) => ({
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
  "another method of HTTP": (chance, path) => ({
    headers: headersFor(path, { [constants.HTTP2_HEADER_METHOD]: chance.of(["PUT", "PATCH", "BREW", "OPTIONS"]) }),
    body: [framed(valid)],
    answers: ["HTTP 405"]
  }),
  "a path that nobody serves": (chance, path) => ({
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
    // HTTP/2 itself has no paths that do not begin with a slash
    answers: [...unimplemented, none]
  }),
  "metadata of all sorts": (chance, path) => ({
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
  "messages to a method of streams": (chance) => ({
    headers: headersFor(paths.reflection),
    body: Array.from({ length: chance.below(5) }, () => framed(chance.bytes(chance.below(30)))),
    answers: parsed
  }),
  "a message to a method that goes on": (chance) => ({
    headers: headersFor(paths.watch, { "grpc-timeout": "50m" }),
    body: [framed(chance.bytes(chance.below(10)))],
    answers: [...internal, deadlineExceeded]
  }),
  "a client that goes away": (chance, path) => ({
    headers: headersFor(path),
    body: chance.below(2) === 0 ? [] : [framed(valid).subarray(0, chance.below(11))],
    // not NO_ERROR, with which Node's client sends nothing, and waits for an end that does not come
    resets: chance.of([constants.NGHTTP2_CANCEL, constants.NGHTTP2_INTERNAL_ERROR, 0x7f]),
    answers: [...parsed, ...unimplemented, none]
  })
}

const kinds = Object.keys(makers)

/** Any one call. */
export const shot = (chance: Chance): Shot => {
  // those that break the connection for all the others on it are rare
  let kind = chance.of(kinds)
  if (kind === "headers beyond the limit" && chance.below(20) !== 0) kind = "a mutated request"
  if (kind === "a message that decompresses to too much" && chance.below(20) !== 0) kind = "a random message"
  const path = chance.of([paths.first, paths.v1, paths.categories])
  return { kind, ...makers[kind]!(chance, path) }
}

const settings = Http2Frames.settings()
const repeated = (bytes: Buffer, times: number) => Buffer.concat(Array.from({ length: times }, () => bytes))

/** Headers that are right, of a call on stream 1. */
const headerBlock = Http2Frames.callHeaders(paths.v1)

/** All that is sent on one connection, and how many frames or messages that is. */
export interface Burst {
  readonly bytes: Buffer
  readonly count: number
}

const bursts: ReadonlyArray<(chance: Chance) => Burst> = [
  // no HTTP/2 at all
  (chance) => ({ bytes: chance.bytes(1 + chance.below(500)), count: 1 }),
  () => ({ bytes: Buffer.from("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"), count: 1 }),
  (chance) => ({ bytes: Buffer.concat([Buffer.of(22, 3, 1, 2, 0, 1), chance.bytes(512)]), count: 1 }),
  (chance) => ({ bytes: mutate(chance, preface), count: 1 }),
  (chance) => ({ bytes: preface.subarray(0, chance.below(preface.length)), count: 1 }),
  // frames of any kind, with any content
  (chance) => {
    const count = 1 + chance.below(20)
    const frames = Array.from({ length: count }, () =>
      frame(chance.below(12), chance.below(256), chance.below(8), chance.bytes(chance.below(64)))
    )
    return { bytes: Buffer.concat([preface, settings, ...frames]), count }
  },
  // that are longer or shorter than they say
  (chance) => ({
    bytes: Buffer.concat([
      preface,
      settings,
      frame(chance.below(10), chance.below(256), 1, chance.bytes(32), chance.of([0, 1, 31, 33, 16_385, 2 ** 24 - 1]))
    ]),
    count: 1
  }),
  // a call in the middle of which comes nonsense
  (chance) => ({
    bytes: Buffer.concat([
      preface,
      settings,
      frame(1, 4, 1, headerBlock),
      frame(0, 0, 1, framed(valid).subarray(0, chance.below(11))),
      mutate(chance, frame(0, 1, 1, framed(valid)))
    ]),
    count: 3
  }),
  // headers that do not decompress, or never end
  (chance) => ({ bytes: Buffer.concat([preface, settings, frame(1, 4, 1, mutate(chance, headerBlock))]), count: 1 }),
  (chance) => ({ bytes: Buffer.concat([preface, settings, frame(1, 5, 1, chance.bytes(100))]), count: 1 }),
  () => ({
    bytes: Buffer.concat([
      preface,
      settings,
      frame(1, 0, 1, headerBlock),
      repeated(frame(9, 0, 1, Buffer.alloc(8)), 50)
    ]),
    count: 51
  }),
  // too much of what is right
  () => ({ bytes: Buffer.concat([preface, repeated(settings, 200)]), count: 200 }),
  () => ({ bytes: Buffer.concat([preface, settings, repeated(frame(6, 0, 0, Buffer.alloc(8)), 200)]), count: 200 }),
  () => ({
    bytes: Buffer.concat([
      preface,
      settings,
      ...Array.from({ length: 50 }, (_, index) =>
        Buffer.concat([frame(1, 4, 2 * index + 1, headerBlock), frame(3, 0, 2 * index + 1, Buffer.of(0, 0, 0, 8))])
      )
    ]),
    count: 100
  }),
  // windows that overflow, settings out of range
  () => ({
    bytes: Buffer.concat([preface, settings, repeated(frame(8, 0, 0, Buffer.of(0x7f, 0xff, 0xff, 0xff)), 2)]),
    count: 2
  }),
  (chance) => ({ bytes: Buffer.concat([preface, frame(4, 0, 0, chance.bytes(6 * (1 + chance.below(10))))]), count: 1 })
]

/** Any one connection. */
export const burst = (chance: Chance): Burst => chance.of(bursts)(chance)
