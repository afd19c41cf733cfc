/**
 * Raw HTTP/2 clients that send arbitrary frames, from any loopback address.
 */
import { connect as connectTcp, type Socket } from "node:net"

import { Effect } from "effect"

import * as Http2Frames from "../../integration/Http2Frames.ts"

export { type Frame, frame, preface } from "../../integration/Http2Frames.ts"

/** The first bytes of a connection: the preface and empty SETTINGS. */
export const begin = Buffer.concat([Http2Frames.preface, Http2Frames.settings()])

/** The HEADERS frame of a call, followed by CONTINUATION frames if its headers are large. */
export const call = (
  stream: number,
  path: string,
  headers: ReadonlyArray<readonly [name: string, value: string]> = [],
  endStream = true
): Buffer => {
  const block = Http2Frames.callHeaders(path, Object.fromEntries(headers))
  const parts: Array<Buffer> = []
  for (let at = 0; at < block.length; at += 16_384) parts.push(block.subarray(at, at + 16_384))
  return Buffer.concat(
    parts.map((part, index) =>
      Http2Frames.frame(
        index === 0 ? 1 : 9,
        (index === parts.length - 1 ? 4 : 0) | (index === 0 && endStream ? 1 : 0),
        stream,
        part
      )
    )
  )
}

export const goAway = Http2Frames.goaway()

/** The complete frames in the bytes that a server has sent. */
export const framesOf = (received: Buffer): ReadonlyArray<Http2Frames.Frame> => {
  const frames: Array<Http2Frames.Frame> = []
  Http2Frames.reader((frame) => frames.push(frame))(received)
  return frames
}

export interface Raw {
  readonly socket: Socket
  /** All bytes received so far. */
  readonly received: () => Buffer
  /** Waits for the first frame for which the predicate holds; undefined if the connection closes without one. */
  readonly frame: (predicate: (frame: Http2Frames.Frame) => boolean) => Effect.Effect<Http2Frames.Frame | undefined>
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
