/**
 * A bounded queue between Effect's OTLP exporters and the collector.
 *
 * The exporters use an HTTP client that enqueues each request and immediately responds 200. Requests are sent one at a time, each with a
 * timeout, so memory is bounded and callers never wait, even if the collector is down, slow or refuses requests. Requests that exceed the
 * capacity are dropped and counted. The log has one line when exporting starts to fail and one when it recovers.
 */
import { type Cause, Duration, Effect, Fiber, Layer, Metric, Queue, Schedule, type Scope } from "effect"
import {
  FetchHttpClient,
  HttpClient,
  type HttpClientError,
  type HttpClientRequest,
  HttpClientResponse
} from "effect/http"

/** Options of a queue. */
export interface Options {
  /** The OTLP signal, an attribute of the metrics: "traces" or "metrics". */
  readonly signal: string
  /** How long each attempt of a request may take. */
  readonly timeout: Duration.Duration
  /** Maximum queued requests (16). */
  readonly capacity?: number | undefined
  /** How long the queued requests may take when the scope closes (3 seconds). */
  readonly closeTimeout?: Duration.Duration | undefined
  readonly outage: Outage
}

/** Tracks failures of all queues of one collector, so that an outage is logged once, not once per signal. */
export interface Outage {
  readonly onFailure: (signal: string, reason: string) => Effect.Effect<void>
  readonly onSuccess: (signal: string) => Effect.Effect<void>
}

/** Creates the state for the collector at `url`, which appears in log lines. */
export const makeOutage = (url: string): Outage => {
  const failing = new Set<string>()
  return {
    onFailure: (signal, reason) =>
      Effect.suspend(() => {
        const isFirst = failing.size === 0
        failing.add(signal)
        return isFirst
          ? Effect.logWarning(`OTLP export to ${url} failed; dropping telemetry until it recovers: ${reason}`)
          : Effect.void
      }),
    onSuccess: (signal) =>
      Effect.suspend(() =>
        failing.delete(signal) && failing.size === 0
          ? Effect.logInfo(`OTLP export to ${url} has recovered`)
          : Effect.void
      )
  }
}

/** Creates the client that enqueues requests. When the scope closes, the queued requests are sent within `closeTimeout`. */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<HttpClient.HttpClient, never, HttpClient.HttpClient | Scope.Scope> {
  const { capacity = 16, closeTimeout = Duration.seconds(3), outage, signal, timeout } = options
  const client = yield* HttpClient.HttpClient
  const queue = yield* Queue.dropping<HttpClientRequest.HttpClientRequest, Cause.Done>(capacity)
  const failed = Metric.withAttributes(failures, { signal })
  const lost = Metric.withAttributes(dropped, { signal })
  // the counters exist from the start, so that their first increase is visible
  yield* Effect.andThen(Metric.update(failed, 0), Metric.update(lost, 0))
  let isClosing = false

  const send = (request: HttpClientRequest.HttpClientRequest) =>
    client.execute(request).pipe(
      // an unread body would keep its connection in use
      Effect.tap((response) => Effect.ignore(response.arrayBuffer)),
      Effect.flatMap(HttpClientResponse.filterStatusOk),
      Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail("timed out" as const) }),
      Effect.retry({ schedule: backoff, times: 2, while: (error) => !isClosing && isRetryable(error) }),
      Effect.matchEffect({
        onSuccess: () => outage.onSuccess(signal),
        onFailure: (error) =>
          Effect.all([Metric.update(failed, 1), Metric.update(lost, 1), outage.onFailure(signal, reasonOf(error))], {
            discard: true
          })
      }),
      // exporting telemetry must not create telemetry
      Effect.provideService(HttpClient.TracerPropagationEnabled, false),
      Effect.withTracerEnabled(false)
    )

  const sending = yield* Queue.take(queue).pipe(Effect.flatMap(send), Effect.forever, Effect.ignore, Effect.forkScoped)
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      isClosing = true
      return Queue.end(queue)
    }).pipe(
      Effect.andThen(Fiber.await(sending)),
      Effect.interruptible,
      Effect.timeoutOption(closeTimeout),
      Effect.flatMap((exit) => (exit._tag === "Some" ? Effect.void : outage.onFailure(signal, "the process exits")))
    )
  )

  return HttpClient.make((request) =>
    Effect.suspend(() => {
      const isQueued = Queue.offerUnsafe(queue, request)
      const response = Effect.succeed(HttpClientResponse.fromWeb(request, new Response(undefined, { status: 200 })))
      return isQueued ? response : Effect.andThen(Metric.update(lost, 1), response)
    })
  )
})

/** {@link make} over Node's fetch. */
export const layer = (options: Options): Layer.Layer<HttpClient.HttpClient> =>
  Layer.effect(HttpClient.HttpClient, make(options)).pipe(Layer.provide(FetchHttpClient.layer))

const failures = Metric.counter("otlp_export_failures_total", {
  description: "Export requests that failed",
  incremental: true
})

const dropped = Metric.counter("otlp_export_dropped_batches_total", {
  description: "Export requests that were dropped: failed, or the queue was full",
  incremental: true
})

const backoff = Schedule.exponential("1 second")

type SendError = HttpClientError.HttpClientError | "timed out"

/** Whether to retry: the statuses that OTLP lists (https://opentelemetry.io/docs/specs/otlp/#failures-1), and connection errors. */
const isRetryable = (error: SendError): boolean =>
  typeof error !== "string" && (error.response === undefined || [429, 502, 503, 504].includes(error.response.status))

const reasonOf = (error: SendError): string => {
  if (typeof error === "string") return error
  if (error.response !== undefined) return `status ${error.response.status}`
  const { cause } = error.reason as { readonly cause?: { readonly cause?: unknown } }
  return String(cause?.cause ?? cause ?? error.message)
}
