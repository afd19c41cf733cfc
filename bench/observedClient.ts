/**
 * A client for {@link file://./observability.ts}. It makes as many calls as its parent requests, 64 at a time. The first argument names
 * its observers, the second is the target.
 */
import { Effect, Layer } from "effect"

import * as NodeGrpcChannel from "../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../src/layers/grpc/GrpcClient.ts"
import * as DefaultObservers from "../src/layers/grpc/interceptors/DefaultObservers.ts"
import * as RetryPolicy from "../src/layers/grpc/RetryPolicy.ts"
import * as Drain from "../src/layers/process/Drain.ts"
import { runMain } from "../src/layers/process/runMain.ts"
import * as Logging from "../src/layers/telemetry/Logging.ts"
import * as OtlpExport from "../src/layers/telemetry/OtlpExport.ts"
import * as Telemetry from "../src/layers/telemetry/Telemetry.ts"
import { EchoService } from "../src/layers/testing/generated/services.ts"

const [, , part, target = ""] = process.argv

Layer.effectDiscard(
  Effect.gen(function* () {
    const { Echo } = yield* GrpcClient.make(EchoService)
    const runPromise = Effect.runPromiseWith(yield* Effect.context<never>())
    const call = Echo({ text: "hello" }, { timeout: "10 seconds" })
    const make = (calls: number) =>
      runPromise(Effect.forEach(Array.from({ length: calls }), () => call, { concurrency: 64, discard: true }))
    process.on("message", (calls: number) => {
      void make(calls).then(() => process.send?.("made"))
    })
    process.send?.("ready")
  })
).pipe(
  Layer.provide(
    NodeGrpcChannel.layer({
      target,
      observers: part === "everything" ? DefaultObservers.client : [],
      attemptObservers: part === "everything" ? DefaultObservers.clientAttempt : [],
      // no retries on a busy machine
      policy: { retry: RetryPolicy.never }
    })
  ),
  Layer.provide(OtlpExport.layer),
  Telemetry.provide({ name: "observed", version: "0.0.0" }),
  Drain.launch,
  Effect.provide(Logging.layerConfig),
  runMain
)
