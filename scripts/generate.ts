/**
 * Writes the TypeScript types of every proto message into `generated/` folders, which are never committed.
 *
 * Each API has a folder of its own, because two APIs may give one name to different things (both name a BookCategory).
 * The protos of `src/layers` are also embedded, since a bundle runs without them.
 */
import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"
import { fileURLToPath } from "node:url"

import protobuf from "protobufjs"

const root = fileURLToPath(new URL("..", import.meta.url))

interface Api {
  readonly includeDir: string
  readonly files: ReadonlyArray<string>
  readonly outDir: string
  /** Also write the definitions themselves, as protobufjs' JSON, into this file of `outDir`. */
  readonly embed?: string
}

const apis: ReadonlyArray<Api> = [
  {
    includeDir: "proto",
    files: ["recommendations.proto"],
    outDir: "src/generated/first"
  },
  {
    includeDir: "proto",
    files: ["onlinebooks/recommendations/v1/recommendations.proto"],
    outDir: "src/generated/v1"
  },
  {
    includeDir: "src/layers",
    files: ["google/rpc/status.proto", "google/rpc/error_details.proto"],
    outDir: "src/layers/generated/rpc",
    embed: "definitions.ts"
  },
  {
    includeDir: "src/layers/testing",
    files: ["echo.proto", "greeter.proto"],
    outDir: "src/layers/generated/testing"
  }
]

const scratch = mkdtempSync(path.join(tmpdir(), "protos-"))

for (const { embed, files, includeDir, outDir } of apis) {
  const include = path.join(root, includeDir)
  const out = path.join(root, outDir)
  rmSync(out, { force: true, recursive: true })
  mkdirSync(out, { recursive: true })
  // The generator also writes an index named after the file it is given. Nothing uses it, and recommendations.ts would
  // lie on Recommendations.ts where file names ignore case: so it is given a file that imports the others.
  const index = path.join(scratch, "index.proto")
  writeFileSync(index, ['syntax = "proto3";', ...files.map((file) => `import "${file}";`)].join("\n"))
  execFileSync(
    process.execPath,
    [
      path.join(root, "node_modules/@grpc/proto-loader/build/bin/proto-loader-gen-types.js"),
      // the options that src/layers/GrpcService.ts loads protos with
      "--longs=String",
      "--defaults",
      "--includeComments",
      "--grpcLib=@grpc/grpc-js",
      "--importFileExtension=.ts",
      `--includeDirs=${include}`,
      `--outDir=${out}`,
      index
    ],
    { stdio: ["ignore", "ignore", "inherit"] }
  )
  rmSync(path.join(out, "index.ts"))
  if (embed !== undefined) {
    const definitions = new protobuf.Root()
    definitions.resolvePath = (_origin, target) =>
      protobuf.common.get(target) === null ? path.join(include, target) : target
    await definitions.load([...files])
    writeFileSync(path.join(out, embed), `export default ${JSON.stringify(definitions.toJSON())}\n`)
  }
}

// The examples of src/layers/README.md as one module, which the compiler and the tests take like any other.
const examples = Array.from(
  readFileSync(path.join(root, "src/layers/README.md"), "utf8").matchAll(/^```ts\n(.*?)^```$/gms),
  ([, code = ""]) => code.replaceAll('from "./', 'from "../../../src/layers/')
)
mkdirSync(path.join(root, "test/layers/generated"), { recursive: true })
writeFileSync(path.join(root, "test/layers/generated/Readme.ts"), examples.join("\n"))

rmSync(scratch, { recursive: true })
