/**
 * Observes HTTP requests: a span, metrics and a log line for each, by OpenTelemetry's conventions
 * (https://opentelemetry.io/docs/specs/semconv/http/), and a report of unexpected errors.
 */
import { randomUUID } from "node:crypto"

import { NodeHttpServerRequest } from "@effect/platform-node"
import { Cause, Context, Effect, Exit, Metric, Option, type Tracer } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"

import * as Address from "../config/Address.ts"
import { durationBoundaries } from "../telemetry/durationBoundaries.ts"
import * as Logging from "../telemetry/Logging.ts"
import * as LogRateLimiter from "../telemetry/LogRateLimiter.ts"
import * as TraceContext from "../telemetry/TraceContext.ts"
import * as UnexpectedError from "../telemetry/UnexpectedError.ts"
import type { Client } from "./ForwardedClient.ts"
import { EdgeRequest } from "./HttpEdge.ts"

/** Answers every request, also those of unknown paths. */
export type App = Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest>

export interface Options {
  /** The route of a path without its query, from a small set, since it is a metric label; undefined if there is no route. */
  readonly routeOf: (path: string) => string | undefined
  /** The response to a request whose handler dies. The header `x-request-id` is added, with the id in the log line. */
  readonly failed: HttpServerResponse.HttpServerResponse
  /** Whether the sampled flag of an incoming `traceparent` is honoured. */
  readonly trustsTraces: boolean
  /** Whether interrupted handlers were interrupted by the closing server, not by their clients. */
  readonly isAborting?: (() => boolean) | undefined
}

/** Observes an app. The returned app answers requests whose handler dies with {@link Options.failed}. */
export const observe = (app: App, options: Options): App =>
  Effect.withFiber(({ context }) => {
    const request = Context.getUnsafe(context, HttpServerRequest.HttpServerRequest)
    const incoming: object = NodeHttpServerRequest.toIncomingMessage(request)
    const observedRequest = describe(request, incoming instanceof EdgeRequest ? incoming : undefined, options)
    const inSpan = beginSpan(context, observedRequest, options)
    activeRequests.modifyUnsafe(1, context)
    const answered = Effect.catchCauseIf(app, isUnexpected, (cause) =>
      toErrorResponse(cause, observedRequest, options.failed)
    )
    const observed = Effect.onExitPrimitive(answered, (exit) => {
      const status = Exit.isSuccess(exit) ? exit.value.status : statusOfFailure(exit.cause, options.isAborting)
      count(observedRequest, status, context)
      const line = lineOf(observedRequest, status, inSpan)
      const span = Context.get(inSpan, TraceContext.RecordedSpan)
      if (span === undefined) return line
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

/** Observes a request that was refused before it reached the app: metrics, a span, and a log line with the reason. */
export const refused =
  (options: Options, context: Context.Context<never>) =>
  (request: EdgeRequest, status: number, reason: string): void => {
    const { headers, method = "", url = "" } = request
    const observedRequest = describe({ method, url, headers }, request, options)
    const inSpan = beginSpan(context, observedRequest, options)
    activeRequests.modifyUnsafe(1, context)
    count(observedRequest, status, context)
    const span = Context.get(inSpan, TraceContext.RecordedSpan)
    if (span !== undefined) {
      Effect.runSyncWith(context)(endOfSpan(span, Exit.succeed(HttpServerResponse.empty({ status })), status))
    }
    const level = status < 500 ? "Info" : "Warn"
    if (!Logging.isEnabled(level, context)) return
    const line = Effect.annotateLogs(Effect.logWithLevel(level)("HTTP request refused"), {
      ...annotationsOf(observedRequest, status),
      reason
    })
    Effect.runForkWith(inSpan)(refusals.log(line))
  }

const beginSpan = (context: Context.Context<never>, observedRequest: ObservedRequest, { trustsTraces }: Options) => {
  const { headers } = observedRequest
  return TraceContext.startServerSpan(context, {
    name:
      observedRequest.route === undefined
        ? observedRequest.method
        : `${observedRequest.method} ${observedRequest.route}`,
    parent:
      headers["traceparent"] === undefined
        ? undefined
        : TraceContext.fromHeaders((name) => headers[name]?.toString(), { isUntrusted: !trustsTraces }),
    attributes: () => attributesOf(observedRequest)
  })
}

/** The common fields of Node's and Effect's requests. */
interface Request {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
}

/** A request that is being observed. */
interface ObservedRequest {
  readonly request: Request
  readonly headers: Request["headers"]
  readonly client: Client | undefined
  readonly method: string
  readonly path: string
  readonly route: string | undefined
  /** By `performance.now()`. */
  readonly startedAt: number
  /** Whether its handler died, which is logged separately. */
  hasDied: boolean
}

const describe = (request: Request, edgeRequest: EdgeRequest | undefined, { routeOf }: Options): ObservedRequest => {
  const { path } = split(request.url)
  return {
    request,
    // Effect's request copies Node's headers
    headers: (edgeRequest ?? request).headers,
    client: edgeRequest?.client,
    method: methods.has(request.method) ? request.method : "_OTHER",
    path,
    route: routeOf(path),
    startedAt: edgeRequest?.startedAt ?? performance.now(),
    hasDied: false
  }
}

/** The status of a request whose handler died or was interrupted. */
const statusOfFailure = (cause: Cause.Cause<never>, isAborting: Options["isAborting"]): number =>
  isUnexpected(cause) ? 500 : isAborting?.() === true ? 503 : clientClosedRequest

/** The status of a request whose client has disconnected before the response, as in nginx. */
const clientClosedRequest = 499

/** The methods of RFC 9110 and PATCH, which are metric labels. Any other method is "_OTHER". */
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
  if (status < 500) return TraceContext.endSpan(span, Exit.void)
  span.attribute("error.type", String(status))
  return TraceContext.endSpan(
    span,
    Exit.isFailure(exit) ? exit : TraceContext.errorExit(String(status), `status ${status}`)
  )
}

/** The attributes of a span, without the query, which may contain personal data. */
const attributesOf = ({ client, headers, method, path, request, route }: ObservedRequest): Record<string, unknown> => ({
  "http.request.method": method,
  ...(method === "_OTHER" ? { "http.request.method_original": request.method } : {}),
  "url.scheme": client?.scheme ?? "http",
  "url.path": path,
  ...(route === undefined ? {} : { "http.route": route }),
  ...(client === undefined ? {} : { "client.address": Address.unmapped(client.address) }),
  ...(headers["user-agent"] === undefined ? {} : { "user_agent.original": headers["user-agent"] })
})

interface DurationLabels extends Pick<ObservedRequest, "method" | "route">, Pick<Client, "scheme"> {
  readonly status: number
}

const activeRequests = Metric.gauge("http.server.active_requests", { description: "Requests that are being processed" })

const makeDuration = ({ method, route, scheme, status }: DurationLabels) =>
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

/** By their labels, of which there are few. Creating a metric is slow. */
const durations = new Map<string, ReturnType<typeof makeDuration>>()

const count = (observedRequest: ObservedRequest, status: number, context: Context.Context<never>): void => {
  activeRequests.modifyUnsafe(-1, context)
  const { client, method, route, startedAt } = observedRequest
  const scheme = client?.scheme ?? "http"
  const labels = `${method} ${status} ${scheme} ${route}`
  let duration = durations.get(labels)
  if (duration === undefined) durations.set(labels, (duration = makeDuration({ method, route, scheme, status })))
  duration.updateUnsafe((performance.now() - startedAt) / 1000, context)
}

// separate limiters, so that client errors do not suppress server errors
const serverErrors = LogRateLimiter.make("requests that failed")
const clientErrors = LogRateLimiter.make("requests that failed")
const refusals = LogRateLimiter.make("refused requests", 10)

/** The log line of a request, if its level is enabled. */
const lineOf = (observedRequest: ObservedRequest, status: number, context: Context.Context<never>) => {
  if (observedRequest.hasDied) return undefined
  const level = status < 400 ? "Debug" : status < 500 ? "Info" : "Error"
  if (!Logging.isEnabled(level, context)) return undefined
  const line = Effect.suspend(() =>
    Effect.annotateLogs(Effect.logWithLevel(level)("HTTP request completed"), annotationsOf(observedRequest, status))
  )
  return status < 400 ? line : (status < 500 ? clientErrors : serverErrors).log(line)
}

const isUnexpected = (cause: Cause.Cause<never>): boolean => !Cause.hasInterruptsOnly(cause)

/** Logs and reports an unexpected error, and answers with the id of the log line. */
const toErrorResponse = (
  cause: Cause.Cause<never>,
  observedRequest: ObservedRequest,
  failed: HttpServerResponse.HttpServerResponse
) => {
  observedRequest.hasDied = true
  const requestId = randomUUID()
  const annotations = { ...annotationsOf(observedRequest, failed.status), requestId }
  return Effect.logError("Unexpected error in an HTTP handler", cause).pipe(
    Effect.annotateLogs(annotations),
    Effect.andThen(UnexpectedError.report(cause, () => annotations, Option.some)),
    Effect.as(HttpServerResponse.setHeader(failed, "x-request-id", requestId))
  )
}

const annotationsOf = (observedRequest: ObservedRequest, status: number): Record<string, unknown> => ({
  method: observedRequest.request.method,
  path: observedRequest.path,
  status,
  durationMs: Math.round((performance.now() - observedRequest.startedAt) * 1000) / 1000,
  ...(observedRequest.client === undefined ? {} : { peer: Address.unmapped(observedRequest.client.address) })
})
