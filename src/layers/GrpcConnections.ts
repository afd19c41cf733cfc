/**
 * The connections of a gRPC server, from the moment they are accepted to the moment they are closed.
 *
 * grpc-js answers calls, and gets its connections from here, because a server that is replaced without its clients noticing
 * has to know each of them: one that has sent nothing yet, one in the middle of its TLS handshake, one that never closes. And
 * because HTTP/2 takes two steps to leave (RFC 9113, section 6.8): first a GOAWAY that announces it, with which calls that
 * are on their way are still answered, and a round trip later the one that names the last call. grpc-js takes both at once.
 */
import {
  constants,
  type Http2Server,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions
} from "node:http2"
import { createServer as createTcpServer, type Server as TcpServer, type Socket } from "node:net"
import { createServer as createTlsServer, type Server as TlsServer, type TLSSocket } from "node:tls"

import { type Server as GrpcJsServer, ServerCredentials } from "@grpc/grpc-js"
import { Duration, Effect } from "effect"

import * as Address from "./Address.ts"
import * as Certificates from "./Certificates.ts"
import type { Peer } from "./GrpcCall.ts"
import { fromCause, type ListenError, type ListenOptions } from "./ListenError.ts"
import * as PeerIdentity from "./PeerIdentity.ts"

/** What a connection may ask for, and how long it lasts. */
export interface Options {
  /** Calls that are open at the same time on one connection; a client waits before it opens more. */
  readonly maxConcurrentStreams: number
  /** The headers of one call, in bytes as HTTP/2 counts them (RFC 9113, section 6.5.2). */
  readonly maxHeaderSize: number
  /** After this long, give or take a tenth, a client is told to connect again: to find replicas that are newer. */
  readonly maxConnectionAge: Duration.Duration
  /** What TLS is spoken with: undefined is plaintext. */
  readonly tls?: Tls | undefined
  /** Told of a connection that is not served. */
  readonly onRefused: (refusal: Refusal) => void
  /** Told of a connection over TLS that is served. */
  readonly onSecured: (secured: Secured) => void
  /** Told of each stream right before grpc-js is. */
  readonly onEntering: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void
  /** Told of each stream, after grpc-js. */
  readonly onStream: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void
}

export interface Tls {
  /** With authorities, a client without a certificate from one of them is not served. */
  readonly certificates: Certificates.Watched
  /** The names of the clients that may call: undefined is every one that has such a certificate. */
  readonly allowedClients?: ReadonlySet<string> | undefined
}

/** Why a connection is not served: one of few words, for metrics; and what there is to say besides, for the log. */
export interface Refusal {
  readonly reason:
    | "no_certificate"
    | "certificate_expired"
    | "certificate_untrusted"
    | "not_on_the_list"
    | "not_http2"
    | "handshake_failed"
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
  readonly client: string
  /** Whether it may call: it has no name on the list if not. */
  readonly isAllowed: boolean
}

/** What tells one connection from another. */
interface ConnectionInfo {
  readonly remoteAddress?: string | undefined
  readonly remotePort?: number | undefined
  readonly localAddress?: string | undefined
}

export interface GrpcConnections {
  readonly listen: (options: ListenOptions) => Effect.Effect<Address.Address, ListenError>
  /** The connection of a call; undefined if it was not served, or has been closed. */
  readonly of: (stream: ServerHttp2Stream) => Connection | undefined
  /** Takes other certificates for the handshakes to come. */
  readonly setCertificates: (certificates: Certificates.Certificates) => void
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

interface Entry {
  readonly socket: Socket
  readonly address: string
  /** Whether {@link Options.onRefused} knows of it, which is told once. */
  isRefused: boolean
  /** There once the connection is served. */
  served?: { readonly connection: Connection; readonly socket: Socket; session?: ServerHttp2Session }
}

/** Ports are not enough: a client may use one of its own for two addresses of ours. */
const keyOf = ({ localAddress, remoteAddress, remotePort }: ConnectionInfo): string =>
  `${remoteAddress} ${remotePort} ${localAddress}`

const addressOf = ({ remoteAddress, remotePort }: ConnectionInfo): string =>
  remoteAddress === undefined
    ? "unknown"
    : Address.format({ host: Address.unmapped(remoteAddress), port: remotePort ?? 0 })

export const make = (server: GrpcJsServer, options: Options): GrpcConnections => {
  const { http2, injector } = createInjector(server, {
    settings: { maxConcurrentStreams: options.maxConcurrentStreams, maxHeaderListSize: options.maxHeaderSize },
    ...resets,
    // A client that keeps to the limit of streams still exceeds it in Node's eyes, which count a stream until its events have
    // been handled. Such a stream is refused (ENHANCE_YOUR_CALM); after a hundred Node would close the connection too.
    maxSessionRejectedStreams: maxUint32
  })
  http2.prependListener("stream", options.onEntering)
  http2.on("stream", options.onStream)
  const entries = new Map<string, Entry>()
  /** Those that are served and open; what a call knows of its connection is the session. */
  const connections = new Map<Http2Session, Connection>()
  let isLeaving = false
  let onEmpty = () => {}

  http2.on("session", (session: ServerHttp2Session) => {
    const { served } = entries.get(keyOf(session.socket)) ?? {}
    if (served === undefined) return
    served.session = session
    // Node makes a Proxy of it, by which it takes a microsecond to ask for an address, and grpc-js asks for four at each call
    Object.defineProperty(session, "socket", { value: served.socket })
    connections.set(session, served.connection)
    session.once("close", () => connections.delete(session))
    if (isLeaving) return goAway(session)
    const age = Duration.toMillis(options.maxConnectionAge)
    if (!Number.isFinite(age)) return
    const timer = setTimeout(() => goAway(session), age * (0.9 + Math.random() / 5)).unref()
    session.once("close", () => clearTimeout(timer))
  })

  const accept = (socket: Socket) => {
    const key = keyOf(socket)
    const entry: Entry = { socket, address: addressOf(socket), isRefused: false }
    entries.set(key, entry)
    socket.once("close", () => {
      // another connection may have come from the same port since
      if (entries.get(key) === entry) entries.delete(key)
      if (entry.served === undefined) {
        refuse(socket, entry, { reason: "handshake_failed", detail: "it left its TLS handshake" })
      }
      if (isLeaving && entries.size === 0) onEmpty()
    })
  }

  const refuse = (socket: Socket, entry: Entry, refusal: Pick<Refusal, "reason" | "detail">) => {
    // a client that goes away before it has said a word is no stranger: load balancers look whether the port is open
    if (!entry.isRefused && !isLeaving && entry.socket.bytesRead > 0) {
      entry.isRefused = true
      options.onRefused({ ...refusal, address: entry.address })
    }
    socket.destroy()
  }

  /** What is known of a socket; nothing if it has been closed since, or is too late: its client will find another server. */
  const entryOf = (socket: Socket): Entry | undefined => {
    const entry = entries.get(keyOf(socket))
    if (entry !== undefined && !isLeaving) return entry
    socket.destroy()
    return undefined
  }

  const serve = (socket: Socket, entry: Entry, peer: Peer, isAllowed: boolean) => {
    entry.served = { connection: { peer, client: peer.address, isAllowed }, socket }
    injector.injectConnection(socket)
  }

  const tls = options.tls === undefined ? undefined : secure(options.tls)
  const listener: TcpServer = tls ?? plaintext()
  // before the listener that serves it
  listener.prependListener("connection", accept)

  function plaintext(): TcpServer {
    return createTcpServer({ noDelay: true }, (socket) => {
      const entry = entryOf(socket)
      if (entry !== undefined) serve(socket, entry, { address: entry.address, names: [] }, true)
    })
  }

  function secure({ allowedClients, certificates }: Tls): TlsServer {
    const requireClientCertificate = certificates.current().ca !== undefined
    const server = createTlsServer(
      {
        ...Certificates.secureContextOptions(certificates.current()),
        ALPNProtocols: ["h2"],
        handshakeTimeout,
        noDelay: true,
        requestCert: requireClientCertificate,
        // who has no right certificate is told so by closing the connection, here, where the reason is known
        rejectUnauthorized: false
      },
      (socket) => {
        const entry = entryOf(socket)
        if (entry === undefined) return
        if (requireClientCertificate && !socket.authorized) return refuse(socket, entry, whyUnauthorized(socket))
        // OpenSSL refuses who offers other protocols, but not who offers none; HTTP/2 wants it (RFC 9113, section 3.2)
        if (socket.alpnProtocol !== "h2") {
          return refuse(socket, entry, { reason: "not_http2", detail: "it does not offer h2" })
        }
        const names = requireClientCertificate ? PeerIdentity.subjectAltNames(socket.getPeerCertificate()) : []
        const isAllowed = allowedClients === undefined || PeerIdentity.isAllowed(names, allowedClients)
        const peer: Peer = { address: entry.address, names }
        if (isAllowed) {
          options.onSecured({ peer, version: socket.getProtocol() ?? "unknown", cipher: socket.getCipher().name })
        } else {
          // its calls are answered, with PERMISSION_DENIED
          const detail = `none of its names is allowed: ${PeerIdentity.format(names) || "it has none"}`
          options.onRefused({ reason: "not_on_the_list", address: entry.address, detail })
        }
        serve(socket, entry, peer, isAllowed)
      }
    )
    server.on("tlsClientError", (error: Error & { readonly reason?: string }, socket) => {
      // of one that has been closed by its client nothing is known here any more
      const entry = entries.get(keyOf(socket as TLSSocket))
      // OpenSSL's own words, without the place in its source
      const detail = `its TLS handshake failed: ${error.reason ?? error.message}`
      if (entry === undefined) socket.destroy()
      else refuse(socket as TLSSocket, entry, { reason: "handshake_failed", detail })
    })
    return server
  }

  /** Announces that the connection takes no more calls, and closes it when those that it has have ended. */
  const goAway = (session: ServerHttp2Session) => {
    if (session.destroyed || session.closed) return
    session.goaway(constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1)
    const close = () => {
      clearTimeout(timer)
      if (!session.destroyed) session.close()
    }
    const timer = setTimeout(close, roundTripTimeout)
    session.ping(close)
  }

  /** Destroys connections on which nothing happens any more, but which their clients do not close. */
  const sweep = () => {
    const idleSince = new Map<Entry, number>()
    const timer = setInterval(() => {
      for (const entry of entries.values()) {
        const { served, socket } = entry
        const isIdle = (served?.session === undefined || served.session.destroyed) && socket.writableLength === 0
        if (!isIdle) idleSince.delete(entry)
        else if (!idleSince.has(entry)) idleSince.set(entry, performance.now())
        else if (performance.now() - idleSince.get(entry)! >= closeTimeout) socket.destroy()
      }
      if (entries.size === 0) clearInterval(timer)
    }, closeTimeout / 10)
  }

  const listenTo = (listenOptions: ListenOptions, host: string) =>
    Effect.callback<Address.Address, ListenError>((resume) => {
      const onError = (cause: Error) => {
        listener.off("listening", onListening)
        resume(Effect.fail(fromCause({ ...listenOptions, host }, cause)))
      }
      const onListening = () => {
        listener.off("error", onError)
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
    of: ({ session }) => (session === undefined ? undefined : connections.get(session)),
    setCertificates: (certificates) => tls?.setSecureContext(Certificates.secureContextOptions(certificates)),
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

const whyUnauthorized = (socket: TLSSocket): Pick<Refusal, "reason" | "detail"> => {
  const certificate = socket.getPeerCertificate()
  if (Object.keys(certificate).length === 0) return { reason: "no_certificate", detail: "it has no certificate" }
  const error = String(socket.authorizationError)
  // whatever a stranger has written there stays on its line
  const who =
    PeerIdentity.format(PeerIdentity.subjectAltNames(certificate)) ||
    PeerIdentity.format([{ type: "CN", value: [certificate.subject.CN ?? "nobody"].flat().join() }])
  return {
    reason: error === "CERT_HAS_EXPIRED" ? "certificate_expired" : "certificate_untrusted",
    detail: `its certificate, of ${who}, is not accepted: ${error}`
  }
}
