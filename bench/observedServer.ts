/**
 * An Echo that answers at once, observed as its argument says and by the settings of its environment, for
 * {@link file://./observability.ts}: bundled, and with all that a service has around its calls.
 */
import { NodeServices } from "@effect/platform-node"
import { Duration, Effect, Layer, Stream } from "effect"

import * as Drain from "../src/layers/Drain.ts"
import type { EchoRequest__Output } from "../src/layers/generated/testing/onlinebooks/layers/testing/EchoRequest.ts"
import * as GrpcAccessLog from "../src/layers/GrpcAccessLog.ts"
import * as GrpcErrorReport from "../src/layers/GrpcErrorReport.ts"
import type { ServerInterceptor } from "../src/layers/GrpcInterceptor.ts"
import * as GrpcMetrics from "../src/layers/GrpcMetrics.ts"
import * as GrpcObservers from "../src/layers/GrpcObservers.ts"
import * as GrpcServer from "../src/layers/GrpcServer.ts"
import * as GrpcService from "../src/layers/GrpcService.ts"
import * as GrpcTracing from "../src/layers/GrpcTracing.ts"
import * as Logging from "../src/layers/Logging.ts"
import { ProjectRoot } from "../src/layers/ProjectRoot.ts"
import * as Telemetry from "../src/layers/Telemetry.ts"
import { EchoService } from "../src/layers/testing/EchoServer.ts"

const parts: { readonly [part: string]: ReadonlyArray<ServerInterceptor> } = {
  nothing: [],
  metrics: [GrpcMetrics.server],
  tracing: [GrpcTracing.server],
  log: [GrpcAccessLog.server],
  errors: [GrpcErrorReport.server],
  everything: GrpcObservers.server
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
  GrpcServer.listen({ host: "127.0.0.1", port: 0, observers, limits: { maxConnectionAge: Duration.hours(1) } }),
  Layer.provide(GrpcService.ProtoFiles.layer("src/layers/testing")),
  Layer.provide(ProjectRoot.layer(import.meta.url, "package.json")),
  Layer.provide(NodeServices.layer),
  Layer.provide(Telemetry.exported),
  Telemetry.provide({ name: "observed", version: "0.0.0" }),
  Drain.launch,
  Effect.provide(Logging.layerConfig),
  Drain.runMain
)
