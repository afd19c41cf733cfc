import type { X509Certificate } from "node:crypto"
/**
 * Accepts the connections of a gRPC server, limits them, checks client certificates, and drains them. grpc-js gets its connections
 * from here and answers the calls on them.
 *
 * grpc-js does not track connections that have sent nothing yet, are in their TLS handshake, or are never closed by their clients; a
 * drain has to. A graceful shutdown of HTTP/2 also takes two GOAWAY frames (RFC 9113, section 6.8): the first announces it, the second,
 * a round trip later, names the last call that is answered. grpc-js sends both at once, and a client that still sends may then lose them
 * to a TCP reset. Calls that arrive after the first GOAWAY are not begun: Node sends it by nghttp2_submit_goaway, after which nghttp2
 * ignores new streams, and does not offer nghttp2_submit_shutdown_notice, after which it would not. The second GOAWAY tells their
 * client that they were not begun, so that it may send them again on another connection.
 */
import {
  constants,
  type Http2Server,
  type Http2Session,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions
} from "node:http2"
import { createServer as createTcpServer, type Socket } from "node:net"
import { createServer as createTlsServer, type Server as TlsServer, type TLSSocket } from "node:tls"

import { type Server as GrpcJsServer, ServerCredentials } from "@grpc/grpc-js"
import { Duration, Effect } from "effect"

import * as Address from "../../config/Address.ts"
import { fromCause, type ListenError, type ListenOptions } from "../../process/ListenError.ts"
import type { Guard } from "../../telemetry/Callback.ts"
import * as Certificates from "../../tls/Certificates.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import * as RevocationList from "../../tls/RevocationList.ts"
import type { Peer } from "../GrpcCall.ts"
import type { Tls } from "../GrpcServer.ts"
import * as Status from "../Status.ts"
import * as ConnectionTable from "./ConnectionTable.ts"
import * as StreamGate from "./StreamGate.ts"

/** What a connection may ask for, and how long it lasts. */
export interface Options {
  /** Calls that are open at the same time on one connection; a client waits before it opens more. */
  readonly maxConcurrentStreams: number
  /** The headers of one call, in bytes as HTTP/2 counts them (RFC 9113, section 6.5.2). */
  readonly maxHeaderSize: number
  /** After this long, give or take a tenth, a client is told to connect again: to find replicas that are newer. */
  readonly maxConnectionAge: Duration.Duration
  /** Connections that are open at the same time. */
  readonly maxConnections: number
  /** The same from one address; all of an IPv6 /64 counts as one. */
  readonly maxConnectionsPerAddress: number
  /** What TLS is spoken with: undefined is plaintext. */
  readonly tls?: Tls | undefined
  /** Wraps every callback that is registered with Node. */
  readonly guard: Guard
  /** Told of a connection that is not served. */
  readonly onRefused: (refusal: Refusal) => void
  /** Told of a connection over TLS that is served. */
  readonly onSecured: (secured: Secured) => void
  /** Told of an error of the listening socket. */
  readonly onAcceptError: (error: Error) => void
  /** Called with each stream that grpc-js is about to get: it may change the headers. */
  readonly onEntering?: StreamGate.OnStream | undefined
  /** Told of each stream that grpc-js got, after that. */
  readonly onStream: StreamGate.OnStream
  /** Told of each stream that was answered with a status before grpc-js got it; it may not be allowed, or its headers are too large. */
  readonly onRefusedStream: StreamGate.Options["onRefusedStream"]
}

/** Why connections are refused or closed, as metrics name it. */
export const refusalReasons = [
  "no_certificate",
  "certificate_expired",
  "certificate_untrusted",
  "not_on_the_list",
  "certificate_revoked",
  "not_http2",
  "handshake_failed",
  "protocol_error",
  "too_many_connections",
  "too_many_connections_of_address",
  "too_many_handshakes",
  "too_many_handshakes_of_address"
] as const

/** Why a connection is refused or closed: the reason for metrics, the detail for the log. */
export interface Refusal {
  readonly reason: (typeof refusalReasons)[number]
  readonly address: string
  readonly detail: string
}

/** What has been agreed on with a client over TLS. */
export interface Secured {
  readonly peer: Peer
  /** As "TLSv1.3". */
  readonly version: string
  readonly cipher: string
}

/** A connection that is served. */
export interface Connection {
  readonly peer: Peer
  /** Whether it may call: it has no name on the list if not. */
  readonly isAllowed: boolean
  /** Whom it belongs to, for fairness between clients: the names of its certificate and its address, without the port. */
  readonly client: string
}

/** What identifies a connection. */
interface ConnectionInfo {
  readonly remoteAddress?: string | undefined
  readonly remotePort?: number | undefined
  readonly localAddress?: string | undefined
}

export interface ServerConnections {
  readonly listen: (options: ListenOptions) => Effect.Effect<Address.Address, ListenError>
  /** The connection of a call; undefined if it was not served, or has been closed. */
  readonly of: (stream: ServerHttp2Stream) => Connection | undefined
  /** Takes other certificates for the handshakes to come. */
  readonly setCertificates: (certificates: Certificates.Certificates) => void
  /** How many connections are open, and how many of them are in their TLS handshake. */
  readonly counts: () => { readonly open: number; readonly handshakes: number }
  /** To be called once no connection is left after {@link leave}. */
  readonly onEmpty: (callback: () => void) => void
  /** Takes no new connections, and says on the others that there will be no more calls. */
  readonly leave: () => void
  /** Closes the connections that are left, with the calls on them. */
  readonly destroy: () => void
}

/**
 * How long a client may take to answer a ping before the second GOAWAY is sent without it. Node's own clients that have no
 * calls do not answer: they wait for the connection to be closed.
 */
const roundTripTimeout = 300

const maxUint32 = 2 ** 32 - 1

/** How long a connection without calls may stay open after its second GOAWAY. */
const closeTimeout = 1_000

/** How long a client may take for its handshake, in milliseconds. */
const handshakeTimeout = 10_000

/**
 * How many calls a client may cancel on one connection: so many a second in the long run, and as many at once. Node's own limit,
 * made against clients that do nothing else (CVE-2023-44487), is 33 a second: a client that serves pages and cancels a call with
 * each reader who leaves, and with each attempt that takes too long, would lose its connection, and all its other calls with it,
 * at the worst of times. Nothing else bounds what is cancelled at once: it makes room for the next under the other limits.
 */
const resets = { streamResetBurst: 10_000, streamResetRate: 10_000 }

/** How long a client that has said GOAWAY, or was told so, may take to answer, in milliseconds; and how often it is asked. */
const probeTimeout = 1_000

/** How many headers a stream may have before Node resets it. */
const maxHeaderListPairs = 1024

/** How often connections are looked at, in milliseconds. */
const inspectionInterval = 1_000

/** How long calls may go on after the certificate of their client has expired, in milliseconds. */
const expiryGrace = 10_000

/** How long a client may take to read the rest of what was sent when its session has ended, in milliseconds. */
const lastWordsTimeout = 5_000

/** Of all that are open, so many may be in their TLS handshake. */
const handshakeShare = 0.5

interface Entry {
  readonly socket: Socket
  readonly address: string
  readonly acceptedAt: number
  tracked?: ConnectionTable.Tracked<Entry>
  /** Whether {@link Options.onRefused} knows of it, which is told once. */
  isRefused: boolean
  /** There once the connection is served. */
  served?: Served
}

/** What there is of a connection that is served. */
interface Served {
  readonly connection: Connection
  readonly socket: Socket
  readonly certificate: ClientCertificate | undefined
  session?: ServerHttp2Session
  /** Whether the client has sent the SETTINGS that HTTP/2 begins with. */
  hasBegun: boolean
  openStreams: number
  /** Since when the session has ended, though the connection has not, by `performance.now()`. */
  endedAt: number | undefined
}

/** What may become wrong with the certificate of a client while its connection is open. */
interface ClientCertificate {
  /** When it, or one of those that lead to its authority, expires, in milliseconds since 1970. */
  readonly notAfter: number
  readonly ids: ReadonlyArray<RevocationList.CertificateId>
  isRevoked: boolean
}

/** Ports are not enough: a client may use one of its own for two addresses of ours. */
const keyOf = ({ localAddress, remoteAddress, remotePort }: ConnectionInfo): string =>
  `${remoteAddress} ${remotePort} ${localAddress}`

const addressOf = ({ remoteAddress, remotePort }: ConnectionInfo): string =>
  remoteAddress === undefined
    ? "unknown"
    : Address.format({ host: Address.unmapped(remoteAddress), port: remotePort ?? 0 })

const notAllowed = Status.permissionDenied("This client may not call this server")
const expired = Status.unauthenticated("The certificate of this client has expired")
const revoked = Status.unauthenticated("The certificate of this client has been revoked")
const closed = Status.cancelled("The connection has been closed")

export const make = (server: GrpcJsServer, options: Options): ServerConnections => {
  const { guard, maxConnections, maxConnectionsPerAddress } = options
  const { http2, injector } = createInjector(server, {
    settings: { maxConcurrentStreams: options.maxConcurrentStreams, maxHeaderListSize: options.maxHeaderSize },
    ...resets,
    // A client that keeps to the limit of streams still exceeds it in Node's eyes, which count a stream until its events have
    // been handled. Such a stream is refused (ENHANCE_YOUR_CALM); after a hundred Node would close the connection too.
    maxSessionRejectedStreams: maxUint32,
    // Node resets a stream with more, and tells nobody: the gate answers those above its own limit
    maxHeaderListPairs
  })
  const entries = new Map<string, Entry>()
  /** Those that are served and open; what a call knows of its connection is the session. */
  const connections = new Map<Http2Session, Entry>()
  let isLeaving = false
  let onEmpty = () => {}

  const servedOf = ({ session }: ServerHttp2Stream) =>
    session === undefined ? undefined : connections.get(session)?.served

  StreamGate.install(http2, {
    maxHeaderSize: options.maxHeaderSize,
    guard,
    whyNotAllowed: (stream) => {
      const served = servedOf(stream)
      if (served === undefined) return closed
      count(stream)
      const { certificate, connection } = served
      if (!connection.isAllowed) return notAllowed
      return certificate === undefined ? undefined : whyNotValid(certificate)
    },
    onNotAllowed: ({ session }) => {
      if (session !== undefined) endSoon(session as ServerHttp2Session)
    },
    onRefusedStream: options.onRefusedStream,
    onEntering: options.onEntering,
    onStream: options.onStream,
    annotations: (stream) => {
      const peer = servedOf(stream)?.connection.peer
      return peer === undefined ? {} : PeerIdentity.annotations(peer)
    }
  })

  const limits: ConnectionTable.Limits = {
    maxConnections,
    maxConnectionsPerAddress,
    maxHandshakes: Math.ceil(maxConnections * handshakeShare),
    maxHandshakesPerAddress: Math.ceil(maxConnectionsPerAddress * handshakeShare)
  }
  const table = ConnectionTable.make<Entry>(limits, ({ connection: entry, state }, limit) => {
    report(entry, {
      reason: evictions[limit],
      detail: `${limits[limit]} ${limitNames[limit]}; it was ${inWords[state]}`
    })
    close(entry)
  })

  /** Counts the open streams of a connection, and moves it between busy and idle. */
  const count = (stream: ServerHttp2Stream) => {
    const entry = stream.session === undefined ? undefined : connections.get(stream.session)
    const served = entry?.served
    if (entry?.tracked === undefined || served === undefined) return
    const { tracked } = entry
    if (++served.openStreams === 1) table.move(tracked, "busy")
    stream.once(
      "close",
      guard("stream close listener", () => {
        if (--served.openStreams === 0) table.move(tracked, "idle")
      })
    )
  }

  const onSession = (session: ServerHttp2Session) => {
    const entry = entries.get(keyOf(session.socket))
    if (entry?.served === undefined) return
    const { served } = entry
    served.session = session
    // Node makes a Proxy of it, by which it takes a microsecond to ask for an address, and grpc-js asks for four at each call
    Object.defineProperty(session, "socket", { value: served.socket })
    connections.set(session, entry)
    session.once("close", () => connections.delete(session))
    session.once("remoteSettings", () => {
      served.hasBegun = true
    })
    // Node closes the session when its calls have ended, but does not notice that the client is broken
    session.once(
      "goaway",
      guard("GOAWAY listener", () => probe(session), { recover: () => session.destroy() })
    )
    if (isLeaving) return goAway(session)
    const age = Duration.toMillis(options.maxConnectionAge)
    if (!Number.isFinite(age)) return
    const timer = setTimeout(
      guard("connection age timer", () => goAway(session), { recover: () => session.destroy() }),
      age * (0.9 + Math.random() / 5)
    ).unref()
    session.once("close", () => clearTimeout(timer))
  }
  // what Node and nghttp2 end a connection for: frames that HTTP/2 does not have, floods of PING or SETTINGS and the like
  const onSessionError = (error: NodeJS.ErrnoException, session: ServerHttp2Session) => {
    const entry = connections.get(session)
    if (entry === undefined || isLeaving || error.code?.startsWith("ERR_HTTP2") !== true) return
    report(entry, { reason: "protocol_error", detail: `it broke HTTP/2 or flooded the server: ${error.message}` })
  }
  http2.on("sessionError", guard("session error listener", onSessionError))
  http2.on("session", guard("session listener", onSession, { recover: (session) => session.destroy() }))

  const accept = (socket: Socket) => {
    const key = keyOf(socket)
    const entry: Entry = { socket, address: addressOf(socket), acceptedAt: performance.now(), isRefused: false }
    entries.set(key, entry)
    socket.once(
      "close",
      guard("socket close listener", () => {
        // another connection may have come from the same port since
        if (entries.get(key) === entry) entries.delete(key)
        if (entry.tracked !== undefined) table.remove(entry.tracked)
        if (entry.served === undefined) {
          refuse(socket, entry, { reason: "handshake_failed", detail: "it left its TLS handshake" })
        }
        if (isLeaving && entries.size === 0) onEmpty()
      })
    )
    // TLS and HTTP/2 have listeners of their own, but not before they have the socket, nor when they have let go of it
    socket.on("error", () => {})
    const address = Address.network(socket.remoteAddress ?? "unknown")
    entry.tracked = table.add(entry, address, tls === undefined ? "unused" : "handshake")
    if (socket.destroyed) return
    if (tls !== undefined) tls.emit("connection", socket)
    else if (entryOf(socket) !== undefined) serve(socket, entry, [], true, undefined)
  }

  const report = (entry: Entry, refusal: Pick<Refusal, "reason" | "detail">) => {
    if (entry.isRefused) return
    entry.isRefused = true
    options.onRefused({ ...refusal, address: entry.address })
  }

  const refuse = (socket: Socket, entry: Entry, refusal: Pick<Refusal, "reason" | "detail">) => {
    // a client that goes away before it has said a word is no stranger: load balancers look whether the port is open
    if (!isLeaving && entry.socket.bytesRead > 0) report(entry, refusal)
    socket.destroy()
  }

  /** Closes a connection at once, and says so to its client if HTTP/2 is spoken. */
  const close = ({ served, socket }: Entry) => {
    const session = served?.session
    if (session === undefined || session.destroyed) socket.destroy()
    else end(session)
  }

  const end = (session: ServerHttp2Session) => {
    const { socket } = session
    if (!session.destroyed) session.destroy(undefined, constants.NGHTTP2_NO_ERROR)
    // what the client does not read would keep it open
    setImmediate(guard("session end", () => void socket.destroy()))
  }

  /** Sends GOAWAY, and closes the connection when its calls have ended, or after a second. */
  const endSoon = (session: ServerHttp2Session) => {
    if (session.destroyed) return
    session.close()
    const timer = setTimeout(
      guard("session end timer", () => end(session)),
      closeTimeout
    ).unref()
    session.once("close", () => clearTimeout(timer))
  }

  /** What is known of a socket; nothing if it has been closed since, or is too late: its client will find another server. */
  const entryOf = (socket: Socket): Entry | undefined => {
    const entry = entries.get(keyOf(socket))
    if (entry !== undefined && !isLeaving) return entry
    socket.destroy()
    return undefined
  }

  const serve = (
    socket: Socket,
    entry: Entry,
    names: Peer["names"],
    isAllowed: boolean,
    certificate: ClientCertificate | undefined
  ) => {
    const peer: Peer = { address: entry.address, names }
    const client = clientOf(names, entry.tracked?.group.key ?? "unknown")
    entry.served = {
      connection: { peer, isAllowed, client },
      socket,
      certificate,
      hasBegun: false,
      openStreams: 0,
      endedAt: undefined
    }
    if (entry.tracked !== undefined) table.move(entry.tracked, "unused")
    injector.injectConnection(socket)
  }

  const tls = options.tls === undefined ? undefined : secure(options.tls)
  const listener = createTcpServer(
    { noDelay: true },
    guard("connection listener", accept, { recover: (socket) => void socket.destroy() })
  )

  function secure({ allowedClients, certificates }: Tls): TlsServer {
    const requireClientCertificate = certificates.current().ca !== undefined
    const onSecure = (socket: TLSSocket) => {
      const entry = entryOf(socket)
      if (entry === undefined) return
      if (requireClientCertificate && !socket.authorized) return refuse(socket, entry, whyUnauthorized(socket))
      // OpenSSL refuses who offers other protocols, but not who offers none; HTTP/2 wants it (RFC 9113, section 3.2)
      if (socket.alpnProtocol !== "h2") {
        return refuse(socket, entry, { reason: "not_http2", detail: "it does not offer h2" })
      }
      const certificate = requireClientCertificate ? clientCertificateOf(socket) : undefined
      const why = certificate === undefined ? undefined : whyNotValid(certificate)
      if (why !== undefined) return refuse(socket, entry, { reason: "certificate_expired", detail: why.message })
      const names = requireClientCertificate ? PeerIdentity.subjectAltNames(socket.getPeerCertificate()) : []
      const isAllowed = allowedClients === undefined || PeerIdentity.isAllowed(names, allowedClients)
      if (isAllowed) {
        const peer: Peer = { address: entry.address, names }
        options.onSecured({ peer, version: socket.getProtocol() ?? "unknown", cipher: socket.getCipher().name })
      } else {
        // its first call is answered, with PERMISSION_DENIED
        const detail = `none of its names is allowed: ${PeerIdentity.format(names) || "it has none"}`
        report(entry, { reason: "not_on_the_list", detail })
      }
      serve(socket, entry, names, isAllowed, certificate)
    }
    const server = createTlsServer(
      {
        ...Certificates.secureContextOptions(certificates.current()),
        ALPNProtocols: ["h2"],
        handshakeTimeout,
        requestCert: requireClientCertificate,
        // who has no right certificate is told so by closing the connection, here, where the reason is known
        rejectUnauthorized: false
      },
      guard("TLS connection listener", onSecure, { recover: (socket) => void socket.destroy() })
    )
    const onClientError = (error: Error & { readonly reason?: string }, socket: TLSSocket) => {
      // of one that has been closed by its client nothing is known here any more
      const entry = entries.get(keyOf(socket))
      // OpenSSL's own words, without the place in its source
      const detail = `its TLS handshake failed: ${error.reason ?? error.message}`
      if (entry === undefined) socket.destroy()
      else refuse(socket, entry, { reason: "handshake_failed", detail })
    }
    server.on(
      "tlsClientError",
      guard("TLS error listener", onClientError, { recover: (_, socket) => void socket.destroy() })
    )
    return server
  }

  /** Announces that the connection takes no more calls, and closes it when those that it has have ended. */
  const goAway = (session: ServerHttp2Session) => {
    if (session.destroyed) return
    // its client has said so first, or it has been told already
    if (session.closed) return probe(session)
    session.goaway(constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1)
    const close = guard(
      "GOAWAY timer",
      () => {
        clearTimeout(timer)
        if (!session.destroyed) session.close()
      },
      { recover: () => end(session) }
    )
    const timer = setTimeout(close, roundTripTimeout)
    session.ping(close)
  }

  const probing = new WeakSet<ServerHttp2Session>()

  /**
   * Asks the client of a session that is closing whether it is there, until the session has closed; ends it if there is no answer.
   * A client that breaks HTTP/2 after its GOAWAY leaves a session of Node's that neither answers nor closes, with its calls.
   * Empty SETTINGS are what is asked: a client has to acknowledge them, and Node sends no PING on a session that is closing.
   */
  const probe = (session: ServerHttp2Session) => {
    if (session.destroyed || probing.has(session)) return
    probing.add(session)
    const next: { timer?: NodeJS.Timeout } = {}
    session.once("close", () => clearTimeout(next.timer))
    const onFailure = { recover: () => end(session) }
    const ask = guard(
      "SETTINGS timer",
      () => {
        if (session.destroyed) return
        next.timer = setTimeout(
          guard("SETTINGS timeout", () => end(session)),
          probeTimeout
        )
        session.settings(
          {},
          guard(
            "SETTINGS callback",
            (error: Error | null) => {
              clearTimeout(next.timer)
              // it is cancelled when the session has ended, of which the last words may still be on their way
              if (session.destroyed) return
              if (error === null) next.timer = setTimeout(ask, probeTimeout)
              else end(session)
            },
            onFailure
          )
        )
      },
      onFailure
    )
    ask()
  }

  /** Ends connections that should not be there any more, and of which nothing else tells. */
  const inspect = (entry: Entry) => {
    const { acceptedAt, served } = entry
    if (served?.session === undefined) return
    const { certificate, hasBegun, session } = served
    if (session.destroyed) {
      // its last words are on their way, unless the client does not take them
      served.endedAt ??= performance.now()
      if (performance.now() - served.endedAt >= lastWordsTimeout) entry.socket.destroy()
      return
    }
    if (!hasBegun && performance.now() - acceptedAt >= handshakeTimeout) {
      refuse(entry.socket, entry, { reason: "not_http2", detail: "it did not begin to speak HTTP/2" })
    }
    if (certificate === undefined || whyNotValid(certificate) === undefined) return
    if (Date.now() >= certificate.notAfter + expiryGrace) end(session)
    else if (!session.closed) goAway(session)
  }

  let inspections: NodeJS.Timeout | undefined
  const startInspections = () => {
    inspections = setInterval(
      guard("inspection timer", () => {
        for (const entry of entries.values()) inspect(entry)
      }),
      inspectionInterval
    ).unref()
  }

  const setCertificates = (certificates: Certificates.Certificates) => {
    tls?.setSecureContext(Certificates.secureContextOptions(certificates))
    const { crl } = certificates
    if (crl === undefined) return
    for (const entry of entries.values()) {
      const { certificate } = entry.served ?? {}
      if (certificate === undefined || !certificate.ids.some((id) => crl.revoked.has(id))) continue
      certificate.isRevoked = true
      report(entry, { reason: "certificate_revoked", detail: "its certificate has been revoked since it connected" })
      close(entry)
    }
  }

  /** Destroys connections on which nothing happens any more, but which their clients do not close. */
  const sweep = () => {
    const idleSince = new Map<Entry, number>()
    const timer = setInterval(
      guard("drain timer", () => {
        for (const entry of entries.values()) {
          const { served, socket } = entry
          const isIdle = (served?.session === undefined || served.session.destroyed) && socket.writableLength === 0
          if (!isIdle) idleSince.delete(entry)
          else if (!idleSince.has(entry)) idleSince.set(entry, performance.now())
          else if (performance.now() - idleSince.get(entry)! >= closeTimeout) socket.destroy()
        }
        if (entries.size === 0) clearInterval(timer)
      }),
      closeTimeout / 10
    )
  }

  const listenTo = (listenOptions: ListenOptions, host: string) =>
    Effect.callback<Address.Address, ListenError>((resume) => {
      const onError = (cause: Error) => {
        listener.off("listening", onListening)
        resume(Effect.fail(fromCause({ ...listenOptions, host }, cause)))
      }
      const onListening = () => {
        listener.off("error", onError)
        startInspections()
        // what comes after is of one connection that could not be accepted
        listener.on("error", guard("listening socket error listener", options.onAcceptError))
        const address = listener.address()
        const port = address !== null && typeof address === "object" ? address.port : listenOptions.port
        resume(Effect.succeed({ host, port }))
      }
      listener.once("error", onError)
      listener.once("listening", onListening)
      listener.listen(listenOptions.port, host)
    })

  return {
    listen: (listenOptions) => {
      if (listenOptions.host !== undefined) return listenTo(listenOptions, listenOptions.host)
      // "::" is every address of both families; a machine without IPv6 does not know it
      return listenTo(listenOptions, "::").pipe(
        Effect.catchIf(
          ({ cause }) => /EAFNOSUPPORT|EADDRNOTAVAIL|EINVAL/.test(String(cause)),
          () => listenTo(listenOptions, "0.0.0.0")
        )
      )
    },
    of: (stream) => servedOf(stream)?.connection,
    setCertificates,
    counts: () => ({ open: table.size(), handshakes: table.handshakes() }),
    leave: () => {
      isLeaving = true
      listener.close()
      for (const { served, socket } of entries.values()) {
        // its handshake is not over, or it has not said that it speaks HTTP/2: no call is lost
        if (served === undefined || socket.bytesRead === 0) socket.destroy()
        else if (served.session !== undefined) goAway(served.session)
      }
      if (entries.size === 0) onEmpty()
      else sweep()
    },
    onEmpty: (callback) => {
      onEmpty = callback
    },
    destroy: () => {
      clearInterval(inspections)
      for (const { served, socket } of entries.values()) {
        if (served?.session === undefined) socket.destroy()
        else {
          served.session.destroy(undefined, constants.NGHTTP2_CANCEL)
          socket.destroySoon()
        }
      }
      injector.destroy()
    }
  }
}

/** Why connections are closed at the limits, for metrics, and in words. */
const evictions = {
  maxConnections: "too_many_connections",
  maxConnectionsPerAddress: "too_many_connections_of_address",
  maxHandshakes: "too_many_handshakes",
  maxHandshakesPerAddress: "too_many_handshakes_of_address"
} as const satisfies Record<ConnectionTable.Limit, Refusal["reason"]>

const inWords = {
  handshake: "in its TLS handshake",
  unused: "without a call",
  idle: "without a call",
  busy: "with calls"
} as const satisfies Record<ConnectionTable.State, string>

const limitNames = {
  maxConnections: "connections are the limit",
  maxConnectionsPerAddress: "connections of one address are the limit",
  maxHandshakes: "TLS handshakes are the limit",
  maxHandshakesPerAddress: "TLS handshakes of one address are the limit"
} as const satisfies Record<ConnectionTable.Limit, string>

/** {@link Connection.client}. */
export const clientOf = (names: Peer["names"], network: string): string =>
  [PeerIdentity.format(names.toSorted((one, other) => compare(textOf(one), textOf(other)))), network]
    .filter((part) => part !== "")
    .join(" ")

const textOf = ({ type, value }: PeerIdentity.SubjectAltName): string => `${type}:${value}`

const compare = (one: string, other: string): number => (one < other ? -1 : one > other ? 1 : 0)

/** How many certificates a chain may have here; OpenSSL takes 100. */
const maxChain = 20

const clientCertificateOf = (socket: TLSSocket): ClientCertificate => {
  let notAfter = Infinity
  const ids: Array<RevocationList.CertificateId> = []
  let certificate = socket.getPeerX509Certificate()
  while (certificate !== undefined && ids.length < maxChain) {
    notAfter = Math.min(notAfter, Certificates.notAfterOf(certificate))
    ids.push(RevocationList.certificateId(certificate))
    const issuerCertificate: X509Certificate | undefined = certificate.issuerCertificate
    certificate = issuerCertificate?.fingerprint256 === certificate.fingerprint256 ? undefined : issuerCertificate
  }
  return { notAfter, ids, isRevoked: false }
}

/** Why a certificate that was accepted in the handshake does not do any more. */
const whyNotValid = ({ isRevoked, notAfter }: ClientCertificate): Status.Status | undefined =>
  // the whole of the last second counts (RFC 5280, section 4.1.2.5)
  isRevoked ? revoked : Date.now() >= notAfter + 1000 ? expired : undefined

/**
 * A server of HTTP/2 whose connections are given to it, and whose calls grpc-js answers. grpc-js keeps that server and its
 * options to itself, but there is no other way to set the limits of its connections, or to have their sessions.
 */
const createInjector = (server: GrpcJsServer, options: ServerOptions) => {
  const { commonServerOptions, http2Servers } = server as unknown as {
    readonly commonServerOptions: ServerOptions
    readonly http2Servers: ReadonlyMap<Http2Server, unknown>
  }
  Object.assign(commonServerOptions, options)
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const [http2] = http2Servers.keys()
  if (http2 === undefined) throw new Error("grpc-js has no HTTP/2 server for its injector")
  return { http2, injector }
}

/** What OpenSSL's errors are to metrics. */
const reasons: { readonly [error: string]: Refusal["reason"] } = {
  CERT_HAS_EXPIRED: "certificate_expired",
  CERT_REVOKED: "certificate_revoked"
}

const whyUnauthorized = (socket: TLSSocket): Pick<Refusal, "reason" | "detail"> => {
  const certificate = socket.getPeerCertificate()
  if (Object.keys(certificate).length === 0) return { reason: "no_certificate", detail: "it has no certificate" }
  const error = String(socket.authorizationError)
  // whatever a stranger has written there stays on its line
  const who =
    PeerIdentity.format(PeerIdentity.subjectAltNames(certificate)) ||
    PeerIdentity.format([{ type: "CN", value: [certificate.subject.CN ?? "nobody"].flat().join() }])
  return {
    reason: reasons[error] ?? "certificate_untrusted",
    detail: `its certificate, of ${who}, is not accepted: ${error}`
  }
}
