import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Metric, Option } from "effect"
import { TestClock } from "effect/testing"

import * as FileDescriptors from "../../../src/layers/telemetry/FileDescriptors.ts"
import * as Echo from "../grpc/Echo.ts"
import * as Logs from "./Logs.ts"

describe("FileDescriptors", () => {
  it.live("reads the limit on Linux", () =>
    Effect.gen(function* () {
      const limit = yield* FileDescriptors.limit
      if (process.platform === "linux") assert.isAbove(Option.getOrThrow(limit), 0)
    })
  )

  it.live("lowers the connection limit of a gRPC server below the limit of descriptors, and logs it", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const limit = yield* FileDescriptors.limit
      if (Option.isNone(limit)) return
      const limits = { maxConnections: limit.value + 1 }
      yield* Layer.build(Layer.provide(Echo.serve({}, { limits }), logs.layer))
      const most = limit.value - FileDescriptors.reserved
      const expected = `gRPC connection limit lowered from ${limit.value + 1} to ${most}: `
      assert.isTrue(logs.lines().some(({ message }) => String(message).startsWith(expected)))
      const gauge = (yield* Metric.snapshot).find(({ id }) => id === "grpc_server_connections_limit")
      assert.deepStrictEqual(gauge?.state, { value: most })
    }).pipe(Effect.scoped, Effect.provideService(Metric.MetricRegistry, new Map()))
  })

  it.effect("logs exhaustion once a second at most, and counts it", () => {
    const logs = Logs.recorder()
    let left = true
    return Effect.gen(function* () {
      yield* Effect.forkScoped(
        FileDescriptors.watch(Effect.sync(() => (left ? Option.none<string>() : Option.some("EMFILE"))))
      )
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(logs.lines(), [])
      assert.strictEqual((yield* Metric.value(FileDescriptors.exhausted)).count, 0)
      left = false
      yield* TestClock.adjust("1 second")
      left = true
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(
        logs.lines().map(({ level, message }) => [level, message]),
        [["ERROR", "Out of file descriptors (EMFILE): the system closes new connections"]]
      )
      assert.strictEqual((yield* Metric.value(FileDescriptors.exhausted)).count, 1)
    }).pipe(Effect.scoped, Effect.provide(logs.layer), Effect.provideService(Metric.MetricRegistry, new Map()))
  })
})
