/**
 * What is seen of requests over HTTP: a span, metrics and a line of the log for each, by OpenTelemetry's conventions
 * (https://opentelemetry.io/docs/specs/semconv/http/), and a report of what nobody has foreseen.
 */
import { randomUUID } from "node:crypto"

import { Cause, Effect, Exit, Metric, Option } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"

import * as Address from "./Address.ts"
import { boundaries } from "./GrpcMetrics.ts"
import * as Logging from "./Logging.ts"
import * as LogLimit from "./LogLimit.ts"
import { memoized } from "./Memoized.ts"
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
  Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const exchange = new Exchange(request, options)
    return inSpan(measured(logged(app, exchange, options.failed), exchange), exchange, options.trustsTraces)
  })

/** A request, and what is known of it before it is answered. */
class Exchange {
  readonly request: HttpServerRequest.HttpServerRequest
  readonly method: string
  readonly path: string
  readonly query: string
  readonly route: string | undefined
  readonly startedAt = performance.now()
  readonly #isCutting: () => boolean

  constructor(request: HttpServerRequest.HttpServerRequest, { isCutting = () => false, routeOf }: Options) {
    const [, path = "", query = ""] = /^([^?]*)\??(.*)$/s.exec(request.url) ?? []
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

const inSpan = (app: App, exchange: Exchange, trustsTraces: boolean): App => {
  const { headers } = exchange.request
  return ServerSpan.around(app, {
    name: exchange.route === undefined ? exchange.method : `${exchange.method} ${exchange.route}`,
    parent: TraceContext.read((name) => headers[name], { isForeign: !trustsTraces }),
    attributes: () => attributesOf(exchange),
    end: (span, exit) => {
      const status = exchange.statusOf(exit)
      span.attribute("http.response.status_code", status)
      if (status < 500) return Span.end(span, Exit.void)
      span.attribute("error.type", String(status))
      return Span.end(span, Exit.isFailure(exit) ? exit : Span.failed(String(status), `status ${status}`))
    }
  })
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

const durationOf = memoized(
  ({ method, route, status }: Pick<Exchange, "method" | "route"> & { readonly status: number }) =>
    `${method} ${status} ${route}`,
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

const measured = (app: App, exchange: Exchange): App =>
  Effect.withFiber((fiber) => {
    activeRequests.modifyUnsafe(1, fiber.context)
    return Effect.onExit(app, (exit) => {
      activeRequests.modifyUnsafe(-1, fiber.context)
      const { method, route } = exchange
      durationOf({ method, route, status: exchange.statusOf(exit) }).updateUnsafe(exchange.seconds(), fiber.context)
      return Effect.void
    })
  })

// whoever asks wrongly is not to keep what is wrong here out of the log
const ours = LogLimit.make("requests that failed")
const callers = LogLimit.make("requests that failed")

/** Logs how a request has ended; a bug with all that is known of it, under an id of which its reader is told. */
const logged = (app: App, exchange: Exchange, failed: HttpServerResponse.HttpServerResponse): App =>
  app.pipe(
    Effect.onExit((exit) => {
      if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) return Effect.void
      const status = exchange.statusOf(exit)
      const level = status < 400 ? "Debug" : status < 500 ? "Info" : "Error"
      return Logging.whenEnabled(level, () => {
        const line = Effect.suspend(() =>
          Effect.annotateLogs(Effect.logWithLevel(level)("A request"), annotationsOf(exchange, status))
        )
        return status < 400 ? line : (status < 500 ? callers : ours).log(line)
      })
    }),
    Effect.catchCauseIf(
      (cause) => !Cause.hasInterruptsOnly(cause),
      (cause) => {
        const requestId = randomUUID()
        const annotations = { ...annotationsOf(exchange, failed.status), requestId }
        return Effect.logError("A bug in a page", cause).pipe(
          Effect.annotateLogs(annotations),
          Effect.andThen(UnexpectedError.report(cause, () => annotations, Option.some)),
          Effect.as(HttpServerResponse.setHeader(failed, "x-request-id", requestId))
        )
      }
    )
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
