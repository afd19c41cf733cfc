/**
 * The accepted range of every setting that is a duration, a number or a size. Values that would mean "never" or "always" by accident,
 * or that exceed the longest delay of a timer, are refused with a message that names the range.
 */
import { assert, describe, it } from "@effect/vitest"
import { type Config, ConfigProvider, Duration, Effect } from "effect"

import * as ChannelSettings from "../../../src/layers/grpc/client/ChannelSettings.ts"
import * as ServerSettings from "../../../src/layers/grpc/server/ServerSettings.ts"
import * as Drain from "../../../src/layers/process/Drain.ts"
import * as OtlpSettings from "../../../src/layers/telemetry/OtlpSettings.ts"

interface Range {
  readonly config: Config.Config<unknown>
  readonly variable: string
  readonly accepted: ReadonlyArray<string>
  readonly refused: ReadonlyArray<string>
}

const server: Config.Config<unknown> = ServerSettings.settings("S")
const client: Config.Config<unknown> = ChannelSettings.policy("C")
const drain: Config.Config<unknown> = Drain.settings
const telemetry: Config.Config<unknown> = OtlpSettings.settings

const ranges: ReadonlyArray<Range> = [
  // 0 means no wait
  { config: drain, variable: "DRAIN_DELAY", accepted: ["0s", "1 day"], refused: ["25h", "24 days"] },
  { config: drain, variable: "DRAIN_TIMEOUT", accepted: ["0s", "1 day"], refused: ["25h", "24 days"] },
  { config: server, variable: "S_MAX_QUEUE_WAIT", accepted: ["0s", "1h"], refused: ["2h"] },
  // 0 would close every connection at once
  {
    config: server,
    variable: "S_MAX_CONNECTION_AGE",
    accepted: ["1s", "20 days"],
    refused: ["0s", "999ms", "21 days"]
  },
  // 0 would send pings without a pause
  { config: server, variable: "S_KEEPALIVE_TIME", accepted: ["1s", "24 days"], refused: ["0s", "999ms", "25 days"] },
  { config: client, variable: "C_KEEPALIVE_TIME", accepted: ["1s", "24 days"], refused: ["0s", "999ms", "25 days"] },
  // 0 would close every connection at its first ping
  {
    config: server,
    variable: "S_KEEPALIVE_TIMEOUT",
    accepted: ["100ms", "24 days"],
    refused: ["0s", "99ms", "25 days"]
  },
  {
    config: client,
    variable: "C_KEEPALIVE_TIMEOUT",
    accepted: ["100ms", "24 days"],
    refused: ["0s", "99ms", "25 days"]
  },
  { config: server, variable: "S_MAX_CONCURRENCY", accepted: ["1", "2147483647"], refused: ["0", "2147483648"] },
  // 0 disables the queue
  { config: server, variable: "S_MAX_QUEUE", accepted: ["0", "2147483647"], refused: ["2147483648"] },
  { config: server, variable: "S_MAX_REQUEST_SIZE", accepted: ["1024"], refused: ["0", "2147483648"] },
  { config: server, variable: "S_MAX_RESPONSE_SIZE", accepted: ["1024"], refused: ["0", "2147483648"] },
  // the headers of a gRPC call do not fit into less
  { config: server, variable: "S_MAX_HEADER_SIZE", accepted: ["1024"], refused: ["0", "1", "1023", "2147483648"] },
  { config: server, variable: "S_MAX_CONCURRENT_STREAMS", accepted: ["1", "2147483647"], refused: ["0", "2147483648"] },
  // with 0 every attempt would time out
  { config: client, variable: "C_ATTEMPT_TIMEOUT", accepted: ["1ms", "24 days"], refused: ["0s", "25 days"] },
  { config: client, variable: "C_RETRY_MAX_ATTEMPTS", accepted: ["1", "100"], refused: ["0", "101", "2147483647"] },
  // 0 means an immediate retry
  { config: client, variable: "C_RETRY_BACKOFF", accepted: ["0s", "20 days"], refused: ["21 days"] },
  { config: client, variable: "C_RETRY_MAX_BACKOFF", accepted: ["0s", "20 days"], refused: ["21 days"] },
  // a smaller bucket never allows a retry
  { config: client, variable: "C_RETRY_MAX_TOKENS", accepted: ["3", "2147483647"], refused: ["0", "1", "2"] },
  { config: client, variable: "C_RETRY_TOKEN_RATIO", accepted: ["0.001", "1"], refused: ["0", "0.0001", "1.1"] },
  { config: client, variable: "C_CIRCUIT_FAILURES", accepted: ["1", "2147483647"], refused: ["0"] },
  // 0 would disable the circuit breaker
  { config: client, variable: "C_CIRCUIT_OPEN", accepted: ["1ms", "24 days"], refused: ["0s", "25 days"] },
  // 0 disables the suspension of replicas
  { config: client, variable: "C_SUSPENSION", accepted: ["0s", "24 days"], refused: ["25 days"] },
  // with 0 no connection would be established
  { config: client, variable: "C_CONNECT_TIMEOUT", accepted: ["100ms", "24 days"], refused: ["0s", "99ms", "25 days"] },
  // 0 would reconnect without a pause
  { config: client, variable: "C_CONNECT_BACKOFF", accepted: ["10ms", "20 days"], refused: ["0s", "9ms", "21 days"] },
  { config: client, variable: "C_CONNECT_MAX_BACKOFF", accepted: ["10ms", "20 days"], refused: ["0s", "21 days"] },
  // 0 would resolve names without a pause
  {
    config: client,
    variable: "C_RESOLUTION_INTERVAL",
    accepted: ["10ms", "24 days"],
    refused: ["0s", "9ms", "25 days"]
  },
  { config: client, variable: "C_MAX_RESPONSE_SIZE", accepted: ["1024", "2147483647"], refused: ["0", "2147483648"] },
  {
    config: telemetry,
    variable: "OTEL_EXPORTER_OTLP_TIMEOUT",
    accepted: ["1", "2147483647"],
    refused: ["0", "2147483648"]
  },
  {
    config: telemetry,
    variable: "OTEL_BSP_SCHEDULE_DELAY",
    accepted: ["1", "2147483647"],
    refused: ["0", "2147483648"]
  },
  {
    config: telemetry,
    variable: "OTEL_METRIC_EXPORT_INTERVAL",
    accepted: ["1", "2147483647"],
    refused: ["0", "2147483648"]
  },
  { config: telemetry, variable: "OTEL_TRACES_SAMPLER_ARG", accepted: ["0", "1"], refused: ["1.1"] }
]

const read = (config: Config.Config<unknown>, env: Record<string, string>) =>
  config.parse(ConfigProvider.fromEnv({ env }))

describe("the range of a setting", () => {
  it.effect.each(ranges)("$variable", ({ accepted, config, refused, variable }) =>
    Effect.gen(function* () {
      for (const value of accepted) yield* read(config, { [variable]: value })
      for (const value of refused) {
        const { message } = yield* Effect.flip(read(config, { [variable]: value }))
        assert.match(message, new RegExp(`^${variable}="${value}": expected a [a-z ]+ from \\S+ to \\S+`))
        assert.notInclude(message, "\n")
      }
    })
  )

  it("leaves room for jitter below the longest delay of a timer", () => {
    const longest = 2 ** 31 - 1
    assert.isBelow(Duration.toMillis(Duration.days(20)) * 1.2, longest)
    assert.isBelow(Duration.toMillis(Duration.days(24)), longest)
  })
})
