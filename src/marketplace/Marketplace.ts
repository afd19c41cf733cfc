/**
 * The Marketplace service, whole: the shop's pages, with books from wherever a channel leads.
 */
import { Layer } from "effect"

import * as Admin from "../layers/Admin.ts"
import type { GrpcChannel } from "../layers/GrpcChannel.ts"
import * as Logging from "../layers/Logging.ts"
import * as WebServer from "../layers/WebServer.ts"
import { RecommendationsClient } from "./RecommendationsClient.ts"
import * as Routes from "./Routes.ts"
import { Storefront } from "./Storefront.ts"

export const layer = <E, R>(channel: Layer.Layer<GrpcChannel, E, R>) =>
  Routes.make.pipe(
    WebServer.serveConfig("MARKETPLACE", 5000),
    Layer.provide(Storefront.layerConfig),
    Layer.provide(RecommendationsClient.layer),
    Layer.provide(channel),
    Layer.provide(Admin.layerConfig("MARKETPLACE", 9102)),
    Logging.forService("marketplace")
  )
