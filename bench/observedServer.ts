/**
 * An echo server for {@link file://./observability.ts}. The argument names its observers; the environment has the settings of
 * telemetry and logging.
 */
import { Duration, Effect, Layer, Stream } from "effect"

import type { ServerInterceptor } from "../src/layers/grpc/GrpcInterceptor.ts"
import * as GrpcServer from "../src/layers/grpc/GrpcServer.ts"
import * as AccessLog from "../src/layers/grpc/interceptors/AccessLog.ts"
import * as DefaultObservers from "../src/layers/grpc/interceptors/DefaultObservers.ts"
import * as Metrics from "../src/layers/grpc/interceptors/Metrics.ts"
import * as Tracing from "../src/layers/grpc/interceptors/Tracing.ts"
import * as NodeGrpcServer from "../src/layers/grpc/server/NodeGrpcServer.ts"
import * as Drain from "../src/layers/process/Drain.ts"
import { runMain } from "../src/layers/process/runMain.ts"
import * as Logging from "../src/layers/telemetry/Logging.ts"
import * as OtlpExport from "../src/layers/telemetry/OtlpExport.ts"
import * as Telemetry from "../src/layers/telemetry/Telemetry.ts"
import type { EchoRequest__Output } from "../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"
import { EchoService } from "../src/layers/testing/generated/services.ts"

const parts: { readonly [part: string]: ReadonlyArray<ServerInterceptor> } = {
  nothing: [],
  metrics: [Metrics.server],
  tracing: [Tracing.server],
  log: [AccessLog.server],
  everything: DefaultObservers.server
}

const observers = parts[process.argv[2] ?? ""]
if (observers === undefined) throw new Error(`Expected one of ${Object.keys(parts).join(", ")}`)

const echo = ({ text }: EchoRequest__Output) => Effect.succeed({ text, items: [] })

GrpcServer.serve(
  EchoService,
  Effect.succeed({
    Echo: echo,
    EchoOnce: echo,
    Expand: (request: EchoRequest__Output) => Stream.fromEffect(echo(request)),
    Collect: () => Effect.succeed({ text: "", items: [] }),
    Chat: (requests: Stream.Stream<EchoRequest__Output>) => Stream.mapEffect(requests, echo)
  }),
  {}
).pipe(
  // no connection reaches its maximum age during a round
  NodeGrpcServer.listen({ host: "127.0.0.1", port: 0, observers, limits: { maxConnectionAge: Duration.hours(1) } }),
  Layer.provide(OtlpExport.layer),
  Telemetry.provide({ name: "observed", version: "0.0.0" }),
  Drain.launch,
  Effect.provide(Logging.layerConfig),
  runMain
)
