/**
 * Both services in one process, for `npm start`. Marketplace calls Recommendations over a real socket, as it does in production.
 */
import { NodeFileSystem, NodePath } from "@effect/platform-node"
import { Effect, Layer } from "effect"

import project from "../package.json" with { type: "json" }
import * as Address from "./layers/config/Address.ts"
import { ProjectRoot } from "./layers/config/ProjectRoot.ts"
import { warnAbout } from "./layers/config/unknownSettings.ts"
import * as ChannelSettings from "./layers/grpc/client/ChannelSettings.ts"
import * as NodeGrpcChannel from "./layers/grpc/client/NodeGrpcChannel.ts"
import { GrpcServer } from "./layers/grpc/GrpcServer.ts"
import * as Drain from "./layers/process/Drain.ts"
import { runMain } from "./layers/process/runMain.ts"
import * as Logging from "./layers/telemetry/Logging.ts"
import * as Telemetry from "./layers/telemetry/Telemetry.ts"
import * as Marketplace from "./marketplace/Marketplace.ts"
import * as Recommendations from "./recommendations/Recommendations.ts"
import settingNames from "./settingNames.json" with { type: "json" }

/**
 * A channel to the server in this process, by the address that it listens on: a name such as localhost could resolve to an address on
 * which another process listens. Its certificate is for localhost.
 */
const ChannelToServer = Layer.unwrap(
  Effect.gen(function* () {
    const address = yield* (yield* GrpcServer).address
    return NodeGrpcChannel.layer(
      yield* ChannelSettings.options("MARKETPLACE", Address.format(toLoopback(address)), "localhost")
    )
  })
)

/** A server on the unspecified address, of IPv6 or IPv4, also listens on 127.0.0.1. */
const toLoopback = ({ host, port }: Address.Address): Address.Address => ({
  host: host === "::" || host === "0.0.0.0" ? "127.0.0.1" : host,
  port
})

Marketplace.layer(project.version, ChannelToServer).pipe(
  // what readers said is personal, so other machines get it only if the host is set
  Layer.provide(Recommendations.layer(project.version, "127.0.0.1")),
  Layer.provide(ProjectRoot.layer(import.meta.url, "proto/recommendations.proto")),
  Layer.provide(NodeFileSystem.layer),
  Layer.provide(NodePath.layer),
  Layer.provide(Telemetry.layerShared),
  Drain.launch,
  warnAbout(settingNames),
  Effect.provide(Logging.layerConfig),
  Effect.annotateLogs({ service: project.name, version: project.version }),
  runMain
)
