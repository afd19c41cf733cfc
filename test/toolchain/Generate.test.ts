/**
 * `npm run generate` in concurrent runs, in read-only checkouts, and in runs that fail or are stopped.
 */
import { readdirSync } from "node:fs"

import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Cause, Effect, Exit, FileSystem, Path, Schedule } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import * as Checkout from "../integration/Checkout.ts"
import * as Output from "../integration/Output.ts"

/** Runs the script without a shell, so that signals reach this process. */
const command = (folder: string, env: Readonly<Record<string, string>> = {}) =>
  ChildProcess.make(process.execPath, ["scripts/generate.ts"], { cwd: folder, env, extendEnv: true })

const generate = (...options: Parameters<typeof command>) => Output.run(command(...options))

const done = { exitCode: 0, output: "" }

/** The contents of the generated files of a checkout. */
const contentOf = Effect.fnUntraced(function* (folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const files: Record<string, string> = {}
  for (const generated of [
    "src/generated",
    "src/layers/grpc/generated",
    "src/layers/testing/generated",
    "test/layers/generated"
  ]) {
    for (const name of yield* fs.readDirectory(path.join(folder, generated), { recursive: true })) {
      const file = path.join(folder, generated, name)
      if ((yield* fs.stat(file)).type === "File") files[path.join(generated, name)] = yield* fs.readFileString(file)
    }
  }
  return files
})

/** The temporary folders that runs have left in a checkout. */
const leftIn = (folder: string) => readdirSync(folder).filter((name) => name.startsWith(".generating-"))

layer(NodeServices.layer, { excludeTestServices: true })("npm run generate", (it) => {
  it.effect(
    "gives complete results in concurrent runs",
    () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const folder = yield* Checkout.make({ isProduction: true })
        assert.deepStrictEqual(yield* generate(folder), done)
        const expected = yield* contentOf(folder)
        assert.isAbove(Object.keys(expected).length, 50)
        for (let round = 0; round < 4; round++) {
          // alternately without generated files, and with a superfluous one
          if (round % 2 === 0) yield* fs.remove(path.join(folder, "src/generated"), { recursive: true })
          else yield* fs.writeFileString(path.join(folder, "src/generated/first/Old.ts"), "")
          const ends = yield* Effect.all(
            Array.from({ length: 2 }, () => generate(folder)),
            { concurrency: "unbounded" }
          )
          assert.deepStrictEqual(ends, [done, done])
          assert.deepStrictEqual(yield* contentOf(folder), expected)
          assert.deepStrictEqual(leftIn(folder), [])
        }
      }),
    120_000
  )

  it.effect("keeps unchanged files when it replaces others", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const folder = yield* Checkout.make({ isProduction: true })
      yield* generate(folder)
      const definitions = path.join(folder, "src/generated/v1/definitions.ts")
      const before = yield* fs.stat(definitions)
      // a changed input of another file
      yield* fs.writeFileString(path.join(folder, "src/layers/README.md"), "```ts\nexport {}\n```\n")
      assert.deepStrictEqual(yield* generate(folder), done)
      assert.strictEqual(yield* fs.readFileString(path.join(folder, "test/layers/generated/Readme.ts")), "export {}\n")
      const after = yield* fs.stat(definitions)
      assert.deepStrictEqual([after.ino, after.mtime], [before.ino, before.mtime])
    })
  )

  it.effect("restores files that were changed or removed", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const folder = yield* Checkout.make({ isProduction: true })
      yield* generate(folder)
      const expected = yield* contentOf(folder)
      yield* fs.remove(path.join(folder, "src/layers/grpc/generated/descriptors.ts"))
      yield* fs.writeFileString(path.join(folder, "src/generated/descriptors.ts"), "broken")
      assert.deepStrictEqual(yield* generate(folder), done)
      assert.deepStrictEqual(yield* contentOf(folder), expected)
    })
  )

  it.effect("writes nothing if no input has changed", () =>
    Effect.gen(function* () {
      const folder = yield* Checkout.make({ isProduction: true })
      yield* generate(folder)
      // with this preload, a run that writes anything fails
      const code =
        'import fs from "node:fs"; import { syncBuiltinESMExports } from "node:module";' +
        'for (const name of ["mkdirSync", "mkdtempSync", "writeFileSync", "renameSync", "rmSync"])' +
        '  fs[name] = () => { throw new Error("EROFS: read-only file system, " + name) };' +
        "syncBuiltinESMExports()"
      const readOnly = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` }
      assert.deepStrictEqual(yield* generate(folder, readOnly), done)

      // a run that has to write fails with an error that says so
      const other = yield* Checkout.make({ isProduction: true })
      assert.deepStrictEqual(yield* generate(other, readOnly), {
        exitCode: 1,
        output: "The types of the protos cannot be generated: EROFS: read-only file system, mkdtempSync\n"
      })
    })
  )

  it.effect("leaves no temporary files behind when it fails", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const folder = yield* Checkout.make({ isProduction: true })
      yield* fs.writeFileString(path.join(folder, "proto/recommendations.proto"), "message {")
      const temporary = yield* fs.makeTempDirectoryScoped()
      const { exitCode, output } = yield* generate(folder, { TMPDIR: temporary })
      assert.strictEqual(exitCode, 1)
      assert.include(output, "The types of the protos cannot be generated: ")
      assert.deepStrictEqual(leftIn(folder), [])
      assert.deepStrictEqual(yield* fs.readDirectory(temporary), [])
    })
  )

  it.effect.each(["SIGINT", "SIGTERM"] as const)("leaves no temporary files behind on %s", (signal) =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* Checkout.make({ isProduction: true })
      const temporary = yield* fs.makeTempDirectoryScoped()
      const handle = yield* (yield* ChildProcessSpawner.ChildProcessSpawner).spawn(
        command(folder, { TMPDIR: temporary })
      )
      yield* Effect.suspend(() => (leftIn(folder).length > 0 ? Effect.void : Effect.fail("not yet"))).pipe(
        Effect.retry(Schedule.spaced("5 millis"))
      )
      process.kill(handle.pid, signal)
      // the exit status is that of a process without a signal handler
      const end = yield* Effect.exit(handle.exitCode)
      assert.include(Exit.isFailure(end) ? Cause.pretty(end.cause) : "", `signal: '${signal}'`)
      assert.deepStrictEqual(leftIn(folder), [])
      assert.deepStrictEqual(yield* fs.readDirectory(temporary), [])
      assert.isFalse(yield* fs.exists(`${folder}/src/generated/stamp`))
    })
  )
})
