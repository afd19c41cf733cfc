/**
 * What is seen of requests over HTTP: a span, metrics and a line of the log for each, by OpenTelemetry's conventions
 * (https://opentelemetry.io/docs/specs/semconv/http/), and a report of what nobody has foreseen.
 */
import { randomUUID } from "node:crypto"

import { NodeHttpServerRequest } from "@effect/platform-node"
import { Cause, Context, Effect, Exit, Metric, Option, type Tracer } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"

import * as Address from "./Address.ts"
import { boundaries } from "./GrpcMetrics.ts"
import * as Logging from "./Logging.ts"
import * as LogLimit from "./LogLimit.ts"
import { memoizedBy } from "./Memoized.ts"
import * as ServerSpan from "./ServerSpan.ts"
import * as Span from "./Span.ts"
import * as TraceContext from "./TraceContext.ts"
import * as UnexpectedError from "./UnexpectedError.ts"

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
    const exchange = new Exchange(Context.getUnsafe(context, HttpServerRequest.HttpServerRequest), options)
    const { headers } = NodeHttpServerRequest.toIncomingMessage(exchange.request)
    const inSpan = ServerSpan.begin(context, {
      name: exchange.route === undefined ? exchange.method : `${exchange.method} ${exchange.route}`,
      parent: TraceContext.read((name) => headers[name]?.toString(), { isForeign: !options.trustsTraces }),
      attributes: () => attributesOf(exchange)
    })
    activeRequests.modifyUnsafe(1, context)
    // all that is done at the end is done in one step, since there is one for each page
    const observed = Effect.onExit(withApology(app, exchange, options.failed), (exit) => {
      const status = exchange.statusOf(exit)
      count(exchange, status, context)
      const line = lineOf(exchange, status, inSpan)
      const span = Context.get(inSpan, ServerSpan.Recorded)
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

/** A request, and what is known of it before it is answered. */
class Exchange {
  readonly request: HttpServerRequest.HttpServerRequest
  readonly method: string
  readonly path: string
  readonly query: string
  readonly route: string | undefined
  readonly startedAt = performance.now()
  /** Whether it has run into a bug, which is logged as that. */
  isBug = false
  readonly #isCutting: () => boolean

  constructor(request: HttpServerRequest.HttpServerRequest, { isCutting = () => false, routeOf }: Options) {
    const { path, query } = split(request.url)
    this.request = request
    this.method = methods.has(request.method) ? request.method : "_OTHER"
    this.path = path
    this.query = query
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
  if (status < 500) return Span.end(span, Exit.void)
  span.attribute("error.type", String(status))
  return Span.end(span, Exit.isFailure(exit) ? exit : Span.failed(String(status), `status ${status}`))
}

const attributesOf = ({ method, path, query, request, route }: Exchange): Record<string, unknown> => ({
  "http.request.method": method,
  ...(method === "_OTHER" ? { "http.request.method_original": request.method } : {}),
  "url.scheme": "http",
  "url.path": path,
  ...(query === "" ? {} : { "url.query": query }),
  ...(route === undefined ? {} : { "http.route": route }),
  ...Option.match(request.remoteAddress, {
    onNone: () => ({}),
    onSome: (address) => ({ "client.address": Address.unmapped(address) })
  }),
  ...(request.headers["user-agent"] === undefined ? {} : { "user_agent.original": request.headers["user-agent"] })
})

const activeRequests = Metric.gauge("http.server.active_requests", { description: "Requests that are being answered" })

const durationOf = memoizedBy(
  [
    ({ route }: Pick<Exchange, "method" | "route"> & { readonly status: number }) => route,
    ({ status }) => status,
    ({ method }) => method
  ],
  ({ method, route, status }) =>
    Metric.histogram("http.server.request.duration", {
      description: "How long requests took to be answered",
      attributes: {
        unit: "s",
        "http.request.method": method,
        "http.response.status_code": String(status),
        ...(route === undefined ? {} : { "http.route": route }),
        "url.scheme": "http",
        ...(status < 500 ? {} : { "error.type": String(status) })
      },
      boundaries
    })
)

const count = (exchange: Exchange, status: number, context: Context.Context<never>): void => {
  activeRequests.modifyUnsafe(-1, context)
  const { method, route } = exchange
  durationOf({ method, route, status }).updateUnsafe(exchange.seconds(), context)
}

// whoever asks wrongly is not to keep what is wrong here out of the log
const ours = LogLimit.make("requests that failed")
const callers = LogLimit.make("requests that failed")

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
  ...Option.match(exchange.request.remoteAddress, {
    onNone: () => ({}),
    onSome: (peer) => ({ peer: Address.unmapped(peer) })
  })
})
