/**
 * Encodes and decodes HTTP/2 frames (RFC 9113) for clients that violate the protocol. Nothing is validated, counted or acknowledged.
 */
import { gzipSync } from "node:zlib"

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

/** Frame types. */
export const type = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9
} as const

export const flag = { ack: 1, endStream: 1, endHeaders: 4 } as const

/** Error codes of RST_STREAM and GOAWAY. */
export const errorCode = { noError: 0, internal: 2, cancel: 8 } as const

const nothing = Buffer.alloc(0)

/** A frame. `length` may differ from the length of the payload. */
export const frame = (
  type: number,
  flags: number,
  stream: number,
  payload: Buffer = nothing,
  length = payload.length
): Buffer => {
  const header = Buffer.alloc(9)
  header.writeUIntBE(length, 0, 3)
  header.writeUInt8(type, 3)
  header.writeUInt8(flags, 4)
  header.writeUInt32BE(stream >>> 0, 5)
  return Buffer.concat([header, payload])
}

const uint32 = (...values: ReadonlyArray<number>): Buffer => {
  const bytes = Buffer.alloc(4 * values.length)
  values.forEach((value, index) => bytes.writeUInt32BE(value >>> 0, 4 * index))
  return bytes
}

/** A SETTINGS frame with values by identifier (RFC 9113, section 6.5.2). */
export const settings = (values: { readonly [identifier: number]: number } = {}): Buffer => {
  const entries = Object.entries(values)
  const payload = Buffer.alloc(6 * entries.length)
  entries.forEach(([identifier, value], index) => {
    payload.writeUInt16BE(Number(identifier), 6 * index)
    payload.writeUInt32BE(value, 6 * index + 2)
  })
  return frame(type.settings, 0, 0, payload)
}

export const settingsAck = frame(type.settings, flag.ack, 0, nothing)

/** The identifier of SETTINGS_INITIAL_WINDOW_SIZE. */
export const initialWindowSize = 4

export const headers = (stream: number, block: Buffer, flags: number = flag.endHeaders): Buffer =>
  frame(type.headers, flags, stream, block)

export const continuation = (stream: number, block: Buffer, flags: number = flag.endHeaders): Buffer =>
  frame(type.continuation, flags, stream, block)

export const data = (stream: number, payload: Buffer = nothing, flags = 0): Buffer =>
  frame(type.data, flags, stream, payload)

export const reset = (stream: number, code: number = errorCode.cancel): Buffer =>
  frame(type.reset, 0, stream, uint32(code))

export const goaway = (lastStream = 0, code: number = errorCode.noError): Buffer =>
  frame(type.goaway, 0, 0, uint32(lastStream, code))

export const windowUpdate = (stream: number, increment: number): Buffer =>
  frame(type.windowUpdate, 0, stream, uint32(increment))

export const ping = (payload: Buffer = Buffer.alloc(8), flags = 0): Buffer => frame(type.ping, flags, 0, payload)

/** An HPACK integer (RFC 7541, section 5.1) with a prefix of some bits. */
const integer = (value: number, bits: number, first = 0): Buffer => {
  const limit = 2 ** bits - 1
  if (value < limit) return Buffer.of(first | value)
  const bytes = [first | limit]
  let rest = value - limit
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80)
  return Buffer.from([...bytes, rest])
}

const string = (value: string): Buffer => Buffer.concat([integer(Buffer.byteLength(value), 7), Buffer.from(value)])

/** A header without indexing. */
export const literal = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.of(0), string(name), string(value)])

/** A header that is added to the dynamic table, so that {@link newest} can refer to it. */
export const indexed = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.of(0x40), string(name), string(value)])

/** A one-byte reference to the newest entry of the dynamic table. */
export const newest = Buffer.of(0x80 | 62)

export type Headers = { readonly [name: string]: string }

/** Encodes headers without compression. */
export const block = (headers: Headers): Buffer =>
  Buffer.concat(Object.entries(headers).map(([name, value]) => literal(name, value)))

/** The headers of a gRPC call. */
export const callHeaders = (path: string, more: Headers = {}): Buffer =>
  block({
    ":method": "POST",
    ":scheme": "http",
    ":path": path,
    ":authority": "localhost",
    "content-type": "application/grpc",
    te: "trailers",
    ...more
  })

/** A length-prefixed gRPC message. Flag and length of the prefix may be wrong. */
export const message = (bytes: Uint8Array, { flag = 0, length = bytes.length } = {}): Buffer => {
  const prefix = Buffer.alloc(5)
  prefix.writeUInt8(flag, 0)
  prefix.writeUInt32BE(length, 1)
  return Buffer.concat([prefix, bytes])
}

/** A message of some bytes, compressed to a thousandth of its size. */
export const bomb = (size: number): Buffer => message(gzipSync(Buffer.alloc(size)), { flag: 1 })

/** A received frame. */
export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

/** Splits the data of a socket into frames. */
export const reader = (onFrame: (frame: Frame) => void) => {
  let rest: Buffer = nothing
  return (bytes: Buffer): void => {
    rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes])
    let at = 0
    while (rest.length - at >= 9) {
      const end = at + 9 + rest.readUIntBE(at, 3)
      if (rest.length < end) break
      onFrame({
        type: rest.readUInt8(at + 3),
        flags: rest.readUInt8(at + 4),
        stream: rest.readUInt32BE(at + 5) & 0x7fffffff,
        payload: rest.subarray(at + 9, end)
      })
      at = end
    }
    rest = rest.subarray(at)
  }
}
