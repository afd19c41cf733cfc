/**
 * Raw HTTP/2 clients that send arbitrary frames, from any loopback address.
 */
import { connect as connectTcp, type Socket } from "node:net"

import { Effect } from "effect"

/** The connection preface of a client (RFC 9113, section 3.4), which SETTINGS have to follow. */
export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

/** A frame of RFC 9113, section 4.1. */
export const frame = (type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer => {
  const header = Buffer.alloc(9)
  header.writeUIntBE(payload.length, 0, 3)
  header.writeUInt8(type, 3)
  header.writeUInt8(flags, 4)
  header.writeUInt32BE(stream, 5)
  return Buffer.concat([header, payload])
}

/** The first bytes of a connection: the preface and empty SETTINGS. */
export const begin = Buffer.concat([preface, frame(4, 0, 0)])

const integer = (value: number): Buffer => {
  if (value < 127) return Buffer.from([value])
  const bytes = [127]
  let rest = value - 127
  while (rest >= 128) {
    bytes.push((rest % 128) + 128)
    rest = Math.floor(rest / 128)
  }
  return Buffer.from([...bytes, rest])
}

/** A literal header field of HPACK without indexing (RFC 7541, section 6.2.2). */
const literal = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.from([0]), integer(name.length), Buffer.from(name), integer(value.length), Buffer.from(value)])

/** The HEADERS frame of a call, followed by CONTINUATION frames if its headers are large. */
export const call = (
  stream: number,
  path: string,
  headers: ReadonlyArray<readonly [name: string, value: string]> = [],
  endStream = true
): Buffer => {
  const block = Buffer.concat(
    [
      [":method", "POST"] as const,
      [":scheme", "http"] as const,
      [":path", path] as const,
      [":authority", "localhost"] as const,
      ["content-type", "application/grpc"] as const,
      ["te", "trailers"] as const,
      ...headers
    ].map(([name, value]) => literal(name, value))
  )
  const parts: Array<Buffer> = []
  for (let at = 0; at < block.length; at += 16_384) parts.push(block.subarray(at, at + 16_384))
  return Buffer.concat(
    parts.map((part, index) =>
      frame(
        index === 0 ? 1 : 9,
        (index === parts.length - 1 ? 4 : 0) | (index === 0 && endStream ? 1 : 0),
        stream,
        part
      )
    )
  )
}

export const goAway = frame(7, 0, 0, Buffer.alloc(8))

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

/** The complete frames in the bytes that a server has sent. */
export const framesOf = (received: Buffer): ReadonlyArray<Frame> => {
  const frames: Array<Frame> = []
  for (let at = 0; at + 9 <= received.length;) {
    const end = at + 9 + received.readUIntBE(at, 3)
    if (end > received.length) break
    frames.push({
      type: received.readUInt8(at + 3),
      flags: received.readUInt8(at + 4),
      stream: received.readUInt32BE(at + 5),
      payload: received.subarray(at + 9, end)
    })
    at = end
  }
  return frames
}

export interface Raw {
  readonly socket: Socket
  /** All bytes received so far. */
  readonly received: () => Buffer
  /** Waits for the first frame for which the predicate holds; undefined if the connection closes without one. */
  readonly frame: (predicate: (frame: Frame) => boolean) => Effect.Effect<Frame | undefined>
  /** Waits until the server has closed the connection. */
  readonly closed: Effect.Effect<void>
}

/** Connects from a loopback address such as 127.0.0.2. The connection is closed with the scope. */
export const connect = (port: number, localAddress = "127.0.0.1") =>
  Effect.acquireRelease(
    Effect.callback<Socket>((resume) => {
      const socket = connectTcp({ host: "127.0.0.1", port, localAddress })
      socket.on("error", () => {})
      socket.once("connect", () => resume(Effect.succeed(socket)))
      socket.once("close", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  ).pipe(Effect.map(watch))

/** Records the bytes that a connection receives from now on. */
export const watch = (socket: Socket): Raw => {
  const chunks: Array<Buffer> = []
  socket.on("data", (chunk: Buffer) => chunks.push(chunk))
  const received = () => Buffer.concat(chunks)
  return {
    socket,
    received,
    frame: (predicate) =>
      Effect.callback((resume) => {
        const look = () => {
          const found = framesOf(received()).find(predicate)
          if (found !== undefined || socket.destroyed) resume(Effect.succeed(found))
        }
        socket.on("data", look)
        socket.once("close", look)
        look()
        return Effect.sync(() => socket.off("data", look).off("close", look))
      }),
    closed: Effect.callback<void>((resume) => {
      if (socket.destroyed) return resume(Effect.void)
      socket.once("close", () => resume(Effect.void))
    })
  }
}
