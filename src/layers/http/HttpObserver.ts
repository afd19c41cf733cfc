/**
 * What is seen of requests over HTTP: a span, metrics and a line of the log for each, by OpenTelemetry's conventions
 * (https://opentelemetry.io/docs/specs/semconv/http/), and a report of what nobody has foreseen.
 */
import { randomUUID } from "node:crypto"

import { NodeHttpServerRequest } from "@effect/platform-node"
import { Cause, Context, Effect, Exit, Metric, Option, type Tracer } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"

import { memoizeBy } from "../collections/memoize.ts"
import * as Address from "../config/Address.ts"
import { boundaries } from "../grpc/interceptors/Metrics.ts"
import * as Logging from "../telemetry/Logging.ts"
import * as LogRateLimiter from "../telemetry/LogRateLimiter.ts"
import * as ServerSpan from "../telemetry/ServerSpan.ts"
import { endSpan, errorExit } from "../telemetry/spans.ts"
import * as TraceContext from "../telemetry/TraceContext.ts"
import * as UnexpectedError from "../telemetry/UnexpectedError.ts"
import type { Client } from "./ForwardedClient.ts"
import { EdgeRequest } from "./HttpEdge.ts"

/** Answers a request, whatever it is. */
export type App = Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest>

export interface Options {
  /**
   * The route that a path without its query belongs to, one of few, for what is counted by it: a path is whatever a stranger has
   * written.
   */
  readonly routeOf: (path: string) => string | undefined
  /** What a reader gets who has run into a bug. An id that the log has too is added to its headers. */
  readonly failed: HttpServerResponse.HttpServerResponse
  /** Whether who asks may say that a trace is to be recorded. */
  readonly trustsTraces: boolean
  /** Whether what is interrupted now is so by the server, and not by its reader. */
  readonly isCutting?: (() => boolean) | undefined
}

/** Observes an app, which may die then. */
export const observe = (app: App, options: Options): App =>
  Effect.withFiber(({ context }) => {
    const request = Context.getUnsafe(context, HttpServerRequest.HttpServerRequest)
    const incoming: object = NodeHttpServerRequest.toIncomingMessage(request)
    const exchange = new Exchange(request, incoming instanceof EdgeRequest ? incoming.client : undefined, options)
    const inSpan = beginSpan(context, exchange, options)
    activeRequests.modifyUnsafe(1, context)
    // all that is done at the end is done in one step, since there is one for each page
    const observed = Effect.onExit(withApology(app, exchange, options.failed), (exit) => {
      const status = exchange.statusOf(exit)
      count(exchange, status, context)
      const line = lineOf(exchange, status, inSpan)
      const span = Context.get(inSpan, ServerSpan.RecordedSpan)
      if (span === undefined) return line ?? Effect.void
      return Effect.andThen(line ?? Effect.void, endOfSpan(span, exit, status))
    })
    return inSpan === context
      ? observed
      : Effect.updateContext(
          observed,
          (): Context.Context<HttpServerRequest.HttpServerRequest> =>
            inSpan as Context.Context<HttpServerRequest.HttpServerRequest>
        )
  })

/**
 * Observes a request that has been refused before any app got it: it counts, and has its span and its line, as the others do.
 * `reason` says why in the line.
 */
export const refused =
  (options: Options, context: Context.Context<never>) =>
  (request: EdgeRequest, status: number, reason: string): void => {
    const { client, headers, method = "", startedAt, url = "" } = request
    const exchange = new Exchange({ method, url, headers }, client, options, startedAt)
    const inSpan = beginSpan(context, exchange, options)
    activeRequests.modifyUnsafe(1, context)
    count(exchange, status, context)
    const span = Context.get(inSpan, ServerSpan.RecordedSpan)
    if (span !== undefined) {
      Effect.runSyncWith(context)(endOfSpan(span, Exit.succeed(HttpServerResponse.empty({ status })), status))
    }
    const level = status < 500 ? "Info" : "Warn"
    if (!Logging.isEnabled(level, context)) return
    const line = Effect.annotateLogs(Effect.logWithLevel(level)("HTTP request refused"), {
      ...annotationsOf(exchange, status),
      reason
    })
    Effect.runForkWith(inSpan)(refusals.log(line))
  }

const beginSpan = (context: Context.Context<never>, exchange: Exchange, { trustsTraces }: Options) => {
  const { headers } = exchange.request
  return ServerSpan.start(context, {
    name: exchange.route === undefined ? exchange.method : `${exchange.method} ${exchange.route}`,
    parent: TraceContext.fromHeaders((name) => headers[name]?.toString(), { isUntrusted: !trustsTraces }),
    attributes: () => attributesOf(exchange)
  })
}

/** What both Node's and Effect's requests have. */
interface Request {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
}

/** A request, and what is known of it before it is answered. */
class Exchange {
  readonly request: Request
  /** Who asks. */
  readonly client: Client | undefined
  readonly method: string
  readonly path: string
  readonly route: string | undefined
  readonly startedAt: number
  /** Whether it has run into a bug, which is logged as that. */
  isBug = false
  readonly #isCutting: () => boolean

  constructor(
    request: Request,
    client: Client | undefined,
    { isCutting = () => false, routeOf }: Options,
    startedAt = performance.now()
  ) {
    const { path } = split(request.url)
    this.request = request
    this.client = client
    this.startedAt = startedAt
    this.method = methods.has(request.method) ? request.method : "_OTHER"
    this.path = path
    this.route = routeOf(path)
    this.#isCutting = isCutting
  }

  seconds = () => (performance.now() - this.startedAt) / 1000

  statusOf = (exit: Exit.Exit<HttpServerResponse.HttpServerResponse, never>): number => {
    if (Exit.isSuccess(exit)) return exit.value.status
    if (!Cause.hasInterruptsOnly(exit.cause)) return 500
    return this.#isCutting() ? 503 : clientClosedRequest
  }
}

/** What a request is taken for whose reader has gone before it was answered, as nginx has it. */
const clientClosedRequest = 499

/** The methods of RFC 9110 and PATCH; there is no limit to what a stranger may call one. */
const methods: ReadonlySet<string> = new Set([
  "CONNECT",
  "DELETE",
  "GET",
  "HEAD",
  "OPTIONS",
  "PATCH",
  "POST",
  "PUT",
  "TRACE"
])

/** The two parts of an address that stand around its first question mark. */
export const split = (url: string): { readonly path: string; readonly query: string } => {
  const at = url.indexOf("?")
  return at === -1 ? { path: url, query: "" } : { path: url.slice(0, at), query: url.slice(at + 1) }
}

const endOfSpan = (
  span: Tracer.Span,
  exit: Exit.Exit<HttpServerResponse.HttpServerResponse, never>,
  status: number
): Effect.Effect<void> => {
  span.attribute("http.response.status_code", status)
  if (status < 500) return endSpan(span, Exit.void)
  span.attribute("error.type", String(status))
  return endSpan(span, Exit.isFailure(exit) ? exit : errorExit(String(status), `status ${status}`))
}

/** The query is not among them: it has what readers type. */
const attributesOf = ({ client, method, path, request, route }: Exchange): Record<string, unknown> => ({
  "http.request.method": method,
  ...(method === "_OTHER" ? { "http.request.method_original": request.method } : {}),
  "url.scheme": client?.scheme ?? "http",
  "url.path": path,
  ...(route === undefined ? {} : { "http.route": route }),
  ...(client === undefined ? {} : { "client.address": Address.unmapped(client.address) }),
  ...(request.headers["user-agent"] === undefined ? {} : { "user_agent.original": request.headers["user-agent"] })
})

const activeRequests = Metric.gauge("http.server.active_requests", { description: "Requests that are being answered" })

const durationOf = memoizeBy(
  [
    ({ route }: Pick<Exchange, "method" | "route"> & Pick<Client, "scheme"> & { readonly status: number }) => route,
    ({ status }) => status,
    ({ method }) => method,
    ({ scheme }) => scheme
  ],
  ({ method, route, scheme, status }) =>
    Metric.histogram("http.server.request.duration", {
      description: "How long requests took to be answered",
      attributes: {
        unit: "s",
        "http.request.method": method,
        "http.response.status_code": String(status),
        ...(route === undefined ? {} : { "http.route": route }),
        "url.scheme": scheme,
        ...(status < 500 ? {} : { "error.type": String(status) })
      },
      boundaries
    })
)

const count = (exchange: Exchange, status: number, context: Context.Context<never>): void => {
  activeRequests.modifyUnsafe(-1, context)
  const { client, method, route } = exchange
  durationOf({ method, route, scheme: client?.scheme ?? "http", status }).updateUnsafe(exchange.seconds(), context)
}

// whoever asks wrongly is not to keep what is wrong here out of the log
const ours = LogRateLimiter.make("requests that failed")
const callers = LogRateLimiter.make("requests that failed")
const refusals = LogRateLimiter.make("refused requests", 10)

/** The line of how a request has ended, if that is logged. */
const lineOf = (exchange: Exchange, status: number, context: Context.Context<never>) => {
  if (exchange.isBug) return undefined
  const level = status < 400 ? "Debug" : status < 500 ? "Info" : "Error"
  if (!Logging.isEnabled(level, context)) return undefined
  const line = Effect.suspend(() =>
    Effect.annotateLogs(Effect.logWithLevel(level)("A request"), annotationsOf(exchange, status))
  )
  return status < 400 ? line : (status < 500 ? callers : ours).log(line)
}

/** Logs a bug with all that is known of it, under an id of which its reader is told. */
const withApology = (app: App, exchange: Exchange, failed: HttpServerResponse.HttpServerResponse): App =>
  Effect.catchCauseIf(
    app,
    (cause) => !Cause.hasInterruptsOnly(cause),
    (cause) => {
      exchange.isBug = true
      const requestId = randomUUID()
      const annotations = { ...annotationsOf(exchange, failed.status), requestId }
      return Effect.logError("A bug in a page", cause).pipe(
        Effect.annotateLogs(annotations),
        Effect.andThen(UnexpectedError.report(cause, () => annotations, Option.some)),
        Effect.as(HttpServerResponse.setHeader(failed, "x-request-id", requestId))
      )
    }
  )

const annotationsOf = (exchange: Exchange, status: number): Record<string, unknown> => ({
  method: exchange.request.method,
  path: exchange.path,
  status,
  durationMs: Math.round(exchange.seconds() * 1_000_000) / 1000,
  ...(exchange.client === undefined ? {} : { peer: Address.unmapped(exchange.client.address) })
})
