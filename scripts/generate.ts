/**
 * Writes the TypeScript types of every proto message into `generated/` folders, which are never committed.
 *
 * Each API has a folder of its own, because two APIs may give one name to different things (both name a BookCategory).
 * What is served is also embedded: its definitions, since to read protos at each start takes a tenth of it and a bundle may run
 * without them, and its descriptors, for reflection.
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
    outDir: "src/generated/first",
    embed: "definitions.ts"
  },
  {
    includeDir: "proto",
    files: ["onlinebooks/recommendations/v1/recommendations.proto"],
    outDir: "src/generated/v1",
    embed: "definitions.ts"
  },
  {
    includeDir: "src/layers",
    files: ["google/rpc/status.proto", "google/rpc/error_details.proto"],
    outDir: "src/layers/generated/rpc",
    embed: "definitions.ts"
  },
  {
    includeDir: "src/layers",
    files: ["grpc/health/v1/health.proto"],
    outDir: "src/layers/generated/health",
    embed: "definitions.ts"
  },
  {
    includeDir: "src/layers",
    files: ["grpc/reflection/v1/reflection.proto", "grpc/reflection/v1alpha/reflection.proto"],
    outDir: "src/layers/generated/reflection",
    embed: "definitions.ts"
  },
  {
    includeDir: "src/layers/testing",
    files: ["echo.proto", "greeter.proto", "interop.proto"],
    outDir: "src/layers/generated/testing"
  }
]

/** Sets of files whose descriptors are embedded, as the bytes that protoc writes. */
const descriptorSets = [
  { input: "proto", paths: [], out: "src/generated/descriptors.ts" },
  { input: "src/layers", paths: ["src/layers/grpc"], out: "src/layers/generated/descriptors.ts" },
  { input: "src/layers", paths: ["src/layers/testing"], out: "src/layers/generated/testing/descriptors.ts" }
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
    // TypeScript cannot see by itself that the literal is one
    writeFileSync(
      path.join(out, embed),
      `import type { INamespace } from "protobufjs"\n\nexport default ${JSON.stringify(definitions.toJSON())} as object as INamespace\n`
    )
  }
}

// The examples of src/layers/README.md as one module, which the compiler and the tests take like any other.
const examples = Array.from(
  readFileSync(path.join(root, "src/layers/README.md"), "utf8").matchAll(/^```ts\n(.*?)^```$/gms),
  ([, code = ""]) => code.replaceAll('from "./', 'from "../../../src/layers/')
)
mkdirSync(path.join(root, "test/layers/generated"), { recursive: true })
writeFileSync(path.join(root, "test/layers/generated/Readme.ts"), examples.join("\n"))

for (const { input, out, paths } of descriptorSets) {
  const descriptors = execFileSync(
    process.execPath,
    [
      path.join(root, "node_modules/@bufbuild/buf/bin/buf"),
      "build",
      input,
      "--exclude-source-info",
      "--as-file-descriptor-set",
      "--output=-",
      ...paths.map((path) => `--path=${path}`)
    ],
    { cwd: root, stdio: ["ignore", "pipe", "inherit"] }
  )
  // a Uint8Array for TypeScript's sake, which has no `Uint8Array.fromBase64` yet
  writeFileSync(
    path.join(root, out),
    `export default new Uint8Array(Buffer.from("${descriptors.toString("base64")}", "base64"))\n`
  )
}

rmSync(scratch, { recursive: true })
