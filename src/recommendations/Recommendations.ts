/**
 * The Recommendations service, whole: both APIs on one port, one domain behind them, the catalogue from its file.
 */
import { Layer } from "effect"

import { Recommender } from "../domain/Recommender.ts"
import * as Admin from "../layers/Admin.ts"
import * as GrpcServer from "../layers/GrpcServer.ts"
import * as Logging from "../layers/Logging.ts"
import * as CatalogFile from "./CatalogFile.ts"
import * as RecommendationsFirst from "./RecommendationsFirst.ts"
import * as RecommendationsV1 from "./RecommendationsV1.ts"

export const layer = Layer.merge(RecommendationsFirst.layer, RecommendationsV1.layer).pipe(
  GrpcServer.listenConfig("RECOMMENDATIONS"),
  Layer.provide(Recommender.layer),
  Layer.provide(CatalogFile.layer),
  Layer.provide(Admin.layerConfig("RECOMMENDATIONS", 9101)),
  Logging.forService("recommendations")
)
