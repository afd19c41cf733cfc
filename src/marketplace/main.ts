import { NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"

import project from "../../package.json" with { type: "json" }
import * as Drain from "../layers/Drain.ts"
import { GrpcChannel } from "../layers/GrpcChannel.ts"
import { ProtoFiles } from "../layers/GrpcService.ts"
import * as Logging from "../layers/Logging.ts"
import { ProjectRoot } from "../layers/ProjectRoot.ts"
import * as Marketplace from "./Marketplace.ts"

Marketplace.layer(project.version, GrpcChannel.layerConfig({ server: "RECOMMENDATIONS", client: "MARKETPLACE" })).pipe(
  Layer.provide(ProtoFiles.layer("proto")),
  Layer.provide(ProjectRoot.layer(import.meta.url, "proto/recommendations.proto")),
  Layer.provide(NodeServices.layer),
  Drain.launch,
  Effect.provide(Logging.layerConfig),
  Effect.annotateLogs({ service: "marketplace", version: project.version }),
  Drain.runMain
)
