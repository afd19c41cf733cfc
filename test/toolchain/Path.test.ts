/**
 * `npm run path` lists the files and functions that a request passes, and their numbers stay below ceilings.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Path, Schema } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** The maximum numbers of files and functions that a page and a call pass. Lower them when the path gets shorter. */
const ceilings = {
  page: { files: 38, functions: 176 },
  call: { files: 22, functions: 95 }
} as const

const Found = Schema.Struct({ files: Schema.Array(Schema.String), functions: Schema.Array(Schema.String) })
const Paths = Schema.fromJsonString(Schema.Struct({ page: Found, call: Found }))

layer(NodeServices.layer)("npm run path", (it) => {
  it.effect("prints the files and functions of a page and of a call, which are within their ceilings", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const command = ChildProcess.make(process.execPath, ["scripts/path.ts", "--json"], {
        cwd: root,
        stderr: "inherit"
      })
      const paths = yield* Schema.decodeEffect(Paths)(yield* spawner.string(command))
      for (const name of ["page", "call"] as const) {
        const { files, functions } = paths[name]
        for (const file of files) assert.isTrue(yield* fs.exists(path.join(root, file)), file)
        assert.strictEqual(new Set(functions).size, functions.length)
        // each function is in one of the files, and each file has a function
        const filesOfFunctions = functions.map((one) => /^(.+\.ts):\d+(?::\d+)? \S/.exec(one)?.[1] ?? one)
        assert.deepStrictEqual([...new Set(filesOfFunctions)], files)
        assert.isAtMost(files.length, ceilings[name].files, `${name}:\n${files.join("\n")}`)
        assert.isAtMost(functions.length, ceilings[name].functions, `${name}:\n${functions.join("\n")}`)
      }
      // by itself, or by its folder
      const architecture = yield* fs.readFileString(path.join(root, "docs/architecture.md"))
      const isNamed = (file: string) =>
        architecture.includes(`\`${file}\``) || architecture.includes(`\`${path.dirname(file)}/\``)
      assert.deepStrictEqual(
        paths.page.files.filter((file) => !isNamed(file)),
        [],
        "docs/architecture.md"
      )
      assert.include(paths.page.files, "src/marketplace/Routes.ts")
      assert.include(paths.page.files, "src/domain/Recommender.ts")
      assert.include(paths.call.files, "src/layers/grpc/server/MethodRunner.ts")
    })
  )
})
