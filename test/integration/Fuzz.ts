/**
 * A fuzzer for HTTP/2 and gRPC: frames in random order and segments; messages that are truncated, too large, compressed or marked as
 * such; streams that end anywhere. Most frames are valid, so that most connections live long enough to reach handlers. Each connection
 * has its own seed, so that it can be repeated alone.
 */
import { connect } from "node:net"
import { deflateSync, gzipSync } from "node:zlib"

import { type Chance, chanceOf } from "./Garbage.ts"
import * as Http2Frames from "./Http2Frames.ts"

/** A method and valid messages for it. */
export interface Method {
  readonly path: string
  readonly messages: ReadonlyArray<Buffer>
}

/** A step of a connection: send a segment, or wait until the server has read all earlier segments. */
type Step = { readonly _tag: "Send"; readonly bytes: Buffer } | { readonly _tag: "Sync" }

/** How a connection ends: by FIN, with or without reading the rest of the responses, or by RST. */
type End = "half-close" | "close" | "reset"

interface Plan {
  readonly steps: ReadonlyArray<Step>
  readonly end: End
  readonly isRead: boolean
}

const { endHeaders, endStream } = Http2Frames.flag
const oneIn = (chance: Chance, times: number) => chance.below(times) === 0

/** A compressed message that decompresses to more than the limit. */
const bomb = gzipSync(Buffer.alloc(5 * 1024 * 1024))

const tooLong = [4_194_305, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]
const lengths = [
  0,
  1,
  4,
  5,
  16_383,
  16_384,
  65_535,
  65_536,
  262_143,
  262_144,
  262_145,
  4_194_303,
  4_194_304,
  ...tooLong
]

/** A message, valid or malformed. */
const message = (chance: Chance, { messages }: Method): Buffer => {
  const valid = chance.of(messages)
  const { message } = Http2Frames
  switch (chance.below(18)) {
    case 0:
      return message(chance.bytes(chance.below(100)))
    case 1:
      return message(Buffer.alloc(0))
    case 2:
    case 3:
      return message(gzipSync(valid), { flag: 1 })
    case 4:
      return message(deflateSync(valid), { flag: 1 })
    case 5: {
      const broken = gzipSync(valid)
      broken[chance.below(broken.length)]! ^= 1 << chance.below(8)
      return message(broken.subarray(0, 1 + chance.below(broken.length)), { flag: 1 })
    }
    case 6:
      return message(valid, { flag: chance.below(256) })
    case 7:
      return message(valid, { length: chance.of(lengths) })
    case 8:
      return message(valid, { length: Math.max(0, valid.length - 2 + chance.below(5)) })
    case 9: {
      const whole = message(valid)
      return whole.subarray(0, chance.below(whole.length))
    }
    case 10:
      return message(Buffer.alloc(0), { length: chance.of(tooLong) })
    case 11:
      return oneIn(chance, 20) ? message(bomb, { flag: 1 }) : message(Buffer.concat([valid, valid]))
    default:
      return message(valid)
  }
}

const timeouts = ["0n", "1n", "1m", "5m", "20m", "1S", "99999999H", "-1S", "soon", "1", "600H", "99999999S"]
const paths = ["/", "/unknown.Service/Method", "*", "//", "/%00", "/grpc.health.v1.Health", "x"]

const headerBlock = (chance: Chance, { path }: Method): Buffer => {
  const more: { [name: string]: string } = {}
  if (oneIn(chance, 2)) more["grpc-encoding"] = chance.of(["gzip", "gzip", "gzip", "deflate", "identity", "br", ""])
  if (oneIn(chance, 4)) more["grpc-timeout"] = chance.of(timeouts)
  if (oneIn(chance, 12))
    more["content-type"] = chance.of(["", "text/html", "application/grpc+proto", "application/grpc-web"])
  if (oneIn(chance, 12)) more["x-bin"] = chance.of([",,,,", "====", "AAAA", "not base64!", ""])
  if (oneIn(chance, 12)) more["traceparent"] = chance.of(["00", `00-${"1".repeat(32)}-${"2".repeat(16)}-01`])
  if (oneIn(chance, 20)) more[":method"] = chance.of(["GET", "PUT", "OPTIONS"])
  if (oneIn(chance, 40)) more["x-long"] = "x".repeat(chance.below(20_000))
  if (oneIn(chance, 40)) more[chance.of(["connection", "Upper", ":unknown", "", "transfer-encoding"])] = "x"
  const block = Http2Frames.callHeaders(oneIn(chance, 12) ? chance.of(paths) : path, more)
  if (!oneIn(chance, 60)) return block
  block[chance.below(block.length)] = chance.below(256)
  return block
}

/** HEADERS of a call, with CONTINUATION frames at random. */
const begin = (chance: Chance, stream: number, method: Method): Array<Buffer> => {
  const block = headerBlock(chance, method)
  const end = oneIn(chance, 15) ? endStream : 0
  if (!oneIn(chance, 8)) return [Http2Frames.headers(stream, block, endHeaders | end)]
  const at = chance.below(block.length)
  const middle = at + chance.below(block.length - at)
  return [
    Http2Frames.headers(stream, block.subarray(0, at), end),
    Http2Frames.continuation(stream, block.subarray(at, middle), 0),
    Http2Frames.continuation(stream, block.subarray(middle), endHeaders)
  ]
}

/** Messages of a call in DATA frames, split at random. */
const send = (chance: Chance, stream: number, method: Method): Array<Buffer> => {
  const count = oneIn(chance, 3) ? 1 + chance.below(4) : 1
  const bytes = Buffer.concat(Array.from({ length: count }, () => message(chance, method)))
  const frames: Array<Buffer> = []
  let at = 0
  do {
    const next = oneIn(chance, 3) ? at + chance.below(bytes.length - at + 1) : bytes.length
    frames.push(Http2Frames.data(stream, bytes.subarray(at, Math.min(next, at + 16_384))))
    at = Math.min(next, at + 16_384)
  } while (at < bytes.length)
  const end = chance.below(5)
  // END_STREAM on the last frame or on a separate one
  if (end === 0) frames.push(Http2Frames.data(stream, undefined, endStream))
  else if (end <= 2) frames.push(setFlags(frames.pop()!, endStream))
  return frames
}

const setFlags = (frame: Buffer, flags: number): Buffer => {
  frame[4]! |= flags
  return frame
}

const settingsOf = (chance: Chance) =>
  Http2Frames.settings({
    ...(oneIn(chance, 2) ? { 4: chance.of([0, 1, 100, 65_535, 2 ** 31 - 1]) } : {}),
    ...(oneIn(chance, 6) ? { 1: chance.of([0, 1, 4_096, 65_536]) } : {}),
    ...(oneIn(chance, 10) ? { 3: chance.below(200) } : {}),
    ...(oneIn(chance, 20) ? { 6: chance.below(300) } : {}),
    ...(oneIn(chance, 60) ? { [chance.below(10)]: chance.below(2 ** 31) } : {})
  })

/** A frame that violates the protocol, which usually ends the connection. */
const wrong = (chance: Chance, stream: number): Buffer => {
  switch (chance.below(8)) {
    case 0:
      return Http2Frames.data(0, chance.bytes(chance.below(10)))
    case 1:
      return Http2Frames.windowUpdate(chance.of([0, stream]), chance.of([0, 2 ** 31 - 1]))
    case 2:
      return Http2Frames.continuation(stream, chance.bytes(10))
    case 3:
      return Http2Frames.headers(stream + 1, chance.bytes(20))
    case 4:
      return Http2Frames.frame(chance.below(14), chance.below(256), chance.below(8), chance.bytes(chance.below(64)))
    case 5:
      return Http2Frames.frame(chance.below(10), 0, stream, chance.bytes(8), chance.of([0, 7, 9, 16_385, 2 ** 24 - 1]))
    case 6:
      return Http2Frames.ping(chance.bytes(chance.below(12)))
    default:
      return Http2Frames.reset(chance.of([0, 2, stream + 100]), 0)
  }
}

/** Sequences that once crashed a process or leaked slots, and are therefore frequent. */
const recipes: ReadonlyArray<(chance: Chance, stream: number, method: Method) => Array<Buffer>> = [
  // a compressed message, then one that is too large, then END_STREAM
  (chance, stream, method) => [
    Http2Frames.headers(stream, Http2Frames.callHeaders(method.path, { "grpc-encoding": "gzip" })),
    Http2Frames.data(stream, Http2Frames.message(gzipSync(chance.of(method.messages)), { flag: 1 })),
    Http2Frames.data(stream, Http2Frames.message(Buffer.alloc(0), { length: chance.of(tooLong) })),
    Http2Frames.data(stream, undefined, endStream)
  ],
  // GOAWAY with an open call, and then a protocol violation
  (chance, stream, method) => [
    ...begin(chance, stream, method),
    Http2Frames.goaway(),
    Http2Frames.data(0, Buffer.from("x"))
  ]
]

/** The first bytes of HTTP/1.1 and of TLS. */
const otherProtocols = [
  Buffer.from("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"),
  Buffer.from("1603010200010001fc0303", "hex")
]

/** All steps of a connection. */
const plan = (chance: Chance, methods: ReadonlyArray<Method>): Plan => {
  if (oneIn(chance, 100)) {
    const bytes = Http2Frames.preface.subarray(0, chance.below(24))
    return { steps: [{ _tag: "Send", bytes }], end: chance.of(["half-close", "close", "reset"]), isRead: true }
  }
  const steps: Array<Step> = []
  const preface = oneIn(chance, 50) ? chance.of([...otherProtocols, chance.bytes(24)]) : Http2Frames.preface
  let frames: Array<Buffer> = [preface, settingsOf(chance)]
  const flush = () => {
    for (const bytes of segments(chance, Buffer.concat(frames))) steps.push({ _tag: "Send", bytes })
    frames = []
  }
  if (oneIn(chance, 2)) frames.push(Http2Frames.settingsAck)
  const open: Array<{ readonly stream: number; readonly method: Method }> = []
  let next = 1
  for (let actions = 1 + chance.below(24); actions > 0; actions--) {
    const what = chance.below(100)
    if (open.length === 0 || what < 25) {
      const call = { stream: next, method: chance.of(methods) }
      next += 2
      open.push(call)
      if (oneIn(chance, 40)) {
        frames.push(...chance.of(recipes)(chance, call.stream, call.method))
        continue
      }
      frames.push(...begin(chance, call.stream, call.method))
      if (oneIn(chance, 3)) continue
      frames.push(...send(chance, call.stream, call.method))
      continue
    }
    const { method, stream } = chance.of(open)
    if (what < 60) frames.push(...send(chance, stream, method))
    else if (what < 70) frames.push(Http2Frames.reset(stream, chance.of([0, 1, 2, 5, 7, 8, 8, 8, 11, 0xff])))
    else if (what < 76) frames.push(Http2Frames.windowUpdate(chance.of([0, stream]), 1 + chance.below(100_000)))
    else if (what < 80) frames.push(Http2Frames.ping(chance.bytes(8), chance.below(2)))
    else if (what < 83) frames.push(settingsOf(chance))
    else if (what < 85) frames.push(Http2Frames.goaway(chance.below(2 ** 31), chance.below(14)))
    else if (what < 86) frames.push(Http2Frames.data(stream, undefined, endStream))
    else if (what < 89) frames.push(wrong(chance, stream))
    else {
      flush()
      steps.push({ _tag: "Sync" })
    }
  }
  flush()
  if (oneIn(chance, 3)) steps.push({ _tag: "Sync" })
  return { steps, end: chance.of(["half-close", "half-close", "close", "reset"]), isRead: !oneIn(chance, 10) }
}

/** Splits bytes into segments: mostly few, sometimes many. */
const segments = (chance: Chance, bytes: Buffer): Array<Buffer> => {
  if (oneIn(chance, 3)) return [bytes]
  const step = chance.of([8, 100, 1_000])
  const cut: Array<Buffer> = []
  for (let at = 0; at < bytes.length && cut.length < 50;) {
    const next = cut.length === 49 ? bytes.length : at + 1 + chance.below(step)
    cut.push(bytes.subarray(at, next))
    at = next
  }
  return cut
}

/** The time that a connection waits for the server, in milliseconds. The server need not respond. */
const maxWait = 50

/** Executes a plan and calls back when its connection is closed, with whether it could be opened. */
export const run = (port: number, { end, isRead, steps }: Plan, onEnd: (isConnected: boolean) => void): void => {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true })
  let isConnected = false
  let timer: NodeJS.Timeout | undefined
  /** Continues once the server has read everything or closed the connection. */
  let onSynced: (() => void) | undefined
  const synced = () => {
    const go = onSynced
    onSynced = undefined
    clearTimeout(timer)
    go?.()
  }
  const wait = (go: () => void) => {
    onSynced = go
    timer = setTimeout(synced, maxWait)
  }
  const finish = () => {
    if (end === "reset") socket.resetAndDestroy()
    else if (end === "close" || socket.destroyed) socket.destroy()
    else {
      socket.end()
      wait(() => socket.destroy())
    }
  }
  let at = 0
  const next = () => {
    const step = steps[at++]
    if (step === undefined || socket.destroyed || !socket.writable) finish()
    else if (step._tag === "Sync" && isRead) {
      wait(next)
      socket.write(Http2Frames.ping())
    } else {
      if (step._tag === "Send") socket.write(step.bytes)
      // the next write becomes another segment
      setImmediate(next)
    }
  }
  const onFrame = Http2Frames.reader(({ flags, type }) => {
    if (type === Http2Frames.type.ping && (flags & Http2Frames.flag.ack) !== 0) synced()
  })
  if (isRead) socket.on("data", onFrame)
  else socket.pause()
  socket.on("end", synced)
  socket.on("error", () => {})
  socket.once("connect", () => {
    isConnected = true
    next()
  })
  socket.once("close", () => {
    synced()
    onEnd(isConnected)
  })
}

/** A range of connections of a seed. */
interface Campaign {
  readonly port: number
  readonly seed: number
  /** The first connection and the number of connections. A later one can be repeated without those before it. */
  readonly first: number
  readonly count: number
  readonly methods: ReadonlyArray<Method>
}

/** The number of concurrent connections. */
const width = 64

/** The plan of a connection by its number. */
const planOf = ({ methods, seed }: Pick<Campaign, "methods" | "seed">, index: number): Plan =>
  plan(chanceOf(Math.imul(seed, 0x9e3779b1) ^ index), methods)

/**
 * Makes the connections and calls back when all are closed: with nothing, or with the numbers of those that were open when the server
 * stopped accepting connections.
 */
export const runAll = (campaign: Campaign, onEnd: (suspects: ReadonlyArray<number>) => void): void => {
  const last = campaign.first + campaign.count
  const recent: Array<number> = []
  let next = campaign.first
  let running = 0
  let suspects: ReadonlyArray<number> = []
  const fill = () => {
    while (running < width && next < last && suspects.length === 0) {
      const index = next++
      running++
      recent.push(index)
      if (recent.length > 2 * width) recent.shift()
      run(campaign.port, planOf(campaign, index), (isConnected) => {
        running--
        if (!isConnected && suspects.length === 0) suspects = [...recent]
        setImmediate(fill)
      })
    }
    if (running === 0 && (next === last || suspects.length > 0)) {
      const found = suspects
      // several connections may end at once: only one calls back
      if (next <= last) onEnd(found)
      next = last + 1
    }
  }
  fill()
}

const path = (service: string, method: string) => `/${service}/${method}`

/** A string field with a field number below 16 and less than 128 bytes. */
const text = (field: number, value: string) =>
  Buffer.concat([Buffer.of((field << 3) | 2, Buffer.byteLength(value)), Buffer.from(value)])

const health: ReadonlyArray<Method> = ["Check", "Watch"].map((method) => ({
  path: path("grpc.health.v1.Health", method),
  messages: [Buffer.alloc(0), text(1, "unknown")]
}))

const reflection: ReadonlyArray<Method> = [
  {
    path: path("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
    messages: [text(7, "*"), text(3, "a.proto"), text(4, "grpc.health.v1.Health")]
  }
]

const echo = "onlinebooks.layers.testing.EchoService"

/** Requests for {@link file://./fuzzServer.ts}; streaming methods send one response for each of `numbers`. */
const echoMessages = [
  ...["", "hello", "hello", "later", "later", "wait", "fail"].map((value) => text(1, value)),
  Buffer.concat([text(1, "hello"), Buffer.of(0x5a, 3, 1, 2, 3)]),
  Buffer.concat([text(1, "hello"), Buffer.of(0x5a, 120), Buffer.alloc(120, 1)]),
  Buffer.concat([text(1, "later"), Buffer.of(0x5a, 3, 1, 2, 3)])
]

export const echoMethods: ReadonlyArray<Method> = [
  ...["Echo", "EchoOnce", "Expand", "Collect", "Chat"].map((method) => ({
    path: path(echo, method),
    messages: echoMessages
  })),
  ...health,
  ...reflection
]

const v1 = "onlinebooks.recommendations.v1.RecommendationsService"

export const recommendationsMethods: ReadonlyArray<Method> = [
  // three mysteries, any books, a negative user id
  ...["/Recommendations/Recommend", path(v1, "Recommend")].map((path) => ({
    path,
    messages: [
      Buffer.of(0x08, 7, 0x10, 1, 0x18, 3),
      Buffer.of(0x18, 100),
      Buffer.of(0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)
    ]
  })),
  { path: path(v1, "ListCategories"), messages: [Buffer.alloc(0)] },
  ...health,
  ...reflection
]
