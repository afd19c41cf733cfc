/**
 * `npm run check` fails for code that breaks the rules of the project.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Path } from "effect"
import { ChildProcess } from "effect/process"

import * as Output from "../integration/Output.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Runs a tool of the project in a folder. */
const run = (cwd: string, tool: string, ...args: ReadonlyArray<string>) =>
  Output.run(ChildProcess.make(`${root}node_modules/.bin/${tool}`, args, { cwd, extendEnv: true }))

/** Creates a project with this project's settings and one source file. */
const projectWith = Effect.fnUntraced(function* (file: string, content: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = yield* fs.makeTempDirectoryScoped()
  for (const name of [".oxlintrc.json", "tsconfig.json", "package.json"]) {
    yield* fs.copyFile(path.join(root, name), path.join(folder, name))
  }
  yield* fs.symlink(path.join(root, "node_modules"), path.join(folder, "node_modules"))
  yield* fs.makeDirectory(path.dirname(path.join(folder, file)), { recursive: true })
  yield* fs.writeFileString(path.join(folder, file), content)
  return folder
})

/** Copies this project's protos and their settings, with one change. */
const protosWith = Effect.fnUntraced(function* (file: string, from: string, to: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = yield* fs.makeTempDirectoryScoped()
  yield* fs.copy(path.join(root, "proto"), path.join(folder, "proto"))
  yield* fs.copyFile(path.join(root, "buf.yaml"), path.join(folder, "buf.yaml"))
  const target = path.join(folder, "proto", file)
  const content = yield* fs.readFileString(target)
  assert.include(content, from)
  yield* fs.writeFileString(target, content.replace(from, to))
  return folder
})

const v1 = "onlinebooks/recommendations/v1/recommendations.proto"
const released = `${root}test/toolchain/released-api.json`

const foundations = ["config", "collections"]
const process = [...foundations, "telemetry"]
const world = [...process, "process", "tls"]
const edges = [...world, "grpc", "grpc/interceptors", "grpc/grpc-js"]

/** The folders of src/layers, each with the folders that it may import. "grpc" stands for the public modules of that folder. */
const imports: { readonly [folder: string]: ReadonlyArray<string> } = {
  config: [],
  collections: [],
  telemetry: foundations,
  process,
  tls: process,
  sql: world,
  http: world,
  grpc: world,
  "grpc/grpc-js": [...world, "grpc"],
  "grpc/interceptors": [...world, "grpc"],
  "grpc/server": edges,
  "grpc/client": edges,
  "grpc/services": [...world, "grpc", "grpc/server", "grpc/client", "grpc/interceptors"],
  testing: [...world, "sql", "http", "grpc", "grpc/server", "grpc/client", "grpc/interceptors", "grpc/services"]
}

layer(NodeServices.layer, { excludeTestServices: true })("the checks", (it) => {
  it.effect.each([
    { what: "a changed field number", file: v1, from: "string title = 2", to: "string title = 7" },
    { what: "a removed method", file: "recommendations.proto", from: "rpc Recommend(", to: "rpc Suggest(" },
    { what: "a changed field type", file: "recommendations.proto", from: "int32 user_id", to: "int64 user_id" }
  ])("reject $what", ({ file, from, to }) =>
    Effect.gen(function* () {
      const folder = yield* protosWith(file, from, to)
      assert.notStrictEqual((yield* run(folder, "buf", "breaking", "--against", released)).exitCode, 0)
    })
  )

  it.effect("allow a new field", () =>
    Effect.gen(function* () {
      const folder = yield* protosWith(v1, "int32 book_count = 2;", "int32 book_count = 2;\n  string note = 3;")
      assert.deepStrictEqual(yield* run(folder, "buf", "breaking", "--against", released), { exitCode: 0, output: "" })
    })
  )

  it.effect("reject a proto that breaks buf's lint rules", () =>
    Effect.gen(function* () {
      const folder = yield* protosWith(
        v1,
        "message CategorySummary",
        "message category_summary {}\nmessage CategorySummary"
      )
      const { exitCode, output } = yield* run(folder, "buf", "lint")
      assert.notStrictEqual(exitCode, 0)
      assert.include(output, "category_summary")
    })
  )

  it.effect.each([
    { file: "src/domain/Planted.ts", content: 'import "node:fs"', message: "The domain is pure" },
    { file: "src/domain/Planted.ts", content: 'import "../layers/Status.ts"\n', message: "The domain is pure" },
    { file: "src/domain/Planted.ts", content: "export const x = Math.random()\n", message: "Use Random" },
    { file: "src/layers/http/Planted.ts", content: 'import "../../domain/Book.ts"\n', message: "is a library" },
    { file: "src/layers/grpc/Planted.ts", content: 'import "../../generated/v1.ts"\n', message: "is a library" },
    { file: "src/layers/grpc/client/Planted.ts", content: 'import "../../../main.ts"\n', message: "is a library" },
    {
      file: "src/layers/Planted.ts",
      content: 'import fs from "node:fs"\n\nexport const x = fs.readFileSync("x")\n',
      message: "Unexpected sync method"
    },
    {
      file: "src/marketplace/Planted.ts",
      content: 'import "../recommendations/categoryNumbers.ts"\n',
      message: "share proto/ only"
    },
    {
      file: "src/marketplace/view/Planted.ts",
      content: 'import "../../recommendations/categoryNumbers.ts"\n',
      message: "share proto/ only"
    },
    {
      file: "src/recommendations/Planted.ts",
      content: 'import "../marketplace/Routes.ts"\n',
      message: "share proto/ only"
    },
    {
      file: "src/recommendations/api/Planted.ts",
      content: 'import "../../marketplace/view/Page.ts"\n',
      message: "share proto/ only"
    },
    { file: "src/recommendations/api/Planted.ts", content: 'import "@grpc/grpc-js"\n', message: "I/O belongs in" },
    {
      file: "src/marketplace/view/Planted.ts",
      content: "export const x = process.pid\n",
      message: "read settings through Config"
    }
  ])("reject $file with $content", ({ content, file, message }) =>
    Effect.gen(function* () {
      const { exitCode, output } = yield* run(yield* projectWith(file, content), "oxlint", "src")
      assert.notStrictEqual(exitCode, 0)
      assert.include(output, message)
    })
  )

  it.effect("reject every import between folders of src/layers that is against their order", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const folder = yield* projectWith("src/layers/grpc/Planted.ts", "")
      const folders = Object.keys(imports)
      const pairs = folders.flatMap((from) => folders.flatMap((to) => (from === to ? [] : [{ from, to }])))
      for (const { from, to } of pairs) {
        const file = path.join(folder, "src/layers", from, `${to.replace("/", "-")}.ts`)
        yield* fs.makeDirectory(path.dirname(file), { recursive: true })
        const specifier = path.relative(`src/layers/${from}`, `src/layers/${to}/Planted.ts`)
        yield* fs.writeFileString(file, `import "${specifier.startsWith(".") ? specifier : `./${specifier}`}"\n`)
      }
      const { output } = yield* run(folder, "oxlint", "--format=unix", "src")
      const refused = new Set(
        Array.from(
          output.matchAll(/^src\/layers\/(.*)\/(.*)\.ts:\d+:\d+: .*restricted/gm),
          ([, from, to]) => `${from} > ${to}`
        )
      )
      assert.deepStrictEqual(
        pairs.map(
          ({ from, to }) => `${from} > ${to}: ${refused.has(`${from} > ${to.replace("/", "-")}`) ? "no" : "yes"}`
        ),
        pairs.map(({ from, to }) => `${from} > ${to}: ${imports[from]?.includes(to) === true ? "yes" : "no"}`)
      )
    })
  )

  it.effect("reject an Effect that is never run", () =>
    Effect.gen(function* () {
      const folder = yield* projectWith(
        "src/domain/Planted.ts",
        'import { Effect } from "effect"\n\nexport const x = () => {\n  Effect.log("lost")\n}\n'
      )
      const { exitCode, output } = yield* run(
        folder,
        "effect-tsgo",
        "diagnostics",
        "--project",
        "tsconfig.json",
        "--format",
        "text"
      )
      assert.notStrictEqual(exitCode, 0)
      assert.include(output, "floatingEffect")
    })
  )
})
