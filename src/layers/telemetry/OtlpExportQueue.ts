/**
 * The way of telemetry out of the process: a queue with room for so many requests and no more, from which they are sent one after
 * the other, each in its time.
 *
 * Effect's exporters are given a client that takes a request and says at once that all is well. So whatever becomes of it, nothing
 * piles up behind a collector that is dead, slow, or refuses, and nobody waits for it; what does not find room is dropped and
 * counted. The log hears of it when it begins, and when it is over.
 */
import { type Cause, Duration, Effect, Fiber, Layer, Metric, Queue, Schedule, type Scope } from "effect"
import {
  FetchHttpClient,
  HttpClient,
  type HttpClientError,
  type HttpClientRequest,
  HttpClientResponse
} from "effect/http"

export interface Options {
  /** What the requests carry, for the metrics: "traces" or "metrics". */
  readonly signal: string
  /** How long a request may take. */
  readonly timeout: Duration.Duration
  /** How many requests wait at the most. */
  readonly capacity?: number | undefined
  /** How long what waits may take when the scope closes. */
  readonly closeTimeout?: Duration.Duration | undefined
  readonly outage: Outage
}

/** Whether anything is being exported, for all the queues of a process together: a collector that is dead is told of once. */
export interface Outage {
  readonly onFailure: (signal: string, reason: string) => Effect.Effect<void>
  readonly onSuccess: (signal: string) => Effect.Effect<void>
}

/** `url` is where the collector is, for the log. */
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

/** A client that puts requests into the queue, and sends them for as long as the scope is open, and a little longer. */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<HttpClient.HttpClient, never, HttpClient.HttpClient | Scope.Scope> {
  const { capacity = 16, closeTimeout = Duration.seconds(3), outage, signal, timeout } = options
  const client = yield* HttpClient.HttpClient
  const queue = yield* Queue.dropping<HttpClientRequest.HttpClientRequest, Cause.Done>(capacity)
  const failed = Metric.withAttributes(failures, { signal })
  const lost = Metric.withAttributes(dropped, { signal })
  // counters are there from the start, so that their first increase is seen
  yield* Effect.andThen(Metric.update(failed, 0), Metric.update(lost, 0))
  let isClosing = false

  const send = (request: HttpClientRequest.HttpClientRequest) =>
    client.execute(request).pipe(
      // a response that is not read keeps its connection
      Effect.tap((response) => Effect.ignore(response.arrayBuffer)),
      Effect.flatMap(HttpClientResponse.filterStatusOk),
      Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail("no answer in time" as const) }),
      Effect.retry({ schedule: backoff, times: 2, while: (error) => !isClosing && isPassing(error) }),
      Effect.matchEffect({
        onSuccess: () => outage.onSuccess(signal),
        onFailure: (error) =>
          Effect.all([Metric.update(failed, 1), Metric.update(lost, 1), outage.onFailure(signal, reasonOf(error))], {
            discard: true
          })
      }),
      // that telemetry is sent is not to make more of it
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
      Effect.flatMap((exit) => (exit._tag === "Some" ? Effect.void : outage.onFailure(signal, "no time left")))
    )
  )

  return HttpClient.make((request) =>
    Effect.suspend(() => {
      const isTaken = Queue.offerUnsafe(queue, request)
      const response = Effect.succeed(HttpClientResponse.fromWeb(request, new Response(undefined, { status: 200 })))
      return isTaken ? response : Effect.andThen(Metric.update(lost, 1), response)
    })
  )
})

/** The client of the queue, over Node's own fetch. */
export const layer = (options: Options): Layer.Layer<HttpClient.HttpClient> =>
  Layer.effect(HttpClient.HttpClient, make(options)).pipe(Layer.provide(FetchHttpClient.layer))

const failures = Metric.counter("otlp_export_failures_total", {
  description: "Requests with telemetry that the collector did not take",
  incremental: true
})

const dropped = Metric.counter("otlp_export_dropped_batches_total", {
  description: "Requests with telemetry that were dropped: not taken, or without room to wait",
  incremental: true
})

const backoff = Schedule.exponential("1 second")

type SendError = HttpClientError.HttpClientError | "no answer in time"

/** What OTLP says to try again (https://opentelemetry.io/docs/specs/otlp/#failures-1), and who cannot be reached. */
const isPassing = (error: SendError): boolean =>
  typeof error !== "string" && (error.response === undefined || [429, 502, 503, 504].includes(error.response.status))

const reasonOf = (error: SendError): string => {
  if (typeof error === "string") return error
  if (error.response !== undefined) return `it answers with status ${error.response.status}`
  const { cause } = error.reason as { readonly cause?: { readonly cause?: unknown } }
  return String(cause?.cause ?? cause ?? error.message)
}
