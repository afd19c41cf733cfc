/**
 * Writes the TypeScript types of every proto message into `generated/` folders, which are never committed.
 *
 * Each API has a folder of its own, because two APIs may use the same name for different things (both have a BookCategory). Beside its
 * types, `services.ts` has a value for each service, which servers and clients import, with the embedded definitions of its messages, so
 * that no proto is read at run time. Descriptors are embedded for reflection.
 *
 * It is a no-op if the input has not changed since the last run and the output is complete, so that a read-only checkout can be
 * started. Otherwise the output is written to a staging folder and moved file by file, so that concurrent runs do not conflict, and a
 * program that starts meanwhile reads complete files.
 */
import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { globSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"

import type { NamespaceBase } from "protobufjs"

import project from "../package.json" with { type: "json" }

const root = fileURLToPath(new URL("..", import.meta.url))
process.chdir(root)

interface Api {
  readonly includeDir: string
  readonly files: ReadonlyArray<string>
  readonly outDir: string
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
    includeDir: "src/layers/grpc/proto",
    files: ["google/rpc/status.proto", "google/rpc/error_details.proto"],
    outDir: "src/layers/grpc/generated/rpc"
  },
  {
    includeDir: "src/layers/grpc/proto",
    files: ["grpc/health/v1/health.proto"],
    outDir: "src/layers/grpc/generated/health"
  },
  {
    includeDir: "src/layers/grpc/proto",
    files: ["grpc/reflection/v1/reflection.proto"],
    outDir: "src/layers/grpc/generated/reflection"
  },
  {
    includeDir: "src/layers/grpc/proto",
    files: ["grpc/reflection/v1alpha/reflection.proto"],
    outDir: "src/layers/grpc/generated/reflectionAlpha"
  },
  {
    includeDir: "src/layers/testing",
    files: ["echo.proto", "greeter.proto", "interop.proto"],
    outDir: "src/layers/testing/generated"
  }
]

/** Sets of files whose descriptors are embedded, in the format of protoc. */
const descriptorSets = [
  { input: "proto", paths: [], out: "src/generated/descriptors.ts" },
  {
    input: "src/layers/grpc/proto",
    paths: ["src/layers/grpc/proto/grpc"],
    out: "src/layers/grpc/generated/descriptors.ts"
  },
  { input: "src/layers/testing", paths: [], out: "src/layers/testing/generated/descriptors.ts" }
]

/** All output is below these folders. */
const outputFolders = [
  "src/generated",
  "src/layers/grpc/generated",
  "src/layers/testing/generated",
  "test/layers/generated"
]
/** Hashes of the input and of the output of the last run. */
const stampFile = "src/generated/stamp"
const examples = "src/layers/README.md"
const stagingPrefix = ".generating-"

const filesBelow = (folders: ReadonlyArray<string>, pattern: string): ReadonlyArray<string> =>
  folders
    .flatMap((folder) => globSync(`${folder}/**/${pattern}`, { withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative("", path.join(entry.parentPath, entry.name)).replaceAll(path.sep, "/"))
    .toSorted()

/** The output files in a folder that is laid out like the project. */
const outputFilesIn = (folder: string): ReadonlyArray<string> =>
  filesBelow(
    outputFolders.map((output) => path.join(folder, output)),
    "*"
  )
    .map((file) => path.posix.relative(folder, file))
    .filter((file) => file !== stampFile)

/** A hash of the names and the contents of files. */
const hashOf = (folder: string, files: ReadonlyArray<string>): string => {
  const hash = createHash("sha256")
  for (const file of files) {
    const content = createHash("sha256").update(readFileSync(path.join(folder, file)))
    hash.update(`${file} ${content.digest("hex")}\n`)
  }
  return hash.digest("hex")
}

/** A hash of everything that the output depends on. package.json pins the version of each generator. */
const hashOfInput = (): string => {
  const { "@bufbuild/buf": buf, "@grpc/proto-loader": types, protobufjs } = project.dependencies
  const protos = filesBelow(["proto", "src/layers"], "*.proto")
  return `${hashOf(".", ["buf.yaml", "scripts/generate.ts", examples, ...protos])} ${buf} ${types} ${protobufjs}`
}

const hashOfOutput = (folder: string): string => hashOf(folder, outputFilesIn(folder))

const isUpToDate = (input: string): boolean => {
  try {
    return readFileSync(stampFile, "utf8") === `${input} ${hashOfOutput(".")}\n`
  } catch {
    // it has never run here, or another run is removing a file
    return false
  }
}

/** Aborted with the signal that ends this process. */
const interruption = new AbortController()

/** Runs a Node program and returns its output. A signal to this process ends it, and is handled after its end. */
const run = (program: string, args: ReadonlyArray<string>) =>
  new Promise<Buffer>((resolve, reject) => {
    interruption.signal.throwIfAborted()
    const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "inherit"] })
    const kill = () => child.kill()
    interruption.signal.addEventListener("abort", kill)
    const chunks: Array<Buffer> = []
    child.stdout.on("data", (chunk) => chunks.push(chunk))
    child.on("error", reject)
    child.on("close", (code, signal) => {
      interruption.signal.removeEventListener("abort", kill)
      if (code === 0) resolve(Buffer.concat(chunks))
      else reject(new Error(`${path.basename(program)} ended with ${code ?? signal}`))
    })
  })

const write = (file: string, content: string) => {
  mkdirSync(path.dirname(file), { recursive: true })
  writeFileSync(file, content)
}

const generateApi = async (staging: string, { files, includeDir, outDir }: Api) => {
  const out = path.join(staging, outDir)
  mkdirSync(out, { recursive: true })
  // The generator also writes an unused index that is named after its input. recommendations.ts would overwrite Recommendations.ts
  // where file names ignore case, so its input is a file that imports the others.
  const index = path.resolve(staging, "protos", outDir, "index.proto")
  write(index, ['syntax = "proto3";', ...files.map((file) => `import "${file}";`)].join("\n"))
  await run("node_modules/@grpc/proto-loader/build/bin/proto-loader-gen-types.js", [
    // the options that src/layers/grpc/MessageCodec.ts decodes messages with
    "--longs=String",
    "--defaults",
    "--includeComments",
    "--grpcLib=@grpc/grpc-js",
    "--importFileExtension=.ts",
    `--includeDirs=${includeDir}`,
    `--outDir=${out}`,
    index
  ])
  rmSync(path.join(out, "index.ts"))
  const { default: protobuf } = await import("protobufjs")
  const definitions = new protobuf.Root()
  definitions.resolvePath = (_origin, target) =>
    protobuf.common.get(target) === null ? path.join(includeDir, target) : target
  // synchronously, so that the order of the output is that of `files`
  definitions.loadSync([...files])
  // TypeScript does not infer the type of the literal
  write(
    path.join(out, "definitions.ts"),
    `import type { INamespace } from "protobufjs"\n\nexport default ${JSON.stringify(definitions.toJSON())} as object as INamespace\n`
  )
  const services = serviceNamesIn(definitions)
  if (services.length > 0) write(path.join(out, "services.ts"), servicesModule(outDir, services))
}

/** The full names of the services of some definitions. */
const serviceNamesIn = ({ nestedArray }: NamespaceBase): ReadonlyArray<string> =>
  nestedArray.flatMap((object) =>
    "methods" in object
      ? [object.fullName.slice(1)]
      : "nestedArray" in object
        ? serviceNamesIn(object as NamespaceBase)
        : []
  )

/** A module with a value for each service, by its name without its package. */
const servicesModule = (outDir: string, services: ReadonlyArray<string>): string => {
  const named = services.map((fullName) => ({ fullName, name: fullName.slice(fullName.lastIndexOf(".") + 1) }))
  const types = named.map(
    ({ fullName, name }) =>
      `import type { ${name}Definition, ${name}Handlers } from "./${fullName.replaceAll(".", "/")}.ts"\n`
  )
  const values = named.map(
    ({ fullName, name }) =>
      `\n/** ${fullName} */\n` +
      `export const ${name} = GrpcService.make<${name}Definition, ${name}Handlers>()({ name: "${fullName}", definitions })\n`
  )
  const grpcService = path.posix.relative(outDir, "src/layers/grpc/GrpcService.ts")
  return [
    `import * as GrpcService from "${grpcService}"\n`,
    `import definitions from "./definitions.ts"\n`,
    ...types,
    ...values
  ].join("")
}

const generateDescriptors = async (staging: string, { input, out, paths }: (typeof descriptorSets)[number]) => {
  const descriptors = await run("node_modules/@bufbuild/buf/bin/buf", [
    "build",
    input,
    "--exclude-source-info",
    "--as-file-descriptor-set",
    "--output=-",
    ...paths.map((path) => `--path=${path}`)
  ])
  // TypeScript has no `Uint8Array.fromBase64` yet
  write(
    path.join(staging, out),
    `export default new Uint8Array(Buffer.from("${descriptors.toString("base64")}", "base64"))\n`
  )
}

/** The examples of src/layers/README.md as one module, which is compiled and tested like any other. */
const generateExamples = (staging: string) => {
  const code = Array.from(readFileSync(examples, "utf8").matchAll(/^```ts\n(.*?)^```$/gms), ([, code = ""]) =>
    code.replaceAll('from "./', 'from "../../../src/layers/')
  )
  write(path.join(staging, "test/layers/generated/Readme.ts"), code.join("\n"))
}

/** Whether two files exist and have the same content. */
const isSame = (one: string, other: string): boolean => {
  try {
    return readFileSync(one).equals(readFileSync(other))
  } catch {
    return false
  }
}

/** Moves new and changed files to their place, and removes those that are not generated any more. */
const install = (staging: string) => {
  const files = outputFilesIn(staging)
  for (const file of files) {
    const staged = path.join(staging, file)
    // unchanged, so that `npm run dev` does not restart
    if (isSame(file, staged)) continue
    mkdirSync(path.dirname(file), { recursive: true })
    renameSync(staged, file)
  }
  for (const file of outputFilesIn(".")) if (!files.includes(file)) rmSync(file, { force: true })
}

const generate = async (input: string) => {
  const staging = mkdtempSync(stagingPrefix)
  try {
    const results = await Promise.allSettled([
      ...apis.map((api) => generateApi(staging, api)),
      ...descriptorSets.map((set) => generateDescriptors(staging, set))
    ])
    interruption.signal.throwIfAborted()
    for (const result of results) if (result.status === "rejected") throw result.reason
    generateExamples(staging)
    const output = hashOfOutput(staging)
    install(staging)
    // last, so that a killed run is repeated
    write(path.join(staging, "stamp"), `${input} ${output}\n`)
    renameSync(path.join(staging, "stamp"), stampFile)
  } finally {
    rmSync(staging, { force: true, recursive: true })
  }
}

/** Removes the staging folders of killed runs. */
const removeAbandoned = () => {
  const tenMinutes = 600_000
  for (const folder of globSync(`${stagingPrefix}*`)) {
    const modified = statSync(folder, { throwIfNoEntry: false })?.mtimeMs
    if (modified !== undefined && Date.now() - modified > tenMinutes) rmSync(folder, { force: true, recursive: true })
  }
}

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const
const onSignal = (name: NodeJS.Signals) => interruption.abort(name)

const main = async () => {
  const input = hashOfInput()
  if (isUpToDate(input)) return
  for (const name of signals) process.on(name, onSignal)
  try {
    removeAbandoned()
    await generate(input)
  } catch (error) {
    if (interruption.signal.aborted) {
      // ends as the signal would have ended it, after the clean-up
      for (const name of signals) process.off(name, onSignal)
      process.kill(process.pid, interruption.signal.reason)
      return
    }
    console.error(`The types of the protos cannot be generated: ${error instanceof Error ? error.message : error}`)
    process.exitCode = 1
  }
}

await main()
