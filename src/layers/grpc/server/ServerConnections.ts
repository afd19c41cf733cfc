/**
 * The connections of a gRPC server: accepts them, limits them, passes them to grpc-js, and drains them.
 *
 * grpc-js does not track connections that have sent nothing yet, are in their TLS handshake, or are never closed by their clients, but
 * a drain must close them.
 */
import { constants, type Http2Session, type ServerHttp2Session, type ServerOptions } from "node:http2"
import { createServer, type Socket } from "node:net"

import type { Server as GrpcJsServer } from "@grpc/grpc-js"
import { Duration, type Effect } from "effect"

import * as Address from "../../config/Address.ts"
import * as IpNetworks from "../../config/IpNetworks.ts"
import type { ListenError, ListenOptions } from "../../process/ListenError.ts"
import type { Guard } from "../../telemetry/CallbackGuard.ts"
import type * as Certificates from "../../tls/Certificates.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import * as InjectorServer from "../grpc-js/InjectorServer.ts"
import type { Peer } from "../GrpcCall.ts"
import type { Tls } from "../GrpcServer.ts"
import * as Status from "../Status.ts"
import * as ClientCertificate from "./ClientCertificate.ts"
import { evicted, type Refusal } from "./ConnectionRefusal.ts"
import * as ConnectionTable from "./ConnectionTable.ts"
import * as SessionShutdown from "./SessionShutdown.ts"
import * as StreamGate from "./StreamGate.ts"
import * as TcpListener from "./TcpListener.ts"
import * as TlsAcceptor from "./TlsAcceptor.ts"

/** The limits of connections, and the callbacks for their events. */
export interface Options {
  /** Open calls of one connection; further calls wait in the client. */
  readonly maxConcurrentStreams: number
  /** The headers of one call, in bytes as HTTP/2 counts them (RFC 9113, section 6.5.2). */
  readonly maxHeaderSize: number
  /** The age, plus or minus a tenth, at which a connection gets GOAWAY, so that its client finds new replicas. */
  readonly maxConnectionAge: Duration.Duration
  /** Open connections. */
  readonly maxConnections: number
  /** Open connections of one client address; an IPv6 /64 counts as one address. */
  readonly maxConnectionsPerAddress: number
  /** Plaintext if undefined. */
  readonly tls?: Tls | undefined
  /** Wraps every callback that is registered with Node. */
  readonly guard: Guard
  /** Called at most once for each connection that is refused or closed. */
  readonly onRefused: (refusal: Refusal, address: string) => void
  /** Called for each connection over TLS that is served. */
  readonly onSecured: (secured: Secured) => void
  /** Called for each connection that could not be accepted. */
  readonly onAcceptError: (error: Error) => void
  /** Receives the streams of all connections. */
  readonly calls: StreamGate.Calls
}

/** The outcome of a TLS handshake. */
export interface Secured {
  readonly peer: Peer
  /** Such as "TLSv1.3". */
  readonly version: string
  readonly cipher: string
}

/** The addresses that identify a connection. */
interface ConnectionInfo {
  readonly remoteAddress?: string | undefined
  readonly remotePort?: number | undefined
  readonly localAddress?: string | undefined
}

const maxUint32 = 2 ** 32 - 1

/** How long a client may take for its TLS handshake and for HTTP/2's SETTINGS, in milliseconds. */
const handshakeTimeout = 10_000

/** The share of all connections, and of those of one address, that may be in their TLS handshake. */
const handshakeShare = 0.5

/** How often connections are inspected, in milliseconds. */
const inspectionInterval = 1_000

/** How often connections are inspected in a drain, in milliseconds. */
const drainInspectionInterval = 100

/** How long calls may continue after the certificate of their client has expired, in milliseconds. */
const expiryGrace = 10_000

/** How long a client may take to read pending data after the session ended, in milliseconds. */
const flushTimeout = 5_000

/** How long a client that has read all data may leave the connection open in a drain, in milliseconds. */
const drainCloseTimeout = 1_000

const sessionOptions = (options: Options): ServerOptions => ({
  settings: { maxConcurrentStreams: options.maxConcurrentStreams, maxHeaderListSize: options.maxHeaderSize },
  // How many streams a client may cancel on one connection, at once and each second. Node's default, made against rapid resets
  // (CVE-2023-44487), is 33 a second: a client that cancels a call whenever a user leaves a page or an attempt times out would lose its
  // connection with all other calls on it. Cancelled calls are bounded by the other limits.
  streamResetBurst: 10_000,
  streamResetRate: 10_000,
  // A client within the limit of streams may exceed it in Node's count, which includes streams until their events have been handled. Such
  // a stream is refused (ENHANCE_YOUR_CALM); after a hundred of them Node would close the connection.
  maxSessionRejectedStreams: maxUint32,
  // Node resets a stream with more headers without an event: StreamGate refuses those above its own, lower limit
  maxHeaderListPairs: 1024
})

/** A connection that was accepted. */
class Accepted {
  readonly socket: Socket
  readonly address: string
  readonly acceptedAt = performance.now()
  tracked: ConnectionTable.Tracked<Accepted> | undefined = undefined
  /** Whether {@link Options.onRefused} was called. */
  isRefused = false
  /** Set when it is passed to grpc-js. */
  served: Served | undefined = undefined

  constructor(socket: Socket) {
    this.socket = socket
    this.address = addressOf(socket)
  }
}

/** A connection that was passed to grpc-js. */
interface Served extends StreamGate.Connection {
  readonly accepted: Accepted
  readonly tracked: ConnectionTable.Tracked<Accepted>
  readonly certificate: ClientCertificate.ClientCertificate | undefined
  session: ServerHttp2Session | undefined
  /** Whether the client has sent its SETTINGS. */
  hasBegun: boolean
  /** When the session was first seen to have ended before its connection, by `performance.now()`. */
  endedAt: number | undefined
}

const notAllowed = Status.permissionDenied("This client may not call this server")

export class ServerConnections {
  readonly #options: Options
  readonly #accepted = new Map<string, Accepted>()
  readonly #sessions = new Map<Http2Session, Served>()
  readonly #table: ConnectionTable.ConnectionTable<Accepted>
  readonly #shutdown: SessionShutdown.SessionShutdown
  readonly #injector: ReturnType<GrpcJsServer["createConnectionInjector"]>
  readonly #listener: ReturnType<typeof createServer>
  readonly #tls: TlsAcceptor.TlsAcceptor | undefined
  #inspections: NodeJS.Timeout | undefined
  #state: "serving" | "draining" = "serving"
  #onEmpty = () => {}

  constructor(server: GrpcJsServer, options: Options) {
    const { guard, tls } = options
    this.#options = options
    this.#shutdown = SessionShutdown.make(guard)
    this.#table = this.#makeTable()
    const { http2, injector } = InjectorServer.create(server, sessionOptions(options))
    this.#injector = injector
    http2.on("sessionError", guard("session error listener", this.#onSessionError))
    http2.on("session", guard("session listener", this.#onSession, { recover: (session) => session.destroy() }))
    StreamGate.install(http2, {
      maxHeaderSize: options.maxHeaderSize,
      guard,
      calls: options.calls,
      connections: this.#sessions,
      onUsed: ({ tracked }) => this.#table.move(tracked, "used"),
      onNotAllowed: ({ session }) => {
        if (session !== undefined) this.#shutdown.endSoon(session as ServerHttp2Session)
      }
    })
    this.#tls = tls === undefined ? undefined : this.#makeTlsAcceptor(tls)
    this.#listener = createServer(
      { noDelay: true },
      guard("connection listener", this.#accept, { recover: (socket) => void socket.destroy() })
    )
  }

  /** Opens the port. */
  listen(options: ListenOptions): Effect.Effect<Address.Address, ListenError> {
    const { guard, onAcceptError } = this.#options
    this.#inspect(inspectionInterval)
    return TcpListener.listen(this.#listener, options, guard("listening socket error listener", onAcceptError))
  }

  /** How many connections are open, and how many of them are in their TLS handshake. */
  counts(): { readonly open: number; readonly handshakes: number } {
    return { open: this.#table.size(), handshakes: this.#table.handshakes() }
  }

  /** Sets the certificates of later handshakes, and closes connections whose client certificate has been revoked. */
  setCertificates(certificates: Certificates.Certificates): void {
    this.#tls?.setCertificates(certificates)
    const { crl } = certificates
    if (crl === undefined) return
    for (const accepted of this.#accepted.values()) {
      const certificate = accepted.served?.certificate
      if (certificate === undefined || !certificate.ids.some((id) => crl.revoked.has(id))) continue
      certificate.isRevoked = true
      const detail = "client certificate revoked after the handshake"
      this.#report(accepted, { reason: "certificate_revoked", detail })
      this.#close(accepted)
    }
  }

  /** Stops accepting, and gracefully shuts down open connections. `onEmpty` is called when none is left. */
  drain(onEmpty: () => void): void {
    this.#state = "draining"
    this.#onEmpty = onEmpty
    this.#listener.close()
    for (const { served, socket } of this.#accepted.values()) {
      // nothing was received, so no call is lost
      if (served === undefined || socket.bytesRead === 0) socket.destroy()
      else if (served.session !== undefined) this.#goAway(served, served.session)
    }
    if (this.#accepted.size === 0) onEmpty()
    else this.#inspect(drainInspectionInterval)
  }

  /** Closes the remaining connections with the calls on them. */
  destroy(): void {
    clearInterval(this.#inspections)
    for (const { served, socket } of this.#accepted.values()) {
      if (served?.session === undefined) socket.destroy()
      else {
        served.session.destroy(undefined, constants.NGHTTP2_CANCEL)
        socket.destroySoon()
      }
    }
    this.#injector.destroy()
  }

  #makeTable(): ConnectionTable.ConnectionTable<Accepted> {
    const { maxConnections, maxConnectionsPerAddress } = this.#options
    const limits: ConnectionTable.Limits = {
      maxConnections,
      maxConnectionsPerAddress,
      maxHandshakes: Math.ceil(maxConnections * handshakeShare),
      maxHandshakesPerAddress: Math.ceil(maxConnectionsPerAddress * handshakeShare)
    }
    return ConnectionTable.make(limits, ({ connection, state }, limit) => {
      this.#report(connection, evicted(limits, limit, state))
      this.#close(connection)
    })
  }

  #makeTlsAcceptor(tls: Tls): TlsAcceptor.TlsAcceptor {
    const { guard, onSecured } = this.#options
    return TlsAcceptor.make({
      ...tls,
      handshakeTimeout,
      guard,
      onSecure: (socket, identity) => {
        const accepted = this.#serve(socket, identity)
        if (accepted?.served === undefined) return
        const { peer } = accepted.served
        if (identity.isAllowed) {
          return onSecured({ peer, version: socket.getProtocol() ?? "unknown", cipher: socket.getCipher().name })
        }
        // its first call is answered with PERMISSION_DENIED
        const names = PeerIdentity.format(identity.names) || "no names"
        this.#report(accepted, { reason: "not_on_the_list", detail: `client is not in the allow list: ${names}` })
      },
      onRefused: (socket, refusal) => {
        const accepted = this.#accepted.get(keyOf(socket))
        if (accepted === undefined) socket.destroy()
        else this.#refuse(socket, accepted, refusal)
      }
    })
  }

  readonly #accept = (socket: Socket) => {
    const key = keyOf(socket)
    const accepted = new Accepted(socket)
    this.#accepted.set(key, accepted)
    const onClose = () => this.#onClose(key, accepted)
    socket.once("close", this.#options.guard("socket close listener", onClose))
    // TLS and HTTP/2 listen for errors only while they own the socket
    socket.on("error", () => {})
    const network = IpNetworks.clientNetwork(socket.remoteAddress ?? "unknown")
    accepted.tracked = this.#table.add(accepted, network, this.#tls === undefined ? "unused" : "handshake")
    if (socket.destroyed) return
    if (this.#tls === undefined) this.#serve(socket, TlsAcceptor.anonymous)
    else this.#tls.accept(socket)
  }

  #onClose(key: string, accepted: Accepted): void {
    // another connection may have come from the same port since
    if (this.#accepted.get(key) === accepted) this.#accepted.delete(key)
    if (accepted.tracked !== undefined) this.#table.remove(accepted.tracked)
    if (accepted.served === undefined) {
      this.#refuse(accepted.socket, accepted, {
        reason: "handshake_failed",
        detail: "the client disconnected during the TLS handshake"
      })
    }
    if (this.#state === "draining" && this.#accepted.size === 0) this.#onEmpty()
  }

  /** Passes a connection to grpc-js, or closes it in a drain, so that its client finds another server. */
  #serve(socket: Socket, { certificate, isAllowed, names }: TlsAcceptor.Identity): Accepted | undefined {
    const accepted = this.#accepted.get(keyOf(socket))
    const tracked = accepted?.tracked
    if (accepted === undefined || tracked === undefined || this.#state === "draining") {
      socket.destroy()
      return undefined
    }
    const served: Served = {
      accepted,
      peer: { address: accepted.address, names },
      client: clientOf(names, tracked.group.key),
      whyNotAllowed:
        isAllowed && certificate === undefined
          ? undefined
          : () => (isAllowed && certificate !== undefined ? ClientCertificate.whyInvalid(certificate) : notAllowed),
      tracked,
      certificate,
      session: undefined,
      hasBegun: false,
      onIdle: undefined,
      endedAt: undefined
    }
    accepted.served = served
    this.#table.move(tracked, "unused")
    this.#injector.injectConnection(socket)
    return accepted
  }

  readonly #onSession = (session: ServerHttp2Session) => {
    const { guard, maxConnectionAge } = this.#options
    const accepted = this.#accepted.get(keyOf(session.socket))
    if (accepted?.served === undefined) return
    const { served } = accepted
    served.session = session
    this.#sessions.set(session, served)
    session.once("close", () => this.#sessions.delete(session))
    session.once("remoteSettings", () => {
      served.hasBegun = true
    })
    const onBug = { recover: () => session.destroy() }
    // Node closes the session when its calls have ended, but does not detect a client that no longer responds
    const onGoAway = () => this.#shutdown.probe(session)
    session.once("goaway", guard("GOAWAY listener", onGoAway, onBug))
    const goAway = () => this.#goAway(served, session)
    if (this.#state === "draining") return goAway()
    const age = Duration.toMillis(maxConnectionAge)
    if (!Number.isFinite(age)) return
    const timer = setTimeout(guard("connection age timer", goAway, onBug), age * (0.9 + Math.random() / 5)).unref()
    session.once("close", () => clearTimeout(timer))
  }

  #goAway(served: Served, session: ServerHttp2Session): void {
    served.onIdle = this.#shutdown.goAway(session, served.tracked.openCalls === 0)
  }

  /** Node and nghttp2 end a session for unknown frames, for floods of PING or SETTINGS, and the like. */
  readonly #onSessionError = (error: NodeJS.ErrnoException, session: ServerHttp2Session) => {
    const served = this.#sessions.get(session)
    if (served === undefined || error.code?.startsWith("ERR_HTTP2") !== true || this.#state === "draining") return
    const detail = `HTTP/2 protocol error or flood: ${error.message}`
    this.#report(served.accepted, { reason: "protocol_error", detail })
  }

  #report(accepted: Accepted, refusal: Refusal): void {
    if (accepted.isRefused) return
    accepted.isRefused = true
    this.#options.onRefused(refusal, accepted.address)
  }

  /**
   * Closes a connection that is not served. In a handshake, `socket` must be the TLS socket: Node 26 crashes if the socket under it is
   * destroyed.
   * A connection on which nothing was received, such as a load balancer's check of the port, is not reported.
   */
  #refuse(socket: Socket, accepted: Accepted, refusal: Refusal): void {
    if (this.#state === "serving" && accepted.socket.bytesRead > 0) this.#report(accepted, refusal)
    socket.destroy()
  }

  /** Closes a connection at once, with a GOAWAY if it has a session. */
  #close({ served, socket }: Accepted): void {
    const session = served?.session
    if (session === undefined || session.destroyed) socket.destroy()
    else this.#shutdown.end(session)
  }

  /** Inspects all connections at an interval, in milliseconds. */
  #inspect(interval: number): void {
    clearInterval(this.#inspections)
    const inspect = () => {
      for (const accepted of this.#accepted.values()) this.#inspectOne(accepted)
    }
    this.#inspections = setInterval(this.#options.guard("inspection timer", inspect), interval).unref()
  }

  /** Closes a connection that has timed out or whose client certificate is no longer valid: neither emits an event. */
  #inspectOne(accepted: Accepted): void {
    const { acceptedAt, served, socket } = accepted
    if (served === undefined) return
    const { certificate, hasBegun, session } = served
    const now = performance.now()
    if (session === undefined || session.destroyed) {
      served.endedAt ??= now
      const isRead = this.#state === "draining" && socket.writableLength === 0
      if (now - served.endedAt >= (isRead ? drainCloseTimeout : flushTimeout)) socket.destroy()
      return
    }
    if (!hasBegun && now - acceptedAt >= handshakeTimeout) {
      this.#refuse(socket, accepted, { reason: "not_http2", detail: "no HTTP/2 SETTINGS received in time" })
    }
    if (certificate === undefined || ClientCertificate.whyInvalid(certificate) === undefined) return
    if (Date.now() >= certificate.notAfter + expiryGrace) this.#shutdown.end(session)
    else if (!session.closed) this.#goAway(served, session)
  }
}

/** Identifies a connection by both addresses: a client may use one port for two addresses of the server. */
const keyOf = ({ localAddress, remoteAddress, remotePort }: ConnectionInfo): string =>
  `${remoteAddress} ${remotePort} ${localAddress}`

const addressOf = ({ remoteAddress, remotePort }: ConnectionInfo): string =>
  remoteAddress === undefined
    ? "unknown"
    : Address.format({ host: Address.unmapped(remoteAddress), port: remotePort ?? 0 })

/** {@link Connection.client}: the names in a fixed order, then the network. */
export const clientOf = (names: Peer["names"], network: string): string =>
  [PeerIdentity.format(names.toSorted((one, other) => compare(textOf(one), textOf(other)))), network]
    .filter((part) => part !== "")
    .join(" ")

const textOf = ({ type, value }: PeerIdentity.SubjectAltName): string => `${type}:${value}`

const compare = (one: string, other: string): number => (one < other ? -1 : one > other ? 1 : 0)
