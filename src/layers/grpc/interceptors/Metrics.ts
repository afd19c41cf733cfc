/**
 * Counts and durations of calls, under the names of OpenTelemetry's conventions
 * (https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/) and of the gRPC libraries for Prometheus
 * (https://github.com/grpc-ecosystem/go-grpc-middleware/tree/main/providers/prometheus). Durations are in seconds.
 *
 * The values of labels come from the protos, never from callers, so that their number is bounded.
 */
import { Effect, Metric } from "effect"

import { durationBoundaries } from "../../telemetry/durationBoundaries.ts"
import type { GrpcCall, Kind } from "../GrpcCall.ts"
import type { ClientAttemptInterceptor, ClientCall, ClientInterceptor, ServerInterceptor } from "../GrpcInterceptor.ts"
import * as Status from "../Status.ts"
import * as Tracing from "./Tracing.ts"

/** Counts the calls of a server, and measures them from their headers to their end. */
export const server: ServerInterceptor = {
  onStart: (call, context) => serverSeries(call).started.updateUnsafe(1, context),
  onEnd: (call, _exit, status, context) => {
    const seconds = (performance.now() - call.startedAt) / 1000
    const series = serverSeries(call)
    const ended = series.ended[status?._tag ?? "OK"]
    ended.handled.updateUnsafe(1, context)
    ended.rejected.updateUnsafe(call.isRejected ? 1 : 0, context)
    ended.duration.updateUnsafe(seconds, context)
    series.handling.updateUnsafe(seconds, context)
  }
}

/** Creates the series of a method that alerts use: Prometheus does not see the first increase of a series that was not there. */
export const startAtZero = (method: ServedMethod): Effect.Effect<void> =>
  Effect.withFiber(({ context }) => {
    const series = serverSeries(method)
    series.started.updateUnsafe(0, context)
    for (const status of [undefined, ...serverErrors]) {
      const { handled, rejected } = series.ended[codeOf(status)]
      handled.updateUnsafe(0, context)
      rejected.updateUnsafe(0, context)
    }
    return Effect.void
  })

/** Measures the calls of a client, each with all its attempts. */
export const client: ClientInterceptor = {
  onEnd: (call, _exit, status, context) => {
    const duration = clientSeries(call).durations[status?._tag ?? "OK"]
    duration.updateUnsafe((performance.now() - call.startedAt) / 1000, context)
  }
}

/** Counts the attempts after the first. */
export const clientAttempt: ClientAttemptInterceptor = {
  onStart: (attempt, context) => clientSeries(attempt).retries.updateUnsafe(attempt.attempt === 1 ? 0 : 1, context)
}

type Called = Pick<GrpcCall["Service"], "method" | "service">
type ServedMethod = Called & Pick<GrpcCall["Service"], "kind">

type Code = Status.StatusName | "OK"

/** Each status; undefined is OK. */
const statuses = [undefined, ...Object.values(Status.codes).map((code) => Status.fromCode(code, ""))]

const serverErrors = statuses.filter((status) => status !== undefined && Status.isServerError(status))

const codeOf = (status: Status.Status | undefined): Code => status?._tag ?? "OK"

/** Makes an object for each status. */
const byCode = <A>(make: (status: Status.Status | undefined) => A) =>
  Object.fromEntries(statuses.map((status) => [codeOf(status), make(status)])) as { readonly [C in Code]: A }

const types: { readonly [K in Kind]: string } = {
  unary: "unary",
  clientStream: "client_stream",
  serverStream: "server_stream",
  bidi: "bidi_stream"
}

/** Series by service and method: a map with a joined key would build that key for each call. */
type ByMethod<Series> = Map<string, Map<string, Series>>

/** Adds the series of a method, and returns them. */
const insert = <Series>(all: ByMethod<Series>, { method, service }: Called, series: Series): Series => {
  const methods = all.get(service) ?? new Map<string, Series>()
  all.set(service, methods.set(method, series))
  return series
}

const served: ByMethod<ReturnType<typeof makeServerSeries>> = new Map()

/** The series of a method. Each is registered when it is first updated. */
const serverSeries = (call: ServedMethod) =>
  served.get(call.service)?.get(call.method) ?? insert(served, call, makeServerSeries(call))

const makeServerSeries = ({ kind, method, service }: ServedMethod) => {
  const attributes = { grpc_type: types[kind], grpc_service: service, grpc_method: method }
  return {
    started: Metric.counter("grpc_server_started_total", {
      description: "Calls that have begun",
      attributes,
      incremental: true
    }),
    handling: Metric.histogram("grpc_server_handling_seconds", {
      description: "How long calls took, from their headers to their end",
      attributes,
      boundaries: durationBoundaries
    }),
    ended: byCode((status) => {
      const withCode = { ...attributes, grpc_code: codeOf(status) }
      return {
        handled: Metric.counter("grpc_server_handled_total", {
          description: "Calls that have ended, by their status",
          attributes: withCode,
          incremental: true
        }),
        rejected: Metric.counter("grpc_server_rejected_total", {
          description:
            "Calls among those handled that were answered without a handler: refused, unknown, or not to be understood",
          attributes: withCode,
          incremental: true
        }),
        duration: Metric.histogram("rpc.server.call.duration", {
          description: "How long calls took, from their headers to their end",
          attributes: {
            ...rpcAttributes({ method, service }, status),
            ...(status === undefined || !Status.isServerError(status) ? {} : errorType(status))
          },
          boundaries: durationBoundaries
        })
      }
    })
  }
}

/** By target, service and method. */
const called = new Map<string, ByMethod<ReturnType<typeof makeClientSeries>>>()

/** The series of a method of a target. Each is registered when it is first updated. */
const clientSeries = (call: ClientCall) =>
  called.get(call.target)?.get(call.service)?.get(call.method) ?? addClientSeries(call)

const addClientSeries = (call: ClientCall) => {
  const methods = called.get(call.target) ?? (new Map() as NonNullable<ReturnType<typeof called.get>>)
  called.set(call.target, methods)
  return insert(methods, call, makeClientSeries(call))
}

const makeClientSeries = ({ method, service, target }: ClientCall) => ({
  retries: Metric.counter("grpc_client_retries_total", {
    description: "Attempts of calls after the first",
    attributes: { grpc_service: service, grpc_method: method },
    incremental: true
  }),
  durations: byCode((status) =>
    Metric.histogram("rpc.client.call.duration", {
      description: "How long calls took with all their attempts",
      attributes: {
        ...rpcAttributes({ method, service }, status),
        ...(status === undefined ? {} : errorType(status)),
        "server.address": Tracing.hostOf(target)
      },
      boundaries: durationBoundaries
    })
  )
})

const rpcAttributes = (call: Called, status: Status.Status | undefined): Record<string, string> => ({
  // read by the exporter; it is not a label
  unit: "s",
  "rpc.system.name": "grpc",
  "rpc.method": Tracing.methodOf(call),
  "rpc.status_code": status === undefined ? "OK" : Status.nameInCapitals[status._tag]
})

const errorType = (status: Status.Status): Record<string, string> => ({
  "error.type": Status.nameInCapitals[status._tag]
})
