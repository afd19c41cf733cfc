/**
 * Node's HTTP server with limits, for whatever faces clients: bounded connections, requests and unread answers, checked Host
 * headers, no upgrades, and a metric and a limited log line for everything that is refused.
 */
import { createServer, IncomingMessage, type Server, ServerResponse } from "node:http"
import type { Socket } from "node:net"

import { NodeHttpServer } from "@effect/platform-node"
import { Context, Duration, Effect, Metric, Option, Scope } from "effect"
import type { HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"

import * as Address from "../config/Address.ts"
import { clientNetwork, type IpNetworks } from "../config/IpNetworks.ts"
import { fromCause, type ListenError, type ListenOptions } from "../process/ListenError.ts"
import * as CallbackGuard from "../telemetry/CallbackGuard.ts"
import * as FileDescriptors from "../telemetry/FileDescriptors.ts"
import * as LogRateLimiter from "../telemetry/LogRateLimiter.ts"
import * as ObservableMetric from "../telemetry/ObservableMetric.ts"
import * as ConnectionPacer from "./ConnectionPacer.ts"
import * as ForwardedClient from "./ForwardedClient.ts"
import { type Connection, type Exchange, HttpConnections, type Reason, reasons } from "./HttpConnections.ts"
import * as LoadShedder from "./LoadShedder.ts"

export interface Limits {
  readonly maxConnections: number
  readonly maxConnectionsPerAddress: Option.Option<number>
  readonly maxRequestsPerConnection: number
  /** Requests that are worked on at the same time. */
  readonly maxConcurrentRequests: number
  /** In bytes. */
  readonly maxUnreadSize: number
  readonly unreadTimeout: Duration.Duration
  /** How long a client may take to send a request, its body included. */
  readonly requestTimeout: Duration.Duration
  /** How long a connection may be idle between two requests. */
  readonly keepAliveTimeout: Duration.Duration
}

export const defaultLimits: Limits = {
  maxConnections: 4_000,
  maxConnectionsPerAddress: Option.none(),
  maxRequestsPerConnection: 8,
  maxConcurrentRequests: 400,
  maxUnreadSize: 16 * 1024 * 1024,
  unreadTimeout: Duration.seconds(20),
  requestTimeout: Duration.seconds(60),
  keepAliveTimeout: Duration.seconds(620)
}

export interface Options {
  /** What the server is called in metrics and lines of the log. */
  readonly name: string
  readonly limits: Limits
  readonly trustedProxies: IpNetworks
  /** Headers of what the server answers by itself. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Whether a host, as the Host header has it without its port, is served here; the others are told so with 421. */
  readonly servesHost?: ((host: string) => boolean) | undefined
  /** Is told of each request that was refused before the application got it, once it is answered. */
  readonly onRefused?: ((request: EdgeRequest, status: number, reason: string) => void) | undefined
}

/** A request whose client is known, also behind trusted proxies. */
export class EdgeRequest extends IncomingMessage {
  client: ForwardedClient.Client | undefined = undefined
  readonly startedAt = performance.now()
}

/**
 * An answer that tells when it has been made, and that Node writes in one go. Effect has Node count what is written against the
 * content-length that it has counted itself, and then Node writes the end of an answer apart.
 */
class Answer<Request extends IncomingMessage> extends ServerResponse<Request> {
  static {
    Object.defineProperty(this.prototype, "strictContentLength", { get: () => false, set: () => {} })
  }

  onEnd: ((size: number) => void) | undefined = undefined

  override end(...args: Array<unknown>): this {
    const [chunk] = args
    this.onEnd?.(typeof chunk === "string" || chunk instanceof Uint8Array ? chunk.length : 0)
    // the overloads of end have no common type
    return (super.end as (...args: ReadonlyArray<unknown>) => this).apply(this, args)
  }
}

type EdgeServer = Server<typeof EdgeRequest, typeof Answer>
type EdgeResponse = InstanceType<typeof Answer<EdgeRequest>>

export interface HttpEdge {
  readonly server: EdgeServer
  /** Hands over the requests that are not refused, until the scope closes. */
  readonly serve: (
    handler: (request: IncomingMessage, response: ServerResponse) => void
  ) => Effect.Effect<void, never, Scope.Scope>
  readonly connections: HttpConnections
  /** From now on connections are closed after their answers. */
  readonly drain: () => void
}

/** Names of Host that are hosts, with or without a port (RFC 9110, section 7.2). */
const hostPattern = /^(\[[\da-fA-F:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d*)?$/

/** More headers than any client sends. What is above the size that Node allows is refused by Node. */
const maxHeaders = 128

/** The status that a request is refused with, and why, as metrics name it. */
type Refusal = readonly [status: number, reason: string]

/** Refusals of requests that have been read. */
const requestRefusals = {
  tooManyHeaders: [431, "too many headers"],
  noHost: [400, "no Host"],
  severalHosts: [400, "several Hosts"],
  brokenHost: [400, "a broken Host"],
  foreignHost: [421, "a Host that is not served"],
  expectation: [417, "an expectation"],
  connectionLimit: [503, "too many requests of a connection"],
  addressLimit: [503, "too many requests of an address"],
  overload: [503, "overload"]
} as const satisfies Readonly<Record<string, Refusal>>

/** What is wrong with a request's headers, if anything. */
const checkHeaders = (request: IncomingMessage, servesHost: Options["servesHost"]): Refusal | undefined => {
  const { rawHeaders } = request
  if (rawHeaders.length > 2 * maxHeaders) return requestRefusals.tooManyHeaders
  let hosts = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    if (name.length === 4 && name.toLowerCase() === "host") hosts++
  }
  if (hosts === 0) return request.httpVersion === "1.0" ? undefined : requestRefusals.noHost
  if (hosts > 1) return requestRefusals.severalHosts
  const [, host] = hostPattern.exec(request.headers.host ?? "") ?? []
  if (host === undefined) return requestRefusals.brokenHost
  return servesHost === undefined || servesHost(host) ? undefined : requestRefusals.foreignHost
}

const statusTexts: Readonly<Record<number, string>> = {
  400: "Bad request",
  405: "Method not allowed",
  408: "Request timeout",
  413: "Content too large",
  417: "Expectation failed",
  421: "Misdirected request",
  431: "Request header fields too large",
  503: "Service unavailable"
}

/** Refusals of what Node's parser could not read, by its error. */
const parseFailures: Readonly<Record<string, Refusal>> = {
  HPE_HEADER_OVERFLOW: [431, "headers too large"],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, "chunk extensions too large"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "timeout"]
}

/** The refusal for all other errors of the parser. */
const invalidRequest: Refusal = [400, "no valid request"]

const connectRefusal: Refusal = [405, "CONNECT"]

/** The answer to what is no request, after which its connection is closed. */
const rawAnswer = (status: number): string =>
  `HTTP/1.1 ${status} ${statusTexts[status]}\r\nConnection: close\r\nContent-Length: 0\r\n` +
  `${status === 503 ? "Retry-After: 1\r\n" : ""}\r\n`

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0"

/** How often unread answers are looked at, in milliseconds. */
const sweepPeriod = 1_000

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
    // before Effect's own finalizer, which waits for them
    Effect.tap(Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections())))
  )

/**
 * Answers requests by an app until the scope closes, which interrupts what is being answered. Effect's own way to serve would also
 * listen to upgrades, for which Node gives connections away.
 */
export const serveApp = Effect.fnUntraced(function* <R>(
  { serve }: HttpEdge,
  app: Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest | R>
): Effect.fn.Return<void, never, Scope.Scope | Exclude<R, HttpServerRequest.HttpServerRequest | Scope.Scope>> {
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  yield* serve(yield* NodeHttpServer.makeHandler(app, { scope }))
})

/** Makes a server that does not listen yet. */
export const make = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<HttpEdge, never, Scope.Scope> {
  const { limits, name, servesHost, trustedProxies } = options
  const context = yield* Effect.context<never>()
  const guard = CallbackGuard.make(context)
  const refusals = yield* makeRefusals(options, context)
  const maxConnections = yield* withinDescriptors(name, limits.maxConnections)

  const repeat = (what: string) => (callback: () => void, period: number) => {
    const timer = setInterval(guard(what, callback), period).unref()
    return { close: () => clearInterval(timer) }
  }
  const shedder = LoadShedder.make(limits.maxConcurrentRequests, {
    every: repeat("load shedding"),
    afterTurn: setImmediate
  })
  const pacer = ConnectionPacer.make({
    after: (callback, millis) => void setTimeout(guard("paced HTTP connection", callback), millis).unref(),
    now: () => performance.now()
  })
  const perAddress = makeAddressLimit(Option.getOrUndefined(limits.maxConnectionsPerAddress))
  let isDraining = false

  const connections = new HttpConnections(
    {
      maxConnections,
      maxConnectionsPerAddress: Option.getOrUndefined(limits.maxConnectionsPerAddress),
      maxRequestsPerConnection: limits.maxRequestsPerConnection,
      maxUnreadSize: limits.maxUnreadSize,
      unreadTimeout: Duration.toMillis(limits.unreadTimeout),
      trustedProxies
    },
    {
      onClosed: (reason, connection) => {
        // the connections of a proxy are those of many clients
        if (reason === "pipelining" && !connection.isProxy) onFlood(connection)
        refusals.connection(reason, connection.peer)
      },
      onRefused: (reason, peer) => refusals.connection(reason, peer)
    }
  )

  const server = createServer<typeof EdgeRequest, typeof Answer>({
    IncomingMessage: EdgeRequest,
    ServerResponse: Answer,
    // an upgrade that is offered need not be taken (RFC 9110, section 7.8); Node would leave its connection to a listener
    shouldUpgradeCallback: () => false,
    // checked here, where it is counted
    requireHostHeader: false,
    requestTimeout: Duration.toMillis(limits.requestTimeout),
    headersTimeout: Duration.toMillis(limits.requestTimeout),
    keepAliveTimeout: Duration.toMillis(limits.keepAliveTimeout),
    connectionsCheckingInterval: Math.min(5_000, Duration.toMillis(limits.requestTimeout) / 2),
    // so that a client that is gone without a word is noticed
    keepAlive: true,
    keepAliveInitialDelay: 60_000
  })
  // Node would drop what is above a limit; here it is refused
  server.maxHeadersCount = 0

  const refuse = (request: EdgeRequest, response: EdgeResponse, [status, reason]: Refusal) => {
    if (status !== 503 || hasBody(request)) response.shouldKeepAlive = false
    const body = `${statusTexts[status]}\n`
    response.writeHead(status, {
      ...options.headers,
      "content-type": "text/plain; charset=utf-8",
      "content-length": body.length,
      "cache-control": "no-store",
      ...(status === 503 ? { "retry-after": "1" } : {})
    })
    response.end(request.method === "HEAD" ? undefined : body)
    if (options.onRefused === undefined) refusals.request([status, reason], request.client?.address)
    else options.onRefused(request, status, reason)
  }

  const clientOf = (exchange: Exchange, request: EdgeRequest): ForwardedClient.Client => {
    const { isProxy, peer } = exchange.connection
    return isProxy ? ForwardedClient.behind(trustedProxies, peer, request.headers) : { address: peer, scheme: "http" }
  }

  /** Why there is no place for a request, if there is none. */
  const enter = (exchange: Exchange, { address }: ForwardedClient.Client): Refusal | undefined => {
    const { isLast, connection } = exchange
    if (isLast) return requestRefusals.connectionLimit
    // the connections of a proxy are not those of its clients
    if (connection.isProxy && !perAddress.enter(address)) return requestRefusals.addressLimit
    const leave = connection.isProxy ? () => perAddress.leave(address) : () => {}
    if (!shedder.enter()) {
      leave()
      return requestRefusals.overload
    }
    exchange.release = () => {
      leave()
      shedder.leave()
    }
    return undefined
  }

  /** Takes in a request: whether the application is to answer it. */
  const admit = (request: EdgeRequest, response: EdgeResponse, expectation?: Refusal): boolean => {
    const exchange = connections.begin(request, response)
    if (exchange === undefined) return false
    request.client = clientOf(exchange, request)
    const onBug = { recover: () => void request.socket.destroy() }
    response.onEnd = guard("HTTP answer end", (size: number) => connections.answered(exchange, size), onBug)
    response.on(
      "close",
      guard("HTTP answer close", () => connections.closeExchange(exchange), onBug)
    )
    if (isDraining || exchange.isLast) response.shouldKeepAlive = false
    const wrong = checkHeaders(request, servesHost)
    if (wrong !== undefined) return (refuse(request, response, wrong), false)
    if (expectation !== undefined) return (refuse(request, response, expectation), false)
    const shed = enter(exchange, request.client)
    if (shed === undefined) return true
    refuse(request, response, shed)
    return false
  }

  /** Reads a connection when its turn has come. */
  const pace = (socket: Socket) => {
    let isPaused = true
    pacer.admit(clientNetwork(socket.remoteAddress ?? ""), () => {
      if (socket.isPaused() && !socket.destroyed) socket.resume()
      isPaused = false
    })
    if (isPaused) socket.pause()
  }

  /** Also paces the open connections of the address from which no request has come yet. */
  const onFlood = (connection: Connection) => {
    pacer.flooded(clientNetwork(connection.peer))
    for (const { socket } of connections.unusedBeside(connection)) if (!socket.isPaused()) pace(socket)
  }

  const onConnection = (socket: Socket) => {
    if (connections.open(socket)) {
      socket.on(
        "close",
        guard("HTTP connection close", () => connections.closed(HttpConnections.of(socket)!))
      )
      return pace(socket)
    }
    socket.end(rawAnswer(503))
    socket.destroySoon()
  }

  /** Something that is no request, or is none any more; errors of the connection itself come here too. */
  const onClientError = (error: NodeJS.ErrnoException, socket: Socket) => {
    const code = error.code ?? ""
    const refusal = parseFailures[code] ?? invalidRequest
    if (code in parseFailures || code.startsWith("HPE_")) refusals.request(refusal, socket.remoteAddress)
    // an answer that is being made or sent must not be followed by something else
    if (!HttpConnections.isAnswering(socket) && socket.writable) socket.write(rawAnswer(refusal[0]))
    socket.destroy(error)
  }

  const onConnect = (request: IncomingMessage, socket: Socket) => {
    refusals.request(connectRefusal, request.socket.remoteAddress)
    socket.on("error", () => {})
    if (HttpConnections.isAnswering(socket)) socket.destroy()
    else socket.end(rawAnswer(405), () => socket.destroy())
  }

  const destroySocket = (socket: Socket) => void socket.destroy()
  const destroyRequest = (request: EdgeRequest, _response: EdgeResponse) => void request.socket.destroy()

  server.on("connection", guard("HTTP connection", onConnection, { recover: destroySocket }))
  server.on(
    "clientError",
    guard("HTTP client error", (error, socket) => onClientError(error, socket as Socket), {
      recover: (_error, socket) => void socket.destroy()
    })
  )
  server.on(
    "connect",
    guard("HTTP CONNECT", (request, socket) => onConnect(request, socket as Socket), {
      recover: (_request, socket) => void socket.destroy()
    })
  )
  server.on(
    "checkExpectation",
    guard("HTTP expectation", (request, response) => void admit(request, response, requestRefusals.expectation), {
      recover: destroyRequest
    })
  )
  // accept fails when there are no descriptors left; the server goes on when there are some
  server.on(
    "error",
    guard("HTTP server error", (error: NodeJS.ErrnoException) => {
      if (server.listening) refusals.connection(acceptFailed, error.code ?? "")
    })
  )
  const sweeping = repeat("unread answers")(() => connections.sweep(), sweepPeriod)

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      shedder.close()
      sweeping.close()
    })
  )
  yield* ObservableMetric.gauge(
    "http_server_open_connections",
    "Connections that are open",
    () => connections.counts.connections,
    {
      server: name
    }
  )
  yield* ObservableMetric.gauge(
    "http_server_connection_limit",
    "How many connections may be open",
    () => maxConnections,
    {
      server: name
    }
  )
  yield* ObservableMetric.gauge(
    "http_server_request_limit",
    "How many requests are worked on at the same time at the most, by the load",
    () => shedder.counts().limit,
    { server: name }
  )
  yield* ObservableMetric.gauge(
    "http_server_unread_answer_bytes",
    "What clients have yet to read",
    () => connections.counts.unreadSize,
    { server: name }
  )

  const serve: HttpEdge["serve"] = (handler) => {
    const onRequest = guard(
      "HTTP request",
      (request: EdgeRequest, response: EdgeResponse) => {
        if (admit(request, response)) handler(request, response)
      },
      { annotations: ({ method, url }) => ({ method, path: url?.split("?")[0] }), recover: destroyRequest }
    )
    // Nobody wants the body of a request that waits to send it, so it is answered without; then the client need not send it (RFC 9110,
    // section 10.1.1), and Node closes the connection after the answer.
    return Effect.acquireRelease(
      Effect.sync(() => void server.on("request", onRequest).on("checkContinue", onRequest)),
      () => Effect.sync(() => void server.off("request", onRequest).off("checkContinue", onRequest))
    )
  }

  const drain = () => {
    isDraining = true
    connections.closeAfterAnswers()
  }
  return { server, serve, connections, drain }
})

/** Requests at the same time by the address of a client behind a trusted proxy, where connections by address are limited. */
const makeAddressLimit = (limit = Infinity) => {
  const active = new Map<string, number>()
  return {
    enter: (address: string): boolean => {
      if (limit === Infinity) return true
      const key = clientNetwork(address)
      const count = active.get(key) ?? 0
      if (count >= limit) return false
      active.set(key, count + 1)
      return true
    },
    leave: (address: string): void => {
      if (limit === Infinity) return
      const key = clientNetwork(address)
      const count = active.get(key) ?? 0
      if (count > 1) active.set(key, count - 1)
      else active.delete(key)
    }
  }
}

/** Half of the descriptors are for connections of clients, so that there are always some for the rest of the process. */
const withinDescriptors = Effect.fnUntraced(function* (name: string, maxConnections: number) {
  const limit = Option.getOrElse(yield* FileDescriptors.limit, () => Infinity)
  const most = Math.max(1, Math.floor(limit / 2))
  if (maxConnections <= most) return maxConnections
  yield* Effect.logWarning(
    `The ${limit} files that this process may open are too few for ${maxConnections} connections: ${name} takes ${most}`
  )
  return most
})

/** Why a connection is counted as refused when it could not be accepted. */
const acceptFailed = "accept failed"

type ConnectionReason = Reason | typeof acceptFailed

/** Counts and logs what never becomes a request of the application. */
const makeRefusals = Effect.fnUntraced(function* (
  { name, onRefused }: Pick<Options, "name" | "onRefused">,
  context: Context.Context<never>
) {
  const runFork = Effect.runForkWith(context)
  const requestLines = LogRateLimiter.make("refused requests", 10)
  const connectionLines = LogRateLimiter.make("connections closed by a limit", 10)

  const requests = ([status, reason]: Refusal) =>
    Metric.counter("http_server_refused_requests_total", {
      description: "Requests that were refused before they could be read as a whole",
      incremental: true,
      attributes: { server: name, "http.response.status_code": String(status), "error.type": reason }
    })
  const closed = (reason: ConnectionReason) =>
    Metric.counter("http_server_connections_refused_total", {
      description: "Connections that were closed or refused by a limit",
      incremental: true,
      attributes: { server: name, reason }
    })
  const counted = [
    ...Object.values(parseFailures),
    invalidRequest,
    connectRefusal,
    ...(onRefused === undefined ? Object.values(requestRefusals) : [])
  ]
  // counters are there from the start, so that their first increase is seen
  for (const refusal of counted) yield* Metric.update(requests(refusal), 0)
  for (const reason of [...reasons, acceptFailed] as const) yield* Metric.update(closed(reason), 0)

  return {
    request: (refusal: Refusal, peer: string | undefined) => {
      requests(refusal).updateUnsafe(1, context)
      const [status, reason] = refusal
      const line = Effect.logInfo("HTTP request refused").pipe(
        Effect.annotateLogs({
          server: name,
          status,
          reason,
          ...(peer === undefined ? {} : { peer: Address.unmapped(peer) })
        })
      )
      runFork(requestLines.log(line))
    },
    connection: (reason: ConnectionReason, peer: string) => {
      closed(reason).updateUnsafe(1, context)
      const line = Effect.logWarning("HTTP connection closed by a limit").pipe(
        Effect.annotateLogs({ server: name, reason, peer: Address.unmapped(peer) })
      )
      runFork(connectionLines.log(line))
    }
  }
})
