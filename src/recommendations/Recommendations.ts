/**
 * The Recommendations service: all APIs over gRPC, with health and reflection, on the catalogue of the database.
 */
import { Effect, Layer } from "effect"

import { Recommender } from "../domain/Recommender.ts"
import descriptors from "../generated/descriptors.ts"
import * as NodeGrpcServer from "../layers/grpc/server/NodeGrpcServer.ts"
import * as ServerSettings from "../layers/grpc/server/ServerSettings.ts"
import { Health } from "../layers/grpc/services/Health.ts"
import * as Reflection from "../layers/grpc/services/Reflection.ts"
import * as AdminServer from "../layers/http/AdminServer.ts"
import { Database } from "../layers/sql/Database.ts"
import * as OtlpExport from "../layers/telemetry/OtlpExport.ts"
import * as Telemetry from "../layers/telemetry/Telemetry.ts"
import * as TlsSettings from "../layers/tls/TlsSettings.ts"
import * as CatalogApi from "./api/CatalogApi.ts"
import * as LegacyApi from "./api/LegacyApi.ts"
import * as ReaderApi from "./api/ReaderApi.ts"
import * as readerHealth from "./api/readerHealth.ts"
import * as V1Api from "./api/V1Api.ts"
import * as CatalogFile from "./catalog/CatalogFile.ts"
import { CatalogStore } from "./catalog/CatalogStore.ts"
import * as DatabaseCatalog from "./catalog/DatabaseCatalog.ts"
import * as DatabaseSearch from "./catalog/DatabaseSearch.ts"
import { migrations } from "./database/migrations.ts"
import * as SqlReaders from "./readers/SqlReaders.ts"

/** `version` is reported as the service version in telemetry; `host` is the address to listen on unless it is set. */
export const layer = (version: string, host?: string) =>
  Layer.mergeAll(
    LegacyApi.layer,
    V1Api.layer,
    CatalogApi.layer,
    ReaderApi.layerConfig,
    readerHealth.layer.pipe(Layer.provideMerge(Health.layer)),
    Reflection.layer([descriptors])
  ).pipe(
    NodeGrpcServer.listenConfig("RECOMMENDATIONS", { host }),
    Layer.provide(Recommender.layer),
    Layer.provide(Layer.mergeAll(DatabaseCatalog.layer, DatabaseSearch.layer, SqlReaders.layerConfig)),
    Layer.provide(CatalogStore.layer),
    Layer.provide(DatabaseLayer),
    Layer.provide(OtlpExport.layer),
    Layer.provide(AdminServer.layerConfig("RECOMMENDATIONS", 9101)),
    Telemetry.provide({ name: "recommendations", version })
  )

/** The database is opened after all settings were read: a bad one stops the start even while the database cannot be reached. */
const DatabaseLayer = Layer.unwrap(
  Effect.as(
    Effect.all([
      ServerSettings.settings("RECOMMENDATIONS"),
      TlsSettings.server("RECOMMENDATIONS"),
      ReaderApi.allowedClients,
      CatalogFile.settings,
      SqlReaders.settings
    ]),
    Database.layerConfig(migrations)
  )
)
