/**
 * An Echo that answers at once, observed as its argument says and by the settings of its environment, for
 * {@link file://./observability.ts}: bundled, and with all that a service has around its calls.
 */
import { NodeServices } from "@effect/platform-node"
import { Duration, Effect, Layer, Stream } from "effect"

import { ProjectRoot } from "../src/layers/config/ProjectRoot.ts"
import type { ServerInterceptor } from "../src/layers/grpc/GrpcInterceptor.ts"
import * as GrpcServer from "../src/layers/grpc/GrpcServer.ts"
import * as GrpcService from "../src/layers/grpc/GrpcService.ts"
import * as AccessLog from "../src/layers/grpc/interceptors/AccessLog.ts"
import * as DefaultObservers from "../src/layers/grpc/interceptors/DefaultObservers.ts"
import * as ErrorReport from "../src/layers/grpc/interceptors/ErrorReport.ts"
import * as Metrics from "../src/layers/grpc/interceptors/Metrics.ts"
import * as Tracing from "../src/layers/grpc/interceptors/Tracing.ts"
import * as NodeGrpcServer from "../src/layers/grpc/server/NodeGrpcServer.ts"
import * as Drain from "../src/layers/process/Drain.ts"
import { runMain } from "../src/layers/process/runMain.ts"
import * as Logging from "../src/layers/telemetry/Logging.ts"
import * as Telemetry from "../src/layers/telemetry/Telemetry.ts"
import { EchoService } from "../src/layers/testing/EchoServer.ts"
import type { EchoRequest__Output } from "../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"

const parts: { readonly [part: string]: ReadonlyArray<ServerInterceptor> } = {
  nothing: [],
  metrics: [Metrics.server],
  tracing: [Tracing.server],
  log: [AccessLog.server],
  errors: [ErrorReport.server],
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
  // no client is sent away in the middle of a round
  NodeGrpcServer.listen({ host: "127.0.0.1", port: 0, observers, limits: { maxConnectionAge: Duration.hours(1) } }),
  Layer.provide(GrpcService.ProtoFiles.layer("src/layers/testing")),
  Layer.provide(ProjectRoot.layer(import.meta.url, "package.json")),
  Layer.provide(NodeServices.layer),
  Layer.provide(Telemetry.exported),
  Telemetry.provide({ name: "observed", version: "0.0.0" }),
  Drain.launch,
  Effect.provide(Logging.layerConfig),
  runMain
)
