/**
 * The images that the Dockerfiles build: their files, size, settings and labels, and what a build reads and reuses.
 */
import { writeSync } from "node:fs"

import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Layer, Path } from "effect"

import { Docker, type File, imageOf, labelArgs, root, services } from "./Docker.ts"

/** How many bytes an image may add to its base. */
const limits = { recommendations: 8_000_000, marketplace: 6_000_000 } as const

/** The bundles that are compiled at the start: the service, its SQL and the driver of PostgreSQL. */
const cached = { recommendations: 3, marketplace: 1 } as const

/** What `npm run build` makes for a service, without the source maps of the import. */
const bundlesOf = Effect.fnUntraced(function* (service: (typeof services)[number]) {
  const fs = yield* FileSystem.FileSystem
  const built = yield* fs.readDirectory(`${root}dist`)
  const isOurs = (name: string) => name.startsWith("marketplace") === (service === "marketplace")
  return built.filter((name) => isOurs(name) && !/^import.*\.map$/.test(name)).toSorted()
})

/** What the build of Recommendations reads from the project. */
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

const kilobytes = (bytes: number) => `${(bytes / 1000).toFixed(0)} kB`

layer(Layer.merge(Docker.layerBuilt, NodeServices.layer), { excludeTestServices: true, timeout: "10 minutes" })(
  "an image",
  (it) => {
    it.effect.each(services)("adds only the bundle and the files it reads to its base: %s", (service) =>
      Effect.gen(function* () {
        const { inspect } = yield* Docker
        const { config, layers } = yield* inspect(imageOf(service))
        const base = yield* inspect(config.Labels?.["org.opencontainers.image.base.name"] ?? "")
        const changed = layers.slice(base.layers.length).flat()
        // OCI's whiteouts: files of the base that were removed
        const isRemoved = ({ name }: File) => /(^|\/)\.wh\./.test(name)
        // empty files over which the builder mounts its own
        const isMountPoint = ({ bytes, name }: File) => bytes === 0 && /^etc\/(hosts|hostname|resolv\.conf)$/.test(name)
        const added = changed.filter((file) => !isRemoved(file) && !isMountPoint(file))
        assert.deepStrictEqual(
          changed.filter((file) => isRemoved(file) && !/^(usr\/local\/(bin|lib)|opt)\//.test(file.name)),
          []
        )
        assert.include(
          changed.map(({ name }) => name),
          "usr/local/lib/.wh.node_modules"
        )
        const bytes = added.reduce((sum, file) => sum + file.bytes, 0)

        const kinds: ReadonlyArray<readonly [string, RegExp]> = [
          ["bundle", /^app\/dist\/[a-zA-Z-]+\.js$/],
          ["source map", /^app\/dist\/[a-zA-Z-]+\.js\.map$/],
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
        const bundles = yield* bundlesOf(service)
        assert.deepStrictEqual(
          added.flatMap(({ name }) => /^app\/dist\/(.+)/.exec(name)?.[1] ?? []).toSorted(),
          bundles
        )
        assert.deepStrictEqual(sums.map(([kind, count]) => [kind, count]).toSorted(), [
          ["bundle", bundles.filter((name) => name.endsWith(".js")).length],
          ...(service === "recommendations" ? [["catalogue", 1]] : []),
          ["compile cache", cached[service]],
          ["protos", 2],
          ["source map", bundles.filter((name) => name.endsWith(".map")).length]
        ])
        assert.isBelow(bytes, limits[service])
        // the service can read its files but change none
        assert.deepStrictEqual(
          added.filter(({ mode, owner }) => owner !== "0/0" || mode !== "-rw-r--r--"),
          []
        )
      })
    )

    it.effect.each(services)("has the settings and labels of its service: %s", (service) =>
      Effect.gen(function* () {
        const { config } = yield* (yield* Docker).inspect(imageOf(service))
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
        assert.strictEqual(label("version"), labelArgs.VERSION)
        assert.strictEqual(label("revision"), labelArgs.REVISION)
        assert.strictEqual(label("created"), labelArgs.CREATED)
        for (const name of ["description", "vendor", "base.name"]) assert.isAbove(label(name)?.length ?? 0, 0, name)
        // no keys or passwords in the environment
        assert.deepStrictEqual(
          (config.Env ?? []).filter((variable) => /key|secret|token|password/i.test(variable)),
          []
        )
      })
    )

    it.effect.each(services)("has a compile cache that Node accepts: %s", (service) =>
      Effect.gen(function* () {
        const { shell } = yield* Docker
        // a wrong log level ends the start after all modules are loaded
        const output = yield* shell(
          `docker run --rm --read-only --env LOG_LEVEL=wrong --env NODE_DEBUG_NATIVE=COMPILE_CACHE ${imageOf(service)} || [ $? = 1 ]`
        )
        assert.match(output, new RegExp(`V8 code cache for ESM file:///app/dist/${service}\\.js was accepted`))
        assert.include(output, 'LOG_LEVEL="wrong"')
      })
    )

    it.effect("has a folder for the database that belongs to the service alone", () =>
      Effect.gen(function* () {
        const { docker, inspect } = yield* Docker
        const image = imageOf("recommendations")
        const { Env = [] } = (yield* inspect(image)).config
        assert.include(Env, "DATABASE_URL=sqlite:/var/lib/online-books/books.db")
        const output = yield* docker("run", "--rm", image, "stat", "--format=%u:%g %a", "/var/lib/online-books")
        assert.strictEqual(output.trim(), "1000:1000 700")
      })
    )

    it.effect("is built from the sources alone, without keys or earlier builds", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const { build, inspect } = yield* Docker
        const folder = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-context-" })
        yield* fs.writeFileString(`${folder}/Dockerfile`, "FROM scratch\nCOPY . /\n")
        const tag = "localhost/online-books-test/context:test"
        yield* build({ tag, dockerfile: `${folder}/Dockerfile`, context: root })
        const context = (yield* inspect(tag)).layers.flat()
        const bytes = context.reduce((sum, file) => sum + file.bytes, 0)
        writeSync(1, `the context of both images is ${kilobytes(bytes)}\n`)
        const expected =
          /^((package|package-lock)\.json|\.npmrc|rolldown\.config\.ts|buf\.yaml|scripts\/(requirements\.mjs|generate\.ts)|(proto|data|src)\/.+)$/
        assert.deepStrictEqual(
          context.filter(({ name }) => !expected.test(name) || /generated|\.pem$/.test(name)),
          []
        )
        assert.isBelow(bytes, 1_200_000)
      }).pipe(Effect.scoped)
    )

    it.effect(
      "is built again without another npm ci when a source has changed",
      () =>
        Effect.gen(function* () {
          const fs = yield* FileSystem.FileSystem
          const path = yield* Path.Path
          const { build } = yield* Docker
          const context = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-context-" })
          for (const name of files) yield* fs.copy(path.join(root, name), path.join(context, name))
          const source = path.join(context, "src/recommendations/main.ts")
          yield* fs.writeFileString(source, `${yield* fs.readFileString(source)}\n// ${context}\n`)
          const output = yield* build({
            tag: "localhost/online-books-test/changed:test",
            dockerfile: "Dockerfile.recommendations",
            context
          })
          /** The number that BuildKit prints before every line of a step. */
          const [, npmCi] = /^#(\d+) \[.+\] RUN npm ci/m.exec(output) ?? []
          const [, npmRunBuild] = /^#(\d+) \[.+\] RUN npm run build/m.exec(output) ?? []
          assert.match(output, new RegExp(`^#${npmCi} CACHED$`, "m"))
          assert.match(output, new RegExp(`^#${npmRunBuild} DONE `, "m"))
        }).pipe(Effect.scoped),
      300_000
    )
  }
)
