/**
 * Both services in one process, as `npm start` runs them.
 */
import { fileURLToPath } from "node:url"

import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { HttpClient } from "effect/http"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import { freePorts } from "./Installation.ts"
import * as OtlpReceiver from "./OtlpReceiver.ts"
import * as Output from "./Output.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Starts both services on free ports, and waits until pages are served. */
const start = Effect.fnUntraced(function* (env: Readonly<Record<string, string>>) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner.spawn(
    ChildProcess.make(process.execPath, [`${root}src/main.ts`], {
      env: { ...freePorts, ...env },
      extendEnv: false
    })
  )
  const { match } = yield* Output.follow("npm start", handle)
  const [, grpcHost] = yield* match(/gRPC server listening on ([\d.]+):\d+/)
  const [, url = ""] = yield* match(/HTTP server listening on (http:\/\/[^\s"]+:\d+)/)
  return { handle, url, grpcHost }
})

layer(Layer.merge(NodeServices.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })(
  "both services in one process",
  (it) => {
    it.effect("connect to each other by address, regardless of proxies and name servers in the environment", () =>
      Effect.gen(function* () {
        const { url } = yield* start({
          // nothing listens on this port, and the alternative resolver asks a DNS server for localhost
          http_proxy: "http://127.0.0.1:1",
          grpc_proxy: "http://127.0.0.1:1",
          GRPC_NODE_USE_ALTERNATIVE_RESOLVER: "true"
        })
        const response = yield* HttpClient.get(`${url}/`)
        assert.notMatch(yield* response.text, /We can(’|'|&#39;)t fetch suggestions/)
      })
    )

    it.effect("serve gRPC to this machine only, unless the host is set", () =>
      Effect.gen(function* () {
        assert.strictEqual((yield* start({})).grpcHost, "127.0.0.1")
        assert.strictEqual((yield* start({ RECOMMENDATIONS_GRPC_HOST: "0.0.0.0" })).grpcHost, "0.0.0.0")
      })
    )

    it.effect("export spans in one trace and metrics, each under its own service name", () =>
      Effect.gen(function* () {
        const collector = yield* OtlpReceiver.make()
        const { handle, url } = yield* start({
          OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
          OTEL_TRACES_SAMPLER: "always_on",
          OTEL_SERVICE_NAME: "neither",
          OTEL_BSP_SCHEDULE_DELAY: "3600000",
          OTEL_METRIC_EXPORT_INTERVAL: "3600000"
        })
        const response = yield* HttpClient.get(`${url}/`)
        assert.include(yield* response.text, "<title>Online Books For You</title>")
        process.kill(handle.pid, "SIGTERM")
        assert.strictEqual(Number(yield* handle.exitCode), 0)

        const page = collector.spans.find(({ name }) => name === "GET /")
        assert.strictEqual(page?.resource["service.name"], "marketplace")
        const call = collector.spans.find(
          ({ kind, name, traceId }) => kind === 2 && name.endsWith("/Recommend") && traceId === page?.traceId
        )
        assert.strictEqual(call?.resource["service.name"], "recommendations")
        assert.deepStrictEqual(new Set(collector.metricsOf.keys()), new Set(["marketplace", "recommendations"]))
        const emits = (service: string, name: string) => collector.metricsOf.get(service)?.has(name) === true
        assert.isTrue(emits("marketplace", "http.server.request.duration"))
        assert.isTrue(emits("recommendations", "rpc.server.call.duration"))
        assert.isFalse(emits("recommendations", "http.server.request.duration"))
        assert.isFalse(emits("marketplace", "rpc.server.call.duration"))
      })
    )
  }
)
