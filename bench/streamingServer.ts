/**
 * An echo server with the default observers for the row `stream` of {@link file://./main.ts}: it answers a text with a stream of as
 * many small messages as requested.
 */
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer, Stream } from "effect"

import { ProjectRoot } from "../src/layers/config/ProjectRoot.ts"
import * as GrpcServer from "../src/layers/grpc/GrpcServer.ts"
import * as NodeGrpcServer from "../src/layers/grpc/server/NodeGrpcServer.ts"
import * as Drain from "../src/layers/process/Drain.ts"
import { runMain } from "../src/layers/process/runMain.ts"
import * as Logging from "../src/layers/telemetry/Logging.ts"
import * as OtlpExport from "../src/layers/telemetry/OtlpExport.ts"
import * as Telemetry from "../src/layers/telemetry/Telemetry.ts"
import type { EchoRequest__Output } from "../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"
import { EchoService } from "../src/layers/testing/generated/services.ts"

const items: ReadonlyArray<never> = []
const echo = ({ text }: EchoRequest__Output) => Effect.succeed({ text, items })

GrpcServer.serve(
  EchoService,
  Effect.succeed({
    Echo: echo,
    EchoOnce: echo,
    Expand: ({ int32Value, text }: EchoRequest__Output) =>
      Stream.map(Stream.range(1, int32Value), (number) => ({ text, number, items })),
    Collect: () => Effect.succeed({ text: "", items }),
    Chat: (requests: Stream.Stream<EchoRequest__Output>) => Stream.mapEffect(requests, echo)
  }),
  {}
).pipe(
  NodeGrpcServer.listenConfig("ECHO"),
  Layer.provide(ProjectRoot.layer(import.meta.url, "package.json")),
  Layer.provide(NodeServices.layer),
  Layer.provide(OtlpExport.layer),
  Telemetry.provide({ name: "streaming", version: "0.0.0" }),
  Drain.launch,
  Effect.provide(Logging.layerConfig),
  runMain
)
