/**
 * Node's HTTP server with limits: bounded connections, requests and unread responses, checked Host headers, no upgrades, and a metric and
 * a rate-limited log line for every refused request or connection.
 */
import { createServer, IncomingMessage, type Server, ServerResponse } from "node:http"
import type { Socket } from "node:net"

import { NodeHttpServer } from "@effect/platform-node"
import { Duration, Effect, Option, Scope } from "effect"
import type { HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"

import { clientNetwork, type IpNetworks } from "../config/IpNetworks.ts"
import { fromCause, type ListenError, type ListenOptions } from "../process/ListenError.ts"
import * as CallbackGuard from "../telemetry/CallbackGuard.ts"
import * as FileDescriptors from "../telemetry/FileDescriptors.ts"
import * as ConnectionPacer from "./ConnectionPacer.ts"
import * as EdgeMetrics from "./EdgeMetrics.ts"
import * as ForwardedClient from "./ForwardedClient.ts"
import { type Connection, type Exchange, HttpConnections } from "./HttpConnections.ts"
import {
  checkHeaders,
  connectRefusal,
  invalidRequest,
  type LoadShedder,
  makeLoadShedder,
  parseFailures,
  rawResponse,
  type Refusal,
  RequestLimits,
  requestRefusals,
  statusTexts
} from "./RequestAdmission.ts"

export interface Limits {
  /** Open connections. */
  readonly maxConnections: number
  /** Open connections per client address. */
  readonly maxConnectionsPerAddress: Option.Option<number>
  /** Open requests per connection (pipelining). */
  readonly maxRequestsPerConnection: number
  /** Concurrent requests. */
  readonly maxConcurrentRequests: number
  /** Responses that clients have not read yet, over all connections, in bytes. */
  readonly maxUnreadSize: number
  /** How long a client may read no byte of a response. */
  readonly unreadTimeout: Duration.Duration
  /** How long a client may take to send a request with its body. */
  readonly requestTimeout: Duration.Duration
  /** How long a connection may be idle between two requests. */
  readonly keepAliveTimeout: Duration.Duration
}

export const defaultLimits: Limits = {
  maxConnections: 4_000,
  maxConnectionsPerAddress: Option.none(),
  maxRequestsPerConnection: 8,
  maxConcurrentRequests: 200,
  maxUnreadSize: 16 * 1024 * 1024,
  unreadTimeout: Duration.seconds(20),
  requestTimeout: Duration.seconds(60),
  keepAliveTimeout: Duration.seconds(620)
}

export interface Options {
  /** Names the server in metrics and log lines. */
  readonly name: string
  readonly limits: Limits
  readonly trustedProxies: IpNetworks
  /** Headers of the responses to refused requests. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Returns whether a host (the Host header without its port) is served; others are answered 421. Every host by default. */
  readonly servesHost?: ((host: string) => boolean) | undefined
  /** Called for each request that was parsed and refused, after its response. By default such requests are counted and logged here. */
  readonly onRefused?: ((request: EdgeRequest, status: number, reason: string) => void) | undefined
}

/** A request with its client, also behind trusted proxies. */
export class EdgeRequest extends IncomingMessage {
  client: ForwardedClient.Client | undefined = undefined
  readonly startedAt = performance.now()
}

/** A response that reports its end, and is written in one write. */
class EdgeResponse<Request extends IncomingMessage> extends ServerResponse<Request> {
  /** Called with the size of the last chunk of the body, in bytes, before it is written. */
  declare onEnd?: (size: number) => void

  override end(...args: Array<unknown>): this {
    const [chunk] = args
    this.onEnd?.(typeof chunk === "string" || chunk instanceof Uint8Array ? chunk.length : 0)
    // Effect sets this flag, with which Node compares the size of the body with Content-Length, which Effect has computed itself, and writes
    // the head, the body and the end separately. Without it the response is the same (docs/decisions/0017-what-makes-a-call-cheap.md).
    this.strictContentLength = false
    // the overloads of end have no common type
    return (super.end as (...args: ReadonlyArray<unknown>) => this).apply(this, args)
  }
}

type Response = InstanceType<typeof EdgeResponse<EdgeRequest>>

/** How often unread responses are checked, in milliseconds. */
const sweepPeriod = 1_000

/** Creates a server that does not listen yet. Its timers stop when the scope closes. */
export const make = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<HttpEdge, never, Scope.Scope> {
  const { limits, name, onRefused } = options
  const context = yield* Effect.context<never>()
  const guard = CallbackGuard.make(context)
  const maxConnections = yield* withinDescriptors(name, limits.maxConnections)
  const repeat = (callbackName: string) => (callback: () => void, period: number) => {
    const timer = setInterval(guard(callbackName, callback), period).unref()
    return { close: () => clearInterval(timer) }
  }
  const shedder = makeLoadShedder(limits.maxConcurrentRequests, {
    every: repeat("load shedding"),
    afterTurn: setImmediate
  })
  const edge = new HttpEdge(
    { ...options, limits: { ...limits, maxConnections } },
    shedder,
    yield* EdgeMetrics.makeRefusals(name, onRefused === undefined, context),
    guard
  )
  const { connections } = edge
  const sweeping = repeat("unread responses")(() => connections.sweep(), sweepPeriod)
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      shedder.close()
      sweeping.close()
    })
  )
  yield* EdgeMetrics.observe(name, {
    connections: () => connections.counts.connections,
    maxConnections,
    requestLimit: () => shedder.counts().limit,
    unreadSize: () => connections.counts.unreadSize
  })
  return edge
})

/** Listens until the scope closes, which closes all connections. */
export const listen = (
  { server }: HttpEdge,
  options: ListenOptions
): Effect.Effect<HttpServer.HttpServer["Service"], ListenError, Scope.Scope> =>
  NodeHttpServer.make(() => server as unknown as Server, {
    port: options.port,
    host: options.host,
    disablePreemptiveShutdown: true
  }).pipe(
    Effect.mapError(({ cause }) => fromCause(options, cause)),
    // runs before Effect's finalizer, which waits for connections
    Effect.tap(Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections())))
  )

/**
 * Serves an app until the scope closes, which interrupts the app. Effect's own `serve` also listens for upgrades; Node would then detach
 * upgraded connections.
 */
export const serveApp = Effect.fnUntraced(function* <R>(
  edge: HttpEdge,
  app: Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest | R>
): Effect.fn.Return<void, never, Scope.Scope | Exclude<R, HttpServerRequest.HttpServerRequest | Scope.Scope>> {
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  yield* edge.serve(yield* NodeHttpServer.makeHandler(app, { scope }))
})

export class HttpEdge {
  readonly server: Server<typeof EdgeRequest, typeof EdgeResponse>
  readonly connections: HttpConnections
  readonly #options: Options
  readonly #requestLimits: RequestLimits
  readonly #pacer: ConnectionPacer.ConnectionPacer
  readonly #refusals: EdgeMetrics.Refusals
  readonly #guard: CallbackGuard.Guard
  #state: "serving" | "draining" = "serving"

  constructor(options: Options, shedder: LoadShedder, refusals: EdgeMetrics.Refusals, guard: CallbackGuard.Guard) {
    const { limits } = options
    const maxPerAddress = Option.getOrUndefined(limits.maxConnectionsPerAddress)
    this.#options = options
    this.#refusals = refusals
    this.#guard = guard
    this.#requestLimits = new RequestLimits(shedder, maxPerAddress)
    this.#pacer = ConnectionPacer.make({
      after: (callback, millis) => void setTimeout(guard("paced HTTP connection", callback), millis).unref(),
      now: () => performance.now()
    })
    this.connections = new HttpConnections(
      {
        maxConnections: limits.maxConnections,
        maxConnectionsPerAddress: maxPerAddress,
        maxRequestsPerConnection: limits.maxRequestsPerConnection,
        maxUnreadSize: limits.maxUnreadSize,
        unreadTimeout: Duration.toMillis(limits.unreadTimeout),
        trustedProxies: options.trustedProxies
      },
      {
        onClosed: (reason, connection) => {
          // the connections of a proxy belong to many clients
          if (reason === "pipelining" && !connection.isProxy) this.#onFlood(connection)
          refusals.connection(reason, connection.peer)
        },
        onRefused: (reason, peer) => refusals.connection(reason, peer)
      }
    )
    this.server = makeServer(limits)
    this.#listen()
  }

  /** Passes the requests that are not refused to a handler until the scope closes. */
  serve(
    handler: (request: IncomingMessage, response: ServerResponse) => void
  ): Effect.Effect<void, never, Scope.Scope> {
    const onRequest = (request: EdgeRequest, response: Response) => {
      try {
        if (this.#admit(request, response)) handler(request, response)
      } catch (exception) {
        const { method, url } = request
        this.#guard.onException("HTTP request", exception, {
          annotations: () => ({ method, path: url?.split("?")[0] }),
          recover: () => destroyRequest(request)
        })
      }
    }
    // Request bodies are not read, so a request with `Expect: 100-continue` is answered without 100 Continue. Its client need not send the
    // body then (RFC 9110, section 10.1.1), and Node closes the connection after the response.
    return Effect.acquireRelease(
      Effect.sync(() => void this.server.on("request", onRequest).on("checkContinue", onRequest)),
      () => Effect.sync(() => void this.server.off("request", onRequest).off("checkContinue", onRequest))
    )
  }

  /** From now on, closes connections after their next response. */
  drain(): void {
    this.#state = "draining"
    this.connections.closeAfterResponses()
  }

  #listen(): void {
    const guard = this.#guard
    const { server } = this
    const destroy = (socket: Socket) => void socket.destroy()
    server.on("connection", guard("HTTP connection", this.#onConnection, { recover: destroy }))
    server.on(
      "clientError",
      guard("HTTP client error", (error, socket) => this.#onClientError(error, socket as Socket), {
        recover: (_error, socket) => destroy(socket as Socket)
      })
    )
    server.on(
      "connect",
      guard("HTTP CONNECT", (request, socket) => this.#onConnect(request, socket as Socket), {
        recover: (_request, socket) => destroy(socket as Socket)
      })
    )
    server.on(
      "checkExpectation",
      guard(
        "HTTP expectation",
        (request, response) => void this.#admit(request, response, requestRefusals.expectation),
        { recover: (request) => destroyRequest(request) }
      )
    )
    // accept() fails when descriptors run out; the server resumes when some are free
    const onError = (error: NodeJS.ErrnoException) => {
      if (server.listening) this.#refusals.connection(EdgeMetrics.acceptFailed, error.code ?? "")
    }
    server.on("error", guard("HTTP server error", onError))
  }

  /** Registers a request and checks its headers and the limits. Returns false if it is refused; the response is then sent here. */
  #admit(request: EdgeRequest, response: Response, expectation?: Refusal): boolean {
    const { servesHost, trustedProxies } = this.#options
    const exchange = this.connections.begin(request, response)
    if (exchange === undefined) return false
    const { isProxy, peer } = exchange.connection
    const client: ForwardedClient.Client = isProxy
      ? ForwardedClient.behind(trustedProxies, peer, request.headers)
      : { address: peer, scheme: "http" }
    request.client = client
    response.onEnd = this.#onResponseEnd.bind(this, exchange)
    response.on("close", this.#onResponseClose.bind(this, exchange))
    if (exchange.isLast || this.#state === "draining") response.shouldKeepAlive = false
    const refusal =
      checkHeaders(request, servesHost) ?? expectation ?? this.#requestLimits.enter(exchange, client.address)
    if (refusal === undefined) return true
    this.#refuse(request, response, refusal)
    return false
  }

  #onResponseEnd(exchange: Exchange, size: number): void {
    try {
      this.connections.responded(exchange, size)
    } catch (exception) {
      this.#guard.onException("HTTP response end", exception, destroyConnection, exchange)
    }
  }

  #onResponseClose(exchange: Exchange): void {
    try {
      this.connections.closeExchange(exchange)
    } catch (exception) {
      this.#guard.onException("HTTP response close", exception, destroyConnection, exchange)
    }
  }

  #refuse(request: EdgeRequest, response: Response, refusal: Refusal): void {
    const { headers, onRefused } = this.#options
    const [status, reason] = refusal
    if (status !== 503 || hasBody(request)) response.shouldKeepAlive = false
    const body = `${statusTexts[status]}\n`
    response.writeHead(status, {
      ...headers,
      "content-type": "text/plain; charset=utf-8",
      "content-length": body.length,
      "cache-control": "no-store",
      ...(status === 503 ? { "retry-after": "1" } : {})
    })
    response.end(request.method === "HEAD" ? undefined : body)
    if (onRefused === undefined) this.#refusals.request(refusal, request.client?.address)
    else onRefused(request, status, reason)
  }

  readonly #onConnection = (socket: Socket) => {
    const connection = this.connections.open(socket)
    if (connection === undefined) {
      socket.end(rawResponse(503))
      socket.destroySoon()
      return
    }
    const onClose = () => this.connections.closed(connection)
    socket.on("close", this.#guard("HTTP connection close", onClose))
    this.#pace(socket)
  }

  /** Pauses a connection until the pacer admits it. */
  #pace(socket: Socket): void {
    let isPaused = true
    this.#pacer.admit(clientNetwork(socket.remoteAddress ?? ""), () => {
      if (socket.isPaused() && !socket.destroyed) socket.resume()
      isPaused = false
    })
    if (isPaused) socket.pause()
  }

  /** Paces new connections of a client address, and its open connections without a request. */
  #onFlood(connection: Connection): void {
    this.#pacer.flooded(clientNetwork(connection.peer))
    for (const { socket } of this.connections.unusedOfSameAddress(connection))
      if (!socket.isPaused()) this.#pace(socket)
  }

  /** Answers requests that the parser rejects. Errors of the connection are also reported here. */
  #onClientError(error: NodeJS.ErrnoException, socket: Socket): void {
    const code = error.code ?? ""
    const refusal = parseFailures[code] ?? invalidRequest
    if (code in parseFailures || code.startsWith("HPE_")) this.#refusals.request(refusal, socket.remoteAddress)
    // nothing may be written within or after the response to an earlier request
    if (!HttpConnections.isResponding(socket) && socket.writable) socket.write(rawResponse(refusal[0]))
    socket.destroy(error)
  }

  #onConnect(request: IncomingMessage, socket: Socket): void {
    this.#refusals.request(connectRefusal, request.socket.remoteAddress)
    socket.on("error", () => {})
    if (HttpConnections.isResponding(socket)) socket.destroy()
    else socket.end(rawResponse(405), () => socket.destroy())
  }
}

const makeServer = (limits: Limits) => {
  const requestTimeout = Duration.toMillis(limits.requestTimeout)
  const server = createServer<typeof EdgeRequest, typeof EdgeResponse>({
    IncomingMessage: EdgeRequest,
    ServerResponse: EdgeResponse,
    // an upgrade may be ignored (RFC 9110, section 7.8); otherwise Node would detach its connection
    shouldUpgradeCallback: () => false,
    // checked by checkHeaders, so that it is counted
    requireHostHeader: false,
    requestTimeout,
    headersTimeout: requestTimeout,
    keepAliveTimeout: Duration.toMillis(limits.keepAliveTimeout),
    connectionsCheckingInterval: Math.min(5_000, requestTimeout / 2),
    // detects clients that have disappeared without closing their connection
    keepAlive: true,
    keepAliveInitialDelay: 60_000
  })
  // above a limit Node would drop headers; instead, checkHeaders refuses the request
  server.maxHeadersCount = 0
  return server
}

const destroyRequest = (request: EdgeRequest) => void request.socket.destroy()

const destroyConnection = { recover: ({ connection }: Exchange) => void connection.socket.destroy() }

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0"

/** Limits connections to half of the file descriptors, so that enough are left for the rest of the process. */
const withinDescriptors = Effect.fnUntraced(function* (name: string, maxConnections: number) {
  const limit = Option.getOrElse(yield* FileDescriptors.limit, () => Infinity)
  const most = Math.max(1, Math.floor(limit / 2))
  if (maxConnections <= most) return maxConnections
  const line = Effect.logWarning(
    `HTTP connection limit lowered from ${maxConnections} to ${most}: the process may open ${limit} files`
  )
  yield* Effect.annotateLogs(line, { server: name })
  return most
})
