/**
 * Both images, built from the Dockerfiles as they are and run as a strict cluster would run them.
 */
import { writeSync } from "node:fs"

import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Layer, Path, Schema } from "effect"
import { HttpClient } from "effect/http"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import { ContainerEngine, type File, root } from "./ContainerEngine.ts"

const services = ["recommendations", "marketplace"] as const
type Service = (typeof services)[number]

/** What the final stage may add to its base, in bytes. */
const limit = 6_000_000

/** What the Dockerfiles are given of the project. */
const files = [
  ".dockerignore",
  ".npmrc",
  "Dockerfile.recommendations",
  "buf.yaml",
  "data",
  "package-lock.json",
  "package.json",
  "proto",
  "rolldown.config.ts",
  "scripts",
  "src"
]

const dockerfile = (service: Service) => `Dockerfile.${service}`
const tagOf = (service: Service) => `localhost/online-books-test/${service}:test`
const args = { VERSION: "1.2.3", REVISION: "0123abc", CREATED: "2026-11-24T12:00:00Z" }

/** What a container says of itself before it starts: code that Node runs first, in the same process. */
const look = `
  import { readFileSync, writeFileSync } from "node:fs"
  import { totalmem } from "node:os"
  import { getHeapStatistics } from "node:v8"
  const status = readFileSync("/proc/self/status", "utf8")
  const field = (name) => new RegExp("^" + name + ":\\\\s*(.*)$", "m").exec(status)?.[1]
  const tryToWrite = (file) => {
    try { writeFileSync(file, "") } catch (error) { return error.code }
    return "written"
  }
  process.stderr.write("looked: " + JSON.stringify({
    pid: process.pid, uid: process.getuid(), gid: process.getgid(), groups: process.getgroups(),
    capabilities: field("CapEff"), bounding: field("CapBnd"), noNewPrivileges: field("NoNewPrivs"),
    heap: getHeapStatistics().heap_size_limit / (process.constrainedMemory() > 0 && process.constrainedMemory() < totalmem() ?
      process.constrainedMemory() : totalmem()),
    options: process.execArgv.concat(process.env.NODE_OPTIONS.split(" ")).filter((option) => !option.startsWith("--import")),
    command: readFileSync("/proc/1/cmdline", "utf8").split("\\0").slice(0, -1),
    app: tryToWrite("/app/dist/new"), tmp: tryToWrite("/tmp/new"), cwd: process.cwd()
  }) + "\\n")
`

const Looked = Schema.fromJsonString(
  Schema.Struct({
    pid: Schema.Int,
    uid: Schema.Int,
    gid: Schema.Int,
    groups: Schema.Array(Schema.Int),
    capabilities: Schema.String,
    bounding: Schema.String,
    noNewPrivileges: Schema.String,
    /** The limit of the heap, as a share of the memory that there is. */
    heap: Schema.Finite,
    options: Schema.Array(Schema.String),
    command: Schema.Array(Schema.String),
    app: Schema.String,
    tmp: Schema.String,
    cwd: Schema.String
  })
)

/** The image's own options of Node, and the look. */
const optionsOf = Effect.fnUntraced(function* (service: Service) {
  const { config } = yield* (yield* ContainerEngine).inspect(tagOf(service))
  const own = config.Env?.find((variable) => variable.startsWith("NODE_OPTIONS="))?.slice("NODE_OPTIONS=".length) ?? ""
  return `${own} --import=data:text/javascript,${encodeURIComponent(look)}`
})

const ports: { readonly [S in Service]: { readonly [variable: string]: string } } = {
  recommendations: { RECOMMENDATIONS_GRPC_PORT: "0", RECOMMENDATIONS_ADMIN_PORT: "0" },
  marketplace: { MARKETPLACE_HTTP_PORT: "0", MARKETPLACE_ADMIN_PORT: "0", MARKETPLACE_PAGE_BUDGET: "10 seconds" }
}

/** What the tests of the page say of the shop at an address. */
const pageTests = Effect.fnUntraced(function* (url: string) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  return yield* spawner.string(
    ChildProcess.make(
      process.execPath,
      ["node_modules/vitest/vitest.mjs", "run", "--project", "integration", "test/integration/Page.test.ts"],
      { cwd: root, env: { PAGE_URL: url, NO_COLOR: "1" }, extendEnv: true, stdin: "ignore" }
    )
  )
})

const kilobytes = (bytes: number) => `${(bytes / 1000).toFixed(0)} kB`

/** Both images, built once, as on a machine that has never built them. */
const Built = Layer.effectDiscard(
  Effect.gen(function* () {
    const { build } = yield* ContainerEngine
    for (const service of services) {
      yield* build({ tag: tagOf(service), dockerfile: dockerfile(service), context: root, args, isCached: false })
    }
  })
).pipe(Layer.provideMerge(ContainerEngine.layer))

layer(Layer.mergeAll(Built, NodeServices.layer, NodeHttpClient.layerUndici), {
  excludeTestServices: true,
  timeout: "5 minutes"
})("the images", (it) => {
  it.effect.each(services)("add a bundle and what it reads to their base, and nothing else: %s", (service) =>
    Effect.gen(function* () {
      const { inspect } = yield* ContainerEngine
      const { config, layers } = yield* inspect(tagOf(service))
      const base = yield* inspect(config.Labels?.["org.opencontainers.image.base.name"] ?? "")
      const changed = layers.slice(base.layers.length).flat()
      // OCI's whiteouts: what is there no more
      const isGone = ({ name }: File) => /(^|\/)\.wh\./.test(name)
      // an empty file on which a builder has mounted its own
      const isMountPoint = ({ bytes, name }: File) => bytes === 0 && /^etc\/(hosts|hostname|resolv\.conf)$/.test(name)
      const added = changed.filter((file) => !isGone(file) && !isMountPoint(file))
      assert.deepStrictEqual(
        changed.filter((file) => isGone(file) && !/^(usr\/local\/(bin|lib)|opt)\//.test(file.name)),
        []
      )
      assert.include(
        changed.map(({ name }) => name),
        "usr/local/lib/.wh.node_modules"
      )
      const bytes = added.reduce((sum, file) => sum + file.bytes, 0)

      const kinds: ReadonlyArray<readonly [string, RegExp]> = [
        ["bundle", /^app\/dist\/[a-z]+\.js$/],
        ["source map", /^app\/dist\/[a-z]+\.js\.map$/],
        ["protos", /^app\/proto\/.+\.proto$/],
        ["catalogue", /^app\/data\/books\.csv$/],
        ["compile cache", /^app\/compile-cache\/[^/]+-1000\/[0-9a-f]+$/]
      ]
      const kindOf = ({ name }: File) => kinds.find(([, pattern]) => pattern.test(name))?.[0] ?? name
      const sums = Object.entries(Object.groupBy(added, kindOf)).map(
        ([kind, files = []]) => [kind, files.length, files.reduce((sum, file) => sum + file.bytes, 0)] as const
      )
      writeSync(
        1,
        `the image of ${service} adds ${kilobytes(bytes)}: ` +
          `${sums.map(([kind, , bytes]) => `${kind} ${kilobytes(bytes)}`).join(", ")}\n`
      )
      assert.deepStrictEqual(sums.map(([kind, count]) => [kind, count]).toSorted(), [
        ["bundle", 1],
        ...(service === "recommendations" ? [["catalogue", 1]] : []),
        ["compile cache", 1],
        ["protos", 2],
        ["source map", 1]
      ])
      assert.isBelow(bytes, limit)
      // the service can read what there is, and change nothing
      assert.deepStrictEqual(
        added.filter(({ mode, owner }) => owner !== "0/0" || mode !== "-rw-r--r--"),
        []
      )
    })
  )

  it.effect.each(services)("say who runs, what, and what is in it: %s", (service) =>
    Effect.gen(function* () {
      const { config } = yield* (yield* ContainerEngine).inspect(tagOf(service))
      assert.strictEqual(config.User, "1000:1000")
      assert.deepStrictEqual(config.Entrypoint ?? [], [])
      assert.deepStrictEqual(config.Cmd, ["node", `dist/${service}.js`])
      assert.deepStrictEqual(
        Object.keys(config.ExposedPorts ?? {}).toSorted(),
        service === "recommendations" ? ["50051/tcp", "9101/tcp"] : ["5000/tcp", "9102/tcp"]
      )
      const labels = config.Labels ?? {}
      const label = (name: string) => labels[`org.opencontainers.image.${name}`]
      assert.strictEqual(label("title"), service)
      assert.strictEqual(label("version"), args.VERSION)
      assert.strictEqual(label("revision"), args.REVISION)
      assert.strictEqual(label("created"), args.CREATED)
      for (const name of ["description", "vendor", "base.name"]) assert.isAbove(label(name)?.length ?? 0, 0, name)
      // no keys, no passwords: nothing but what the Dockerfile and its base say
      assert.deepStrictEqual(
        (config.Env ?? []).filter((variable) => /key|secret|token|password/i.test(variable)),
        []
      )
    })
  )

  it.effect(
    "run as process 1 and as user 1000 on a read-only root, serve a page across the two, and leave with 0",
    () =>
      Effect.gen(function* () {
        const { run } = yield* ContainerEngine
        const recommendations = yield* run(tagOf("recommendations"), {
          ...ports.recommendations,
          NODE_OPTIONS: yield* optionsOf("recommendations"),
          NODE_DEBUG_NATIVE: "COMPILE_CACHE"
        })
        const [, port = ""] = yield* recommendations.written(/gRPC is served on [^\s"]+?:(\d+)\b/)
        const marketplace = yield* run(tagOf("marketplace"), {
          ...ports.marketplace,
          RECOMMENDATIONS_TARGET: `dns:///127.0.0.1:${port}`,
          NODE_OPTIONS: yield* optionsOf("marketplace"),
          NODE_DEBUG_NATIVE: "COMPILE_CACHE"
        })
        const [, web] = yield* marketplace.written(/HTTP is served on http:\/\/[^\s"]+?:(\d+)\b/)
        const containers = { recommendations, marketplace }

        for (const service of services) {
          const container = containers[service]
          const [, json = ""] = yield* container.written(/looked: (\{.*\})\n/)
          const { heap, ...looked } = yield* Schema.decodeEffect(Looked)(json)
          // 65 % of it are for what is old, and something comes for what is young
          assert.isAtLeast(heap, 0.65)
          assert.isAtMost(heap, 0.8)
          assert.deepStrictEqual(
            looked,
            {
              pid: 1,
              uid: 1000,
              gid: 1000,
              groups: looked.groups.filter((group) => group === 1000),
              capabilities: "0000000000000000",
              bounding: "0000000000000000",
              noNewPrivileges: "1",
              options: ["--enable-source-maps", "--max-old-space-size-percentage=65"],
              command: ["node", `dist/${service}.js`],
              app: "EROFS",
              tmp: "EROFS",
              cwd: "/app"
            },
            service
          )
          // the cache that was made for this user at this place is used
          const output = yield* container.output
          assert.match(output, new RegExp(`V8 code cache for ESM file:///app/dist/${service}\\.js was accepted`))

          // probes come from outside of the container
          assert.match(output, /Admin server listening on http:\/\/0\.0\.0\.0:\d+/)
          const [, admin] = yield* container.written(/Admin server listening on [^\s"]+?:(\d+)\b/)
          const ready = yield* HttpClient.get(`http://127.0.0.1:${admin}/readyz`)
          assert.strictEqual(ready.status, 200)
        }

        const page = yield* HttpClient.get(`http://127.0.0.1:${web}/`)
        const body = yield* page.text
        assert.strictEqual(page.status, 200)
        assert.lengthOf(body.match(/<li[ >]/g) ?? [], 3, body)

        // as `npm run test:page` asks any installation
        assert.match(yield* pageTests(`http://127.0.0.1:${web}`), /Tests +\d+ passed \(\d+\)/)

        for (const container of [marketplace, recommendations]) {
          yield* container.signal("SIGTERM")
          assert.strictEqual(yield* container.exitCode, 0)
          const output = yield* container.output
          assert.match(output, /SIGTERM: draining/)
          assert.match(output, /is closed: \d+ \w+ in flight finished, 0 were cut/)
        }
      }),
    60_000
  )

  it.effect("are built from what they need of the project, and not from keys or what has been built", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { build, inspect } = yield* ContainerEngine
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-context-" })
      yield* fs.writeFileString(`${folder}/Dockerfile`, "FROM scratch\nCOPY . /\n")
      const tag = "localhost/online-books-test/context:test"
      yield* build({ tag, dockerfile: `${folder}/Dockerfile`, context: root, isCached: false })
      const given = (yield* inspect(tag)).layers.flat()
      const bytes = given.reduce((sum, file) => sum + file.bytes, 0)
      writeSync(1, `the context of both images is ${kilobytes(bytes)}\n`)
      const expected =
        /^((package|package-lock)\.json|\.npmrc|rolldown\.config\.ts|buf\.yaml|scripts\/(requirements\.mjs|generate\.ts)|(proto|data|src)\/.+)$/
      assert.deepStrictEqual(
        given.filter(({ name }) => !expected.test(name) || /generated|\.pem$/.test(name)),
        []
      )
      assert.isBelow(bytes, 1_000_000)
    }).pipe(Effect.scoped)
  )

  it.effect(
    "are built again without another npm ci when a source has changed",
    () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const { build } = yield* ContainerEngine
        const context = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-context-" })
        for (const name of files) yield* fs.copy(path.join(root, name), path.join(context, name))
        const source = path.join(context, "src/recommendations/main.ts")
        yield* fs.writeFileString(source, `${yield* fs.readFileString(source)}\n// ${context}\n`)

        const options = {
          tag: "localhost/online-books-test/changed:test",
          dockerfile: dockerfile("recommendations"),
          isCached: true
        }
        yield* build({ ...options, context: root })
        const said = yield* build({ ...options, context })
        /** What the building said of a step, up to the next one. */
        const step = (instruction: string) =>
          said
            .slice(said.indexOf(instruction))
            .split("\n")
            .slice(1)
            .join("\n")
            .split(/STEP|#\d+ \[/)[0] ?? ""
        const isCached = (instruction: string) => /Using cache|CACHED/.test(step(instruction))
        assert.isTrue(isCached("RUN npm ci"), said)
        assert.isFalse(isCached("RUN npm run build"), said)
      }).pipe(Effect.scoped),
    300_000
  )
})
