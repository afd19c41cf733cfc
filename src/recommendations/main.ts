/**
 * Runs the Recommendations service.
 */
import { NodeFileSystem, NodePath } from "@effect/platform-node"
import { Effect, Layer } from "effect"

import project from "../../package.json" with { type: "json" }
import { ProjectRoot } from "../layers/config/ProjectRoot.ts"
import { warnAbout } from "../layers/config/unknownSettings.ts"
import * as Drain from "../layers/process/Drain.ts"
import { runMain } from "../layers/process/runMain.ts"
import * as Logging from "../layers/telemetry/Logging.ts"
import settingNames from "../settingNames.json" with { type: "json" }
import * as Recommendations from "./Recommendations.ts"

Recommendations.layer(project.version).pipe(
  Layer.provide(ProjectRoot.layer(import.meta.url, "proto/recommendations.proto")),
  Layer.provide(NodeFileSystem.layer),
  Layer.provide(NodePath.layer),
  Drain.launch,
  warnAbout(settingNames),
  Effect.provide(Logging.layerConfig),
  Effect.annotateLogs({ service: "recommendations", version: project.version }),
  runMain
)
