/**
 * The connections of an attack: opened from its own addresses, replaced when the server closes them, and destroyed at its end.
 */
import { connect, type Socket } from "node:net"
import { connect as connectTls, TLSSocket } from "node:tls"

import * as Http2Frames from "../../test/integration/Http2Frames.ts"

/** The certificates of an attacker over TLS. */
export interface Identity {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** The target of an attack, and its source addresses. */
export interface Target {
  readonly host: string
  readonly port: number
  /** The gRPC method of attacks that name none. */
  readonly path: string
  /** A valid request of the method. */
  readonly message: Uint8Array
  /** The number of source addresses, from 127.0.1.1 on. */
  readonly addresses: number
  readonly identity?: Identity | undefined
}

/** The counts of an attack. */
export interface Counts {
  /** Connections that were established, closed by the server, and failed. */
  connected: number
  closed: number
  failed: number
  /** Calls or requests that were begun. */
  calls: number
  /** Calls that the server ended with trailers and by RST_STREAM, and GOAWAY frames. */
  answered: number
  reset: number
  goaways: number
  /** Bytes sent, which show whether the attack reached its size. */
  sent: number
}

export interface Attacker {
  readonly target: Target
  readonly counts: Counts
  readonly signal: AbortSignal
  /** Opens a connection, which is not read until it is resumed or has a data listener. */
  readonly open: () => Socket
  /** Keeps a number of connections open during the attack; a function begins each, and a pause precedes each new attempt. */
  readonly keep: (count: number, begin: (socket: Socket) => void, pause?: number) => void
  /** Calls a function in an interval (milliseconds) until the socket closes. */
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
      // buffered bytes have not been sent
      counts.sent += socket.bytesWritten - socket.writableLength
      socket.destroy()
    }
  })

  const open = () => {
    const localAddress = addressOf(opened++ % target.addresses)
    const { host, identity, port } = target
    const tcp = connect({ host, port, localAddress, noDelay: true })
    // the attacker does not verify the server's certificate
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
    // the listen backlog is bounded
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

/** The first bytes of each connection, with the windows of the connection and its streams. */
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

/** Begins HTTP/2 on a socket, acknowledges SETTINGS and PING, and reports other frames. */
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
  /** Concurrent calls on each connection. */
  readonly calls: number
  /** The frames of a call on a stream; the first call of a connection may differ. */
  readonly frames: (stream: number, isFirst: boolean) => Buffer
  readonly windows?: Windows
  /** The interval in which ended calls are replaced, in milliseconds; at once by default. */
  readonly refill?: number
}

/** Keeps a number of calls open on a number of connections. */
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

/** The share of a core that a flood may use. */
const share = 0.5

/**
 * Floods a number of connections with the bytes that a function makes for each, as fast as the server reads them, until the attack
 * ends. The process is limited to half a core: it sleeps after it has used more.
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
