/**
 * Generates the code of the contestants from the protos into `generated/`, which is not committed.
 *
 * `-- typescript` leaves out Python, whose generator is a system package.
 */
import { execFileSync } from "node:child_process"
import { mkdirSync, rmSync } from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))
const generated = path.join(root, "bench/rivals/generated")
const proto = "onlinebooks/recommendations/v1/recommendations.proto"

const buf = (...args: ReadonlyArray<string>) =>
  execFileSync(process.execPath, [path.join(root, "node_modules/@bufbuild/buf/bin/buf"), ...args], {
    cwd: root,
    // buf finds its plugins there, which run on this Node
    env: {
      ...process.env,
      PATH: [path.join(root, "node_modules/.bin"), path.dirname(process.execPath), process.env["PATH"]].join(
        path.delimiter
      )
    },
    stdio: ["ignore", "pipe", "inherit"]
  })

buf(
  "generate",
  "proto",
  `--path=proto/${proto}`,
  "--path=proto/recommendations.proto",
  "--template=bench/rivals/buf.gen.yaml",
  `--output=${generated}`,
  "--clean"
)

if (process.argv[2] !== "typescript") {
  const python = path.join(generated, "python")
  rmSync(python, { force: true, recursive: true })
  mkdirSync(python, { recursive: true })
  // Debian's grpc_tools does not parse an `optional` of proto3, see test/system/ForeignTools.ts
  const descriptors = path.join(generated, "descriptors.binpb")
  buf("build", "proto", "--as-file-descriptor-set", `--output=${descriptors}`)
  execFileSync(
    "/usr/bin/python3",
    [
      path.join(root, "test/system/python/protoc.py"),
      `--descriptor_set_in=${descriptors}`,
      `--python_out=${python}`,
      `--grpc_python_out=${python}`,
      proto
    ],
    { stdio: ["ignore", "ignore", "inherit"] }
  )
}
