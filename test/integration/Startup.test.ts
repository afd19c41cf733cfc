import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"

import { Installation } from "./Installation.ts"
import * as TcpPort from "./TcpPort.ts"

layer(Installation.layer)("a start with an invalid setting", (it) => {
  it.effect.each([
    {
      service: "recommendations",
      env: { RECOMMENDATIONS_GRPC_PORT: "abc" },
      line: 'RECOMMENDATIONS_GRPC_PORT="abc": expected a port, a whole number from 0 to 65535'
    },
    {
      service: "recommendations",
      env: { LOG_LEVEL: "loud" },
      line: 'LOG_LEVEL="loud": expected one of All, Fatal, Error, Warn, Info, Debug, Trace, None'
    },
    {
      service: "recommendations",
      env: { DRAIN_DELAY: "soon" },
      line: 'DRAIN_DELAY="soon": expected a duration from 0 to 1d, such as "800 millis", "25 seconds" or "25s"'
    },
    {
      service: "recommendations",
      env: { RECOMMENDATIONS_GRPC_HOST: "192.0.2.1" },
      line: 'RECOMMENDATIONS_GRPC_HOST="192.0.2.1": expected an address of this machine'
    },
    {
      service: "marketplace",
      env: { RECOMMENDATIONS_TARGET: "dns://kube-dns/recommendations:50051" },
      line:
        'RECOMMENDATIONS_TARGET="dns://kube-dns/recommendations:50051": ' +
        'expected a gRPC target such as "recommendations:50051" or "dns:///recommendations:50051"'
    },
    {
      service: "recommendations",
      env: { RECOMMENDATIONS_TLS_CERT_FILE: "nowhere.crt", RECOMMENDATIONS_TLS_KEY_FILE: "nowhere.key" },
      // the absolute path, in the folder of the installation
      line: /^RECOMMENDATIONS_TLS_CERT_FILE="\/\S+\/nowhere\.crt": expected a PEM file, but there is no such file$/
    },
    // an empty value would allow more servers than intended
    {
      service: "marketplace",
      env: { MARKETPLACE_TLS_CA_FILE: "" },
      line: 'MARKETPLACE_TLS_CA_FILE="": expected a path, or not to be set at all'
    },
    {
      service: "recommendations",
      env: { RECOMMENDATIONS_MAX_CONNECTIONS: "0" },
      line: 'RECOMMENDATIONS_MAX_CONNECTIONS="0": expected a whole number from 1 to 2147483647'
    },
    {
      service: "marketplace",
      env: { MARKETPLACE_TLS_CA_FILE: "ca.crt", RECOMMENDATIONS_TARGET: "127.0.0.1:50051" },
      line:
        'MARKETPLACE_TLS_SERVER_NAME="": ' +
        "expected the name in the server's certificate, since the target 127.0.0.1:50051 is an address"
    },
    {
      service: "marketplace",
      env: { MARKETPLACE_HTTP_PORT: "65536" },
      line: 'MARKETPLACE_HTTP_PORT="65536": expected a port, a whole number from 0 to 65535'
    },
    {
      service: "marketplace",
      env: { MARKETPLACE_PAGE_BUDGET: "-1s" },
      line: 'MARKETPLACE_PAGE_BUDGET="-1s": expected a duration from 10ms to 1h, such as "800 millis", "25 seconds" or "25s"'
    },
    {
      service: "marketplace",
      env: { MARKETPLACE_TRUST_TRACES: "perhaps" },
      line: 'MARKETPLACE_TRUST_TRACES="perhaps": expected true or false'
    },
    {
      service: "recommendations",
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" },
      line:
        'OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318": ' +
        "expected the URL of a collector, without a password, such as http://localhost:4318"
    },
    {
      service: "marketplace",
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: "http://user:hunter2@collector:4318" },
      line:
        'OTEL_EXPORTER_OTLP_ENDPOINT="<redacted>": ' +
        "expected the URL of a collector, without a password, such as http://localhost:4318"
    },
    {
      service: "recommendations",
      // a secret value is redacted
      env: { OTEL_EXPORTER_OTLP_HEADERS: "token" },
      line: 'OTEL_EXPORTER_OTLP_HEADERS="<redacted>": expected comma-separated key=value pairs'
    },
    {
      service: "recommendations",
      env: { OTEL_RESOURCE_ATTRIBUTES: "a=%zz" },
      line: 'OTEL_RESOURCE_ATTRIBUTES="a=%zz": expected comma-separated key=value pairs'
    },
    {
      service: "marketplace",
      env: { OTEL_TRACES_SAMPLER: "sometimes" },
      line:
        'OTEL_TRACES_SAMPLER="sometimes": expected one of always_on, always_off, traceidratio, ' +
        "parentbased_always_on, parentbased_always_off, parentbased_traceidratio"
    },
    {
      service: "marketplace",
      env: { OTEL_TRACES_SAMPLER_ARG: "1 %" },
      line: 'OTEL_TRACES_SAMPLER_ARG="1 %": expected a number from 0 to 1'
    },
    {
      service: "marketplace",
      env: { OTEL_BSP_SCHEDULE_DELAY: "5s" },
      line: 'OTEL_BSP_SCHEDULE_DELAY="5s": expected a whole number of milliseconds from 1 to 2147483647'
    }
  ] as const)("$line", ({ env, line, service }) =>
    Effect.gen(function* () {
      const { exitCode, stderr } = yield* (yield* Installation).run(service, env)
      if (typeof line === "string") assert.strictEqual(stderr, `${line}\n`)
      else assert.match(stderr.trimEnd(), line)
      assert.strictEqual(exitCode, 1)
    })
  )

  it.effect("fails for a port in use", () =>
    Effect.gen(function* () {
      const installation = yield* Installation
      const port = String(yield* TcpPort.accept())
      const grpc = yield* installation.run("recommendations", { RECOMMENDATIONS_GRPC_PORT: port })
      const http = yield* installation.run("marketplace", { MARKETPLACE_HTTP_PORT: port })
      assert.strictEqual(
        grpc.stderr,
        `RECOMMENDATIONS_GRPC_PORT=${port}: expected a port that is free, but [::]:${port} is in use\n`
      )
      assert.strictEqual(
        http.stderr,
        `MARKETPLACE_HTTP_PORT=${port}: expected a port that is free, but [::]:${port} is in use\n`
      )
      assert.deepStrictEqual([grpc.exitCode, http.exitCode], [1, 1])
    })
  )
})

layer(Installation.layer, { excludeTestServices: true })("a start with a misspelt setting", (it) => {
  it.effect.each([
    { service: "recommendations", env: { RECOMMENDATIONS_TARGT: "a:1" }, nearest: "RECOMMENDATIONS_TARGET" },
    { service: "marketplace", env: { MARKETPLACE_PAGE_BUGET: "1s" }, nearest: "MARKETPLACE_PAGE_BUDGET" }
  ] as const)("warns about it: $nearest", ({ env, nearest, service }) =>
    Effect.gen(function* () {
      const { output } = yield* (yield* Installation).start(service, { ...env, RECOMMENDATIONS_TARGET: "localhost:1" })
      const [name] = Object.keys(env)
      const warnings = (yield* output).split("\n").filter((line) => line.includes("Unknown setting"))
      assert.lengthOf(warnings, 1)
      assert.include(warnings[0], `Unknown setting ${name}: did you mean ${nearest}?`)
    })
  )
})
