import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect } from "effect"

import * as UnknownSettings from "../../../src/layers/config/unknownSettings.ts"

const known = ["SHOP_MAX_CALLS", "SHOP_PORT", "DRAIN_DELAY", "OTEL_SERVICE_NAME"]

const findIn = (env: Record<string, string>) =>
  UnknownSettings.find(known).pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))))

describe("unknown settings", () => {
  it.effect("are named with the nearest known setting", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* findIn({ SHOP_MAX_CALS: "1", DRAIN_DELYA: "5s", SHOP_MAX_CALLS: "2" }), [
        { variable: "SHOP_MAX_CALS", nearest: "SHOP_MAX_CALLS" },
        { variable: "DRAIN_DELYA", nearest: "DRAIN_DELAY" }
      ])
    })
  )

  it.effect("are not variables of others, nor those of OpenTelemetry and grpc-js", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        yield* findIn({ PATH: "/bin", SHOPPING: "1", OTEL_SERVICE_NAM: "a", GRPC_TRACE: "all" }),
        []
      )
    })
  )

  it.effect("are not the variables that Kubernetes sets for a Service", () =>
    Effect.gen(function* () {
      const injected = {
        SHOP_PORT: "tcp://10.0.0.1:80",
        SHOP_PORT_80_TCP: "tcp://10.0.0.1:80",
        SHOP_SERVICE_PORT: "80",
        SHOP_SERVICE_PORT_HTTP: "80"
      }
      assert.deepStrictEqual(yield* findIn({ ...injected, SHOP_SERVICE_HOST: "10.0.0.1" }), [])
      const unknown = yield* findIn(injected)
      assert.deepStrictEqual(
        unknown.map(({ variable }) => variable),
        ["SHOP_SERVICE_PORT", "SHOP_SERVICE_PORT_HTTP"]
      )
    })
  )
})
