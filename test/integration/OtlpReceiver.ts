/**
 * A collector for tests, which records OTLP/HTTP requests in JSON. It can also refuse requests or leave them unanswered.
 */
import { createServer, type IncomingHttpHeaders } from "node:http"
import type { AddressInfo } from "node:net"

import { Deferred, Effect, type Scope } from "effect"

type AnyValue = {
  readonly stringValue?: string
  readonly intValue?: number | string
  readonly doubleValue?: number
  readonly boolValue?: boolean
  readonly arrayValue?: { readonly values: ReadonlyArray<AnyValue> }
}

type Attributes = ReadonlyArray<{ readonly key: string; readonly value: AnyValue }>

/** A span of an OTLP request. */
export interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  /** 1 internal, 2 server, 3 client. */
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: { readonly [key: string]: unknown }
  /** 0 unset, 1 OK, 2 error. */
  readonly status: { readonly code: number; readonly message?: string }
  readonly events: ReadonlyArray<{ readonly name: string }>
  /** The resource attributes. */
  readonly resource: { readonly [key: string]: unknown }
}

/** A metric of an OTLP request. */
export interface Metric {
  readonly name: string
  readonly unit?: string
  readonly sum?: { readonly isMonotonic: boolean; readonly dataPoints: ReadonlyArray<DataPoint> }
  readonly gauge?: { readonly dataPoints: ReadonlyArray<DataPoint> }
  readonly histogram?: { readonly dataPoints: ReadonlyArray<DataPoint> }
}

interface DataPoint {
  readonly attributes: Attributes
  readonly asDouble?: number
  readonly asInt?: number | string
  readonly count?: number
  readonly sum?: number
}

/** A running collector and the telemetry that it has received. */
export interface OtlpReceiver {
  /** The value for OTEL_EXPORTER_OTLP_ENDPOINT. */
  readonly url: string
  readonly spans: ReadonlyArray<Span>
  /** The metrics of the latest request. */
  readonly metrics: () => ReadonlyArray<Metric>
  /** The names of all received metrics by service. */
  readonly metricsOf: ReadonlyMap<string, ReadonlySet<string>>
  /** The number of received requests. */
  readonly requests: () => number
  readonly headers: ReadonlyArray<IncomingHttpHeaders>
  /** Changes the behaviour for later requests. */
  readonly behave: (behaviour: Behaviour) => void
  /** Waits until a condition holds. It is checked after each request. */
  readonly until: (condition: () => boolean) => Effect.Effect<void>
  /** Closes the port and all connections. */
  readonly kill: Effect.Effect<void>
}

const valueOf = (value: AnyValue): unknown =>
  value.arrayValue === undefined
    ? (value.stringValue ?? value.intValue ?? value.doubleValue ?? value.boolValue)
    : value.arrayValue.values.map(valueOf)

/** Converts attributes to an object. */
export const read = (attributes: Attributes): { readonly [key: string]: unknown } =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, valueOf(value)]))

/** Records a request, answers 503, or does not answer. */
export type Behaviour = "accepts" | "refuses" | "hangs"

/** Listens on 127.0.0.1 until the scope closes. */
export const make = Effect.fnUntraced(function* (
  initial: Behaviour = "accepts"
): Effect.fn.Return<OtlpReceiver, never, Scope.Scope> {
  let behaviour = initial
  const spans: Array<Span> = []
  const headers: Array<IncomingHttpHeaders> = []
  let metrics: ReadonlyArray<Metric> = []
  const metricsOf = new Map<string, Set<string>>()
  let requests = 0
  const waiting = new Set<() => void>()

  const record = (path: string | undefined, body: string) => {
    const data = JSON.parse(body) as {
      readonly resourceSpans?: ReadonlyArray<{
        readonly resource: { readonly attributes: Attributes }
        readonly scopeSpans: ReadonlyArray<{
          readonly spans: ReadonlyArray<Omit<Span, "attributes" | "resource"> & { readonly attributes: Attributes }>
        }>
      }>
      readonly resourceMetrics?: ReadonlyArray<{
        readonly resource: { readonly attributes: Attributes }
        readonly scopeMetrics: ReadonlyArray<{ readonly metrics: ReadonlyArray<Metric> }>
      }>
    }
    if (path === "/v1/traces") {
      for (const { resource, scopeSpans } of data.resourceSpans ?? []) {
        for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
          spans.push({ ...span, attributes: read(span.attributes), resource: read(resource.attributes) })
        }
      }
    } else if (path === "/v1/metrics") {
      metrics = (data.resourceMetrics ?? []).flatMap(({ scopeMetrics }) =>
        scopeMetrics.flatMap(({ metrics }) => metrics)
      )
      for (const { resource, scopeMetrics } of data.resourceMetrics ?? []) {
        const service = String(read(resource.attributes)["service.name"])
        const names = metricsOf.get(service) ?? new Set()
        metricsOf.set(service, names)
        for (const { name } of scopeMetrics.flatMap(({ metrics }) => metrics)) names.add(name)
      }
    }
  }

  const server = createServer((request, response) => {
    let body = ""
    request.setEncoding("utf8")
    request.on("data", (text: string) => (body += text))
    request.on("end", () => {
      requests++
      headers.push(request.headers)
      if (behaviour === "accepts") record(request.url, body)
      if (behaviour !== "hangs") {
        response.writeHead(behaviour === "accepts" ? 200 : 503, { "content-type": "application/json" }).end("{}")
      }
      waiting.forEach((check) => check())
    })
  })
  const kill = Effect.sync(() => {
    server.close()
    server.closeAllConnections()
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () => kill
  )
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    headers,
    behave: (next) => {
      behaviour = next
    },
    metrics: () => metrics,
    metricsOf,
    requests: () => requests,
    until: Effect.fnUntraced(function* (condition: () => boolean) {
      const found = yield* Deferred.make<void>()
      const check = () => {
        if (condition()) Deferred.doneUnsafe(found, Effect.void)
      }
      waiting.add(check)
      check()
      yield* Deferred.await(found)
      waiting.delete(check)
    }),
    kill
  }
})
