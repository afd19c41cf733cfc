/**
 * Observes HTTP requests: a span, metrics and a log line for each, by OpenTelemetry's conventions
 * (https://opentelemetry.io/docs/specs/semconv/http/), and a report of unexpected errors.
 */
import { randomUUID } from "node:crypto"

import { NodeHttpServerRequest } from "@effect/platform-node"
import { Cause, Context, Effect, Exit, Metric, Option, type Tracer } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"

import { memoize } from "../collections/memoize.ts"
import * as Address from "../config/Address.ts"
import { durationBoundaries } from "../telemetry/durationBoundaries.ts"
import * as Logging from "../telemetry/Logging.ts"
import * as LogRateLimiter from "../telemetry/LogRateLimiter.ts"
import * as ServerSpan from "../telemetry/ServerSpan.ts"
import { endSpan, errorExit } from "../telemetry/spans.ts"
import * as TraceContext from "../telemetry/TraceContext.ts"
import * as UnexpectedError from "../telemetry/UnexpectedError.ts"
import type { Client } from "./ForwardedClient.ts"
import { EdgeRequest } from "./HttpEdge.ts"

/** Answers every request, also those of unknown paths. */
export type App = Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest>

export interface Options {
  /** The route of a path without its query, one of few: the label of metrics, since clients choose the path. Undefined is none. */
  readonly routeOf: (path: string) => string | undefined
  /** The response to a request whose handler dies. The header `x-request-id` is added, with the id that the log line has. */
  readonly failed: HttpServerResponse.HttpServerResponse
  /** Whether the sampled flag of an incoming `traceparent` is honoured. */
  readonly trustsTraces: boolean
  /** Whether handlers are interrupted by the server, as it closes, and not by their clients. */
  readonly isCutting?: (() => boolean) | undefined
}

/** Observes an app. The result answers requests whose handler dies. */
export const observe = (app: App, options: Options): App =>
  Effect.withFiber(({ context }) => {
    const request = Context.getUnsafe(context, HttpServerRequest.HttpServerRequest)
    const incoming: object = NodeHttpServerRequest.toIncomingMessage(request)
    const exchange = new Exchange(request, incoming instanceof EdgeRequest ? incoming.client : undefined, options)
    const inSpan = beginSpan(context, exchange, options)
    activeRequests.modifyUnsafe(1, context)
    const observed = Effect.onExit(withErrorResponse(app, exchange, options.failed), (exit) => {
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

/** Observes a request that was refused before the app got it: it has metrics, a span and a log line, with the reason. */
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

/** The common part of Node's and Effect's requests. */
interface Request {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
}

/** A request that is being observed. */
class Exchange {
  readonly request: Request
  readonly client: Client | undefined
  readonly method: string
  readonly path: string
  readonly route: string | undefined
  readonly startedAt: number
  /** Whether its handler died, which has a log line of its own. */
  hasDied = false
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

  seconds(): number {
    return (performance.now() - this.startedAt) / 1000
  }

  statusOf(exit: Exit.Exit<HttpServerResponse.HttpServerResponse, never>): number {
    if (Exit.isSuccess(exit)) return exit.value.status
    if (!Cause.hasInterruptsOnly(exit.cause)) return 500
    return this.#isCutting() ? 503 : clientClosedRequest
  }
}

/** The status of a request whose client has disconnected before the response, as in nginx. */
const clientClosedRequest = 499

/** The methods of RFC 9110 and PATCH: labels of metrics. Any other one is "_OTHER". */
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

/** Splits a URL at its first question mark. */
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

/** The attributes of a span, without the query, which may contain personal data. */
const attributesOf = ({ client, method, path, request, route }: Exchange): Record<string, unknown> => ({
  "http.request.method": method,
  ...(method === "_OTHER" ? { "http.request.method_original": request.method } : {}),
  "url.scheme": client?.scheme ?? "http",
  "url.path": path,
  ...(route === undefined ? {} : { "http.route": route }),
  ...(client === undefined ? {} : { "client.address": Address.unmapped(client.address) }),
  ...(request.headers["user-agent"] === undefined ? {} : { "user_agent.original": request.headers["user-agent"] })
})

interface DurationLabels extends Pick<Exchange, "method" | "route">, Pick<Client, "scheme"> {
  readonly status: number
}

const activeRequests = Metric.gauge("http.server.active_requests", { description: "Requests that are being processed" })

const durationOf = memoize(
  ({ method, route, scheme, status }: DurationLabels) => `${method} ${status} ${scheme} ${route}`,
  ({ method, route, scheme, status }) =>
    Metric.histogram("http.server.request.duration", {
      description: "Duration of requests",
      attributes: {
        unit: "s",
        "http.request.method": method,
        "http.response.status_code": String(status),
        ...(route === undefined ? {} : { "http.route": route }),
        "url.scheme": scheme,
        ...(status < 500 ? {} : { "error.type": String(status) })
      },
      boundaries: durationBoundaries
    })
)

const count = (exchange: Exchange, status: number, context: Context.Context<never>): void => {
  activeRequests.modifyUnsafe(-1, context)
  const { client, method, route } = exchange
  durationOf({ method, route, scheme: client?.scheme ?? "http", status }).updateUnsafe(exchange.seconds(), context)
}

// separate limiters, so that client errors do not suppress server errors
const serverErrors = LogRateLimiter.make("requests that failed")
const clientErrors = LogRateLimiter.make("requests that failed")
const refusals = LogRateLimiter.make("refused requests", 10)

/** The log line of a request, if its level is enabled. */
const lineOf = (exchange: Exchange, status: number, context: Context.Context<never>) => {
  if (exchange.hasDied) return undefined
  const level = status < 400 ? "Debug" : status < 500 ? "Info" : "Error"
  if (!Logging.isEnabled(level, context)) return undefined
  const line = Effect.suspend(() =>
    Effect.annotateLogs(Effect.logWithLevel(level)("HTTP request completed"), annotationsOf(exchange, status))
  )
  return status < 400 ? line : (status < 500 ? clientErrors : serverErrors).log(line)
}

/** Logs and reports an unexpected error, and answers with an id that leads to the log line. */
const withErrorResponse = (app: App, exchange: Exchange, failed: HttpServerResponse.HttpServerResponse): App =>
  Effect.catchCauseIf(
    app,
    (cause) => !Cause.hasInterruptsOnly(cause),
    (cause) => {
      exchange.hasDied = true
      const requestId = randomUUID()
      const annotations = { ...annotationsOf(exchange, failed.status), requestId }
      return Effect.logError("Unexpected error in an HTTP handler", cause).pipe(
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
