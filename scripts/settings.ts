/**
 * Writes docs/settings.md and src/settingNames.json from the settings that the services read. Each service is started in this process, and its settings
 * document themselves as they are read, so that the document cannot miss one.
 */
import { fileURLToPath } from "node:url"

import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { ConfigProvider, Effect, FileSystem, Layer } from "effect"

import { ProjectRoot } from "../src/layers/config/ProjectRoot.ts"
import * as Setting from "../src/layers/config/Setting.ts"
import * as NodeGrpcChannel from "../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as Drain from "../src/layers/process/Drain.ts"
import * as Logging from "../src/layers/telemetry/Logging.ts"
import * as Marketplace from "../src/marketplace/Marketplace.ts"
import * as Recommendations from "../src/recommendations/Recommendations.ts"
import { issue, makeAuthority, revoke } from "./certificates.ts"

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

export type Service = keyof typeof services

/** Sets what has to be set for all other settings to be read: certificates, and a collector, which is not reached. */
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
    DATABASE_URL: "sqlite::memory:",
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
    LOG_LEVEL: "Error",
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1"
  }
})

/** The settings of a service, in the order in which it reads them. Dies if it reads a variable that documents nothing. */
export const settingsOf = (service: Service): Effect.Effect<ReadonlyArray<Setting.Documentation>> =>
  Effect.gen(function* () {
    const variables = new Set<string>()
    const settings = new Map<string, Setting.Documentation>()
    const env = ConfigProvider.fromEnv({ env: yield* environment })
    const recording = ConfigProvider.make((path) => {
      variables.add(path.join("_"))
      return env.load(path)
    })
    yield* services[service].pipe(
      Effect.provide(ConfigProvider.layer(recording)),
      Effect.provideService(Setting.OnRead, (setting) => {
        if (!settings.has(setting.variable)) settings.set(setting.variable, setting)
      })
    )
    const undocumented = [...variables].filter((variable) => !settings.has(variable))
    if (undocumented.length > 0) {
      return yield* Effect.die(`Read without Setting.ts: ${undocumented.join(", ")}`)
    }
    return [...settings.values()]
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer), Effect.orDie)

const calls = "Calls to Recommendations"
const limits = "Limits"

/** The sections of each chapter, by the variables that they hold; what fits none is a limit. */
const chapters = {
  "Both services": [
    ["Drain and log", /^(DRAIN|LOG)_/],
    ["Telemetry", /^OTEL_/]
  ],
  Recommendations: [
    ["Addresses", /_(HOST|PORT)$/],
    ["Database, catalogue and readers", /^(DATABASE|CATALOG|MODEL|IMPRESSION)_/],
    ["TLS", /_TLS_/],
    [limits, /^/]
  ],
  Marketplace: [
    ["Addresses", /^MARKETPLACE_.*_(HOST|PORT)$/],
    ["Pages", /_(PAGE_BUDGET|HSTS_MAX_AGE|TRUST_TRACES|TRUSTED_PROXIES)$/],
    ["TLS", /_TLS_/],
    [calls, /^(RECOMMENDATIONS|GRPC)_/],
    [calls, /_(ATTEMPT|RETRY|CIRCUIT|SUSPENSION|CONNECT_|RESOLUTION|KEEPALIVE|MAX_RESPONSE|MAX_CALLS|USE_HTTP_PROXY)/],
    [limits, /^/]
  ]
} satisfies Record<string, ReadonlyArray<readonly [title: string, variables: RegExp]>>

const preamble = `# Settings

Written by \`npm run settings\` from the settings that the services read; do not edit.

Settings come from the environment alone. A bad value stops the start with one line that names the variable, the value and what was
expected. A variable that is set to the empty string counts as unset, except for those of TLS (\`..._TLS_...\`), where it is an error:
an empty CA or list of clients would let in every client. A variable that begins like a setting and that neither service reads is
a warning at the start, with the nearest name.

Durations are written like \`800 millis\`, \`25 seconds\`, \`25s\`, \`2m\` or \`1h\`. Relative paths start at the project's root. Under
\`npm start\` Marketplace calls the Recommendations of the same process and does not read where to find it.

Environment variables of Node, such as \`NODE_OPTIONS\`, work as usual.
`

const cell = (text: string) => text.replaceAll("|", String.raw`\|`)

const row = ({ description, expected, unset, variable }: Setting.Documentation) =>
  `| \`${variable}\` | ${cell(unset)} | ${cell(expected.replace(Setting.durationExamples, ""))} | ${cell(description)} |`

const chapter = (title: keyof typeof chapters, settings: ReadonlyArray<Setting.Documentation>) => {
  const sectionOf = ({ variable }: Setting.Documentation) =>
    chapters[title].find(([, variables]) => variables.test(variable))?.[0] ?? limits
  const titles = [...new Set(chapters[title].map(([section]) => section))]
  return [
    `## ${title}`,
    ...titles.flatMap((section) => [
      `### ${title === "Both services" ? section : `${title}: ${section}`}`,
      [
        "| variable | default | value | |",
        "| --- | --- | --- | --- |",
        ...settings.filter((setting) => sectionOf(setting) === section).map(row)
      ].join("\n")
    ])
  ]
}

/** The text of docs/settings.md. */
export const document: Effect.Effect<string> = Effect.gen(function* () {
  const recommendations = yield* settingsOf("recommendations")
  const marketplace = yield* settingsOf("marketplace")
  const isIn = (others: ReadonlyArray<Setting.Documentation>) => {
    const rows = new Set(others.map(row))
    return (setting: Setting.Documentation) => rows.has(row(setting))
  }
  const isShared = isIn(marketplace)
  const isOfBoth = isIn(recommendations)
  return `${[
    preamble.trimEnd(),
    ...chapter("Both services", recommendations.filter(isShared)),
    ...chapter(
      "Recommendations",
      recommendations.filter((setting) => !isShared(setting))
    ),
    ...chapter(
      "Marketplace",
      marketplace.filter((setting) => !isOfBoth(setting))
    )
  ].join("\n\n")}\n`
})

/** The names of all settings, as the text of src/settingNames.json: the services warn about variables that are none of them. */
export const names: Effect.Effect<string> = Effect.gen(function* () {
  const all = [...(yield* settingsOf("recommendations")), ...(yield* settingsOf("marketplace"))]
  const variables = [...new Set(all.map(({ variable }) => variable))].toSorted()
  return `${JSON.stringify(variables, undefined, 2)}\n`
})

/** What is written, and where. */
export const files = [
  { file: fileURLToPath(new URL("../docs/settings.md", import.meta.url)), text: document },
  { file: fileURLToPath(new URL("../src/settingNames.json", import.meta.url)), text: names }
]

if (import.meta.main) {
  const write = Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    for (const { file, text } of files) yield* fs.writeFileString(file, yield* text)
  })
  NodeRuntime.runMain(Effect.provide(write, NodeServices.layer))
}
