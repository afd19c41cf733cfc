/**
 * Runs the Marketplace service.
 */
import { NodeFileSystem, NodePath } from "@effect/platform-node"
import { Effect, Layer } from "effect"

import project from "../../package.json" with { type: "json" }
import { ProjectRoot } from "../layers/config/ProjectRoot.ts"
import { warnAbout } from "../layers/config/unknownSettings.ts"
import * as NodeGrpcChannel from "../layers/grpc/client/NodeGrpcChannel.ts"
import * as Drain from "../layers/process/Drain.ts"
import { runMain } from "../layers/process/runMain.ts"
import * as Logging from "../layers/telemetry/Logging.ts"
import settingNames from "../settingNames.json" with { type: "json" }
import * as Marketplace from "./Marketplace.ts"

Marketplace.layer(
  project.version,
  NodeGrpcChannel.layerConfig({ server: "RECOMMENDATIONS", client: "MARKETPLACE" })
).pipe(
  Layer.provide(ProjectRoot.layer(import.meta.url, "proto/recommendations.proto")),
  Layer.provide(NodeFileSystem.layer),
  Layer.provide(NodePath.layer),
  Drain.launch,
  warnAbout(settingNames),
  Effect.provide(Logging.layerConfig),
  Effect.annotateLogs({ service: "marketplace", version: project.version }),
  runMain
)
