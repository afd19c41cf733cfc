/**
 * The Marketplace service: serves the pages of the shop over HTTP, with books from Recommendations.
 */
import { Layer } from "effect"

import type { GrpcChannel } from "../layers/grpc/GrpcChannel.ts"
import * as AdminServer from "../layers/http/AdminServer.ts"
import * as WebServer from "../layers/http/WebServer.ts"
import * as OtlpExport from "../layers/telemetry/OtlpExport.ts"
import * as Telemetry from "../layers/telemetry/Telemetry.ts"
import { RecommendationsClient } from "./RecommendationsClient.ts"
import * as Routes from "./Routes.ts"
import { Storefront } from "./Storefront.ts"

/** `channel` is the channel to Recommendations. `version` is reported as the service version in telemetry. */
export const layer = <E, R>(version: string, channel: Layer.Layer<GrpcChannel, E, R>) =>
  Routes.make.pipe(
    WebServer.serveConfig("MARKETPLACE", 5000),
    Layer.provide(Storefront.layerConfig),
    Layer.provide(RecommendationsClient.layer),
    Layer.provide(channel),
    Layer.provide(OtlpExport.layer),
    Layer.provide(AdminServer.layerConfig("MARKETPLACE", 9102)),
    Telemetry.provide({ name: "marketplace", version })
  )
