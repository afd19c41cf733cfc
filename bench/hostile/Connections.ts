/**
 * The connections of an attack: opened from addresses of its own, opened again when the server closes them, and all destroyed at its end.
 */
import { connect, type Socket } from "node:net"
import { connect as connectTls, TLSSocket } from "node:tls"

import * as Http2Frames from "../../test/integration/Http2Frames.ts"

/** What an attacker that speaks TLS has. */
export interface Identity {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** What is attacked, and from where. */
export interface Target {
  readonly host: string
  readonly port: number
  /** The gRPC method that is called where the attack names none. */
  readonly path: string
  /** A message that the method takes. */
  readonly message: Uint8Array
  /** How many source addresses the connections are spread over, from 127.0.1.1 on. */
  readonly addresses: number
  readonly identity?: Identity | undefined
}

/** What an attack has done, and what came back. */
export interface Counts {
  /** Connections that were established, that the server closed, and that could not be established. */
  connected: number
  closed: number
  failed: number
  /** Calls or requests begun. */
  calls: number
  /** Calls that the server ended: with trailers, by RST_STREAM; and GOAWAY frames. */
  answered: number
  reset: number
  goaways: number
  /** Bytes that were sent, which tell whether the attack came to its size. */
  sent: number
}

export interface Attacker {
  readonly target: Target
  readonly counts: Counts
  readonly signal: AbortSignal
  /** Opens a connection; nothing is read of it until it is resumed or listened to. */
  readonly open: () => Socket
  /** Keeps so many connections open for as long as the attack lasts, each begun by a function, and paced by a pause before a new attempt. */
  readonly keep: (count: number, begin: (socket: Socket) => void, pause?: number) => void
  /** Calls a function from time to time (milliseconds) until the socket closes. */
  readonly every: (interval: number, socket: Socket, run: () => void) => void
}

/** Source addresses are all of 127.0.0.0/8, which loopback accepts: 127.0.1.1 to 127.0.250.250. */
const addressOf = (index: number): string => `127.0.${1 + Math.floor(index / 250)}.${1 + (index % 250)}`

export const make = (target: Target, signal: AbortSignal): Attacker => {
  const counts: Counts = { connected: 0, closed: 0, failed: 0, calls: 0, answered: 0, reset: 0, goaways: 0, sent: 0 }
  const sockets = new Set<Socket>()
  let opened = 0
  signal.addEventListener("abort", () => {
    for (const socket of sockets) {
      // what is still to be written has not been sent
      counts.sent += socket.bytesWritten - socket.writableLength
      socket.destroy()
    }
  })

  const open = () => {
    const localAddress = addressOf(opened++ % target.addresses)
    const { host, identity, port } = target
    const tcp = connect({ host, port, localAddress, noDelay: true })
    // with a certificate that the server's own does not have to answer for
    const socket =
      identity === undefined
        ? tcp
        : connectTls({
            socket: tcp,
            ...identity,
            ALPNProtocols: ["h2"],
            servername: "localhost",
            rejectUnauthorized: false
          })
    let isConnected = false
    sockets.add(socket)
    socket.once(identity === undefined ? "connect" : "secureConnect", () => {
      isConnected = true
      counts.connected++
    })
    tcp.on("error", () => {})
    socket.on("error", () => {})
    socket.once("close", () => {
      sockets.delete(socket)
      if (signal.aborted) return
      counts.sent += socket.bytesWritten
      if (isConnected) counts.closed++
      else counts.failed++
    })
    return socket
  }

  const keep: Attacker["keep"] = (count, begin, pause = 100) => {
    let begun = 0
    const one = () => {
      if (signal.aborted) return
      const socket = open()
      socket.once("close", () => setTimeout(one, pause))
      begin(socket)
    }
    // what the system keeps for connections that have not been accepted yet is bounded
    const some = () => {
      for (const last = Math.min(count, begun + 100); begun < last; begun++) one()
      if (begun < count && !signal.aborted) setTimeout(some, 5)
    }
    some()
  }

  const every: Attacker["every"] = (interval, socket, run) => {
    const timer = setInterval(run, interval)
    socket.once("close", () => clearInterval(timer))
  }

  return { target, counts, signal, open, keep, every }
}

/** What each connection sends first, and the windows that it opens: for itself, and for each of its streams. */
export interface Windows {
  readonly ofConnection?: number
  readonly ofStream?: number
}

const greeting = ({ ofConnection = 2 ** 31 - 1, ofStream = 2 ** 31 - 1 }: Windows = {}): Buffer =>
  Buffer.concat([
    Http2Frames.preface,
    Http2Frames.settings({ [Http2Frames.initialWindowSize]: ofStream }),
    ...(ofConnection > 65_535 ? [Http2Frames.windowUpdate(0, ofConnection - 65_535)] : [])
  ])

/** Begins HTTP/2 on a socket, acknowledges settings and pings, and tells of what else comes. */
export const speakHttp2 = (
  { counts }: Attacker,
  socket: Socket,
  { onEnd = () => {}, windows }: { readonly onEnd?: (stream: number) => void; readonly windows?: Windows } = {}
): void => {
  socket.write(greeting(windows))
  socket.on(
    "data",
    Http2Frames.reader(({ flags, payload, stream, type }) => {
      const isAck = (flags & Http2Frames.flag.ack) !== 0
      if (type === Http2Frames.type.settings && !isAck) socket.write(Http2Frames.settingsAck)
      if (type === Http2Frames.type.ping && !isAck) socket.write(Http2Frames.ping(payload, Http2Frames.flag.ack))
      if (type === Http2Frames.type.goaway) counts.goaways++
      if (type === Http2Frames.type.reset) counts.reset++
      const isEnd =
        (type === Http2Frames.type.headers || type === Http2Frames.type.data) &&
        (flags & Http2Frames.flag.endStream) !== 0
      if (isEnd) counts.answered++
      if (isEnd || type === Http2Frames.type.reset) onEnd(stream)
    })
  )
}

export interface Calls {
  readonly connections: number
  /** On each connection at the same time. */
  readonly calls: number
  /** The frames of a call on a stream, of which the first call of a connection may be another. */
  readonly frames: (stream: number, isFirst: boolean) => Buffer
  readonly windows?: Windows
  /** How often those that have ended are replaced, in milliseconds; at once unless it is given. */
  readonly refill?: number
}

/** Keeps so many calls open on so many connections. */
export const keepCalls = (attacker: Attacker, { calls, connections, frames, refill, windows }: Calls): void =>
  attacker.keep(connections, (socket) => {
    const open = new Set<number>()
    let next = 1
    const fill = () => {
      if (socket.connecting || !socket.writable) return
      const begun: Array<Buffer> = []
      while (open.size < calls && next < 2 ** 31 - 2) {
        begun.push(frames(next, next === 1))
        open.add(next)
        next += 2
      }
      attacker.counts.calls += begun.length
      if (begun.length > 0) socket.write(Buffer.concat(begun))
    }
    speakHttp2(attacker, socket, {
      ...(windows === undefined ? {} : { windows }),
      onEnd: (stream) => {
        open.delete(stream)
        if (refill === undefined) queueMicrotask(fill)
      }
    })
    socket.once(socket instanceof TLSSocket ? "secureConnect" : "connect", fill)
    if (refill !== undefined) attacker.every(refill, socket, fill)
  })

/** How much of a core a flood may take. */
const share = 0.5

/**
 * Floods so many connections with what a function makes for each, as fast as the server takes it, until the attack ends. The
 * process is held to half a core: it sleeps off what it has used beyond that.
 */
export const flood = (
  attacker: Attacker,
  connections: number,
  begin: (socket: Socket) => (() => Buffer) | undefined
): void => {
  const { counts, signal } = attacker
  const writers = new Map<Socket, () => Buffer>()
  attacker.keep(
    connections,
    (socket) => {
      const next = begin(socket)
      if (next !== undefined) writers.set(socket, next)
      socket.once("close", () => writers.delete(socket))
    },
    10
  )
  const startedAt = performance.now()
  const usedBefore = process.cpuUsage()
  const round = () => {
    if (signal.aborted) return
    for (const [socket, next] of writers) {
      if (socket.connecting || !socket.writable || socket.writableNeedDrain) continue
      socket.write(next())
      counts.calls++
    }
    const { system, user } = process.cpuUsage(usedBefore)
    const ahead = (user + system) / 1000 / share - (performance.now() - startedAt)
    if (ahead > 0) setTimeout(round, ahead)
    else setImmediate(round)
  }
  round()
}
