/**
 * The settings that a service knows, by asking it: it is started in this process, and writes down what it reads. So what is given
 * to it elsewhere, in a file for containers, can be compared with what it would take.
 */
import { NodeServices } from "@effect/platform-node"
import { ConfigProvider, Effect, FileSystem, Layer } from "effect"

import { issue, makeAuthority, revoke } from "../../scripts/certificates.ts"
import { ProjectRoot } from "../../src/layers/config/ProjectRoot.ts"
import * as NodeGrpcChannel from "../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as Drain from "../../src/layers/process/Drain.ts"
import * as Logging from "../../src/layers/telemetry/Logging.ts"
import * as Marketplace from "../../src/marketplace/Marketplace.ts"
import * as Recommendations from "../../src/recommendations/Recommendations.ts"
import type { Environment, Service } from "./Installation.ts"

/** What Node itself reads. */
export const nodeSettings: ReadonlySet<string> = new Set(["NODE_ENV", "NODE_OPTIONS", "NODE_COMPILE_CACHE"])

const start = <A, E, R>(service: Layer.Layer<A, E, R>) =>
  Effect.andThen(
    Drain.settings,
    Layer.build(
      service.pipe(
        Layer.provide(ProjectRoot.layer(import.meta.url, "proto/recommendations.proto")),
        Layer.provide(Drain.Drain.layerTest()),
        Layer.provide(Logging.layerConfig)
      )
    )
  ).pipe(Effect.asVoid, Effect.scoped)

/** The services as their main.ts has them. */
const services = {
  recommendations: start(Recommendations.layer("0.0.0")),
  marketplace: start(
    Marketplace.layer("0.0.0", NodeGrpcChannel.layerConfig({ server: "RECOMMENDATIONS", client: "MARKETPLACE" }))
  )
}

/** A setting that is only read with another one has that: TLS with certificates, and a collector that nobody is. */
const environment = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-settings-" })
  const write = (name: string, text: string) =>
    Effect.as(fs.writeFileString(`${folder}/${name}`, text), `${folder}/${name}`)
  const authority = yield* Effect.promise(() => makeAuthority())
  const ca = yield* write("ca.pem", authority.cert)
  const crl = yield* write("crl.pem", yield* Effect.promise(() => revoke(authority, [])))
  const identity = Effect.fnUntraced(function* (usage: "server" | "client") {
    const { cert, key } = yield* Effect.promise(() => issue(authority, { names: ["DNS:localhost"], usage }))
    return { cert: yield* write(`${usage}.pem`, cert), key: yield* write(`${usage}-key.pem`, key) }
  })
  const server = yield* identity("server")
  const client = yield* identity("client")
  return {
    RECOMMENDATIONS_GRPC_HOST: "127.0.0.1",
    RECOMMENDATIONS_GRPC_PORT: "0",
    RECOMMENDATIONS_ADMIN_PORT: "0",
    RECOMMENDATIONS_TARGET: "localhost:1",
    RECOMMENDATIONS_TLS_CERT_FILE: server.cert,
    RECOMMENDATIONS_TLS_KEY_FILE: server.key,
    RECOMMENDATIONS_TLS_CLIENT_CA_FILE: ca,
    RECOMMENDATIONS_TLS_CLIENT_CRL_FILE: crl,
    RECOMMENDATIONS_TLS_ALLOWED_CLIENTS: "localhost",
    MARKETPLACE_HTTP_HOST: "127.0.0.1",
    MARKETPLACE_HTTP_PORT: "0",
    MARKETPLACE_ADMIN_PORT: "0",
    MARKETPLACE_TLS_CA_FILE: ca,
    MARKETPLACE_TLS_CERT_FILE: client.cert,
    MARKETPLACE_TLS_KEY_FILE: client.key,
    MARKETPLACE_TLS_SERVER_NAME: "localhost",
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1"
  } satisfies Environment as Environment
})

/** The names of the variables that a service reads. The clock has to be the real one, by which certificates are valid. */
export const knownSettings = (service: Service): Effect.Effect<ReadonlySet<string>> =>
  Effect.gen(function* () {
    const names = new Set<string>()
    const env = ConfigProvider.fromEnv({ env: yield* environment })
    const recording = ConfigProvider.make((path) => {
      names.add(path.join("_"))
      return env.load(path)
    })
    yield* Effect.provide(services[service], ConfigProvider.layer(recording))
    return names
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer), Effect.orDie)
