/**
 * Copies of this checkout, in which npm scripts can run without changing the checkout.
 */
import { fileURLToPath } from "node:url"

import { Effect, FileSystem, Path, Schema } from "effect"

import lock from "../../package-lock.json" with { type: "json" }

const root = fileURLToPath(new URL("../..", import.meta.url))

const copied = [".npmrc", "buf.yaml", "data", "package.json", "proto", "rolldown.config.ts", "scripts", "src"]

const Packages = Schema.Record(
  Schema.String,
  Schema.Struct({ dev: Schema.optional(Schema.Boolean), devOptional: Schema.optional(Schema.Boolean) })
)

/** The folders of node_modules after `npm ci`: all, or only those of production dependencies. */
const installed = Effect.fnUntraced(function* (isProduction: boolean) {
  const packages = yield* Schema.decodeUnknownEffect(Packages)(lock.packages)
  return Object.entries(packages)
    .filter(([folder, { dev, devOptional }]) => folder !== "" && !(isProduction && (dev ?? devOptional ?? false)))
    .map(([folder]) => folder)
    .filter((folder) => folder.lastIndexOf("node_modules/") === 0)
})

/**
 * Makes a copy without generated files and returns its folder. Its node_modules are symlinks to those of this checkout: all, or only
 * production dependencies.
 */
export const make = Effect.fnUntraced(function* (options: { readonly isProduction: boolean; readonly below?: string }) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const temporary = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-checkout-" })
  const folder = path.join(temporary, options.below ?? "checkout")
  yield* fs.makeDirectory(folder, { recursive: true })
  for (const name of copied) yield* fs.copy(path.join(root, name), path.join(folder, name))
  // the examples of src/layers/README.md are generated below test/
  for (const generated of ["src/generated", "src/layers/grpc/generated", "src/layers/testing/generated"]) {
    yield* fs.remove(path.join(folder, generated), { recursive: true, force: true })
  }
  for (const name of yield* installed(options.isProduction)) {
    const source = path.join(root, name)
    if (!(yield* fs.exists(source))) continue
    yield* fs.makeDirectory(path.dirname(path.join(folder, name)), { recursive: true })
    yield* fs.symlink(source, path.join(folder, name))
  }
  // npm puts this folder first in the PATH of scripts
  yield* fs.symlink(path.join(root, "node_modules/.bin"), path.join(folder, "node_modules/.bin"))
  return folder
})
