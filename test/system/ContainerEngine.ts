/**
 * Builds images from the project's Dockerfiles and runs them as a strict cluster would: with nothing but their own user, on a
 * read-only root, without capabilities.
 *
 * Docker does it, or, where there is no engine, buildah, with the program in IMAGE_RUNNER to run what it has built:
 * `$IMAGE_RUNNER IMAGE NAME=VALUE...` runs the image's own command as process 1, passes signals on, and exits as it does.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { Cache, Config, Context, Effect, FileSystem, Layer, Option, Path, type Scope, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import * as Output from "../integration/Output.ts"
import { MissingTool } from "./ForeignTools.ts"

/** An image's own settings, by the names of the OCI image specification. */
export interface ImageConfig {
  readonly User?: string
  readonly Env?: ReadonlyArray<string>
  readonly Entrypoint?: ReadonlyArray<string> | null
  readonly Cmd?: ReadonlyArray<string>
  readonly WorkingDir?: string
  readonly ExposedPorts?: { readonly [port: string]: unknown }
  readonly Labels?: { readonly [label: string]: string }
}

/** A file in an image. */
export interface File {
  readonly name: string
  readonly bytes: number
  /** As `ls` writes it. */
  readonly mode: string
  readonly owner: string
}

/** An image, as its archive has it. */
export interface Image {
  readonly config: ImageConfig
  /** The layers, the lowest first, each with the files that it adds. */
  readonly layers: ReadonlyArray<ReadonlyArray<File>>
}

export interface Container {
  /** Waits until it has written a line like that, and gives what matched. */
  readonly written: (pattern: RegExp) => Effect.Effect<RegExpExecArray>
  readonly output: Effect.Effect<string>
  readonly signal: (name: "SIGTERM") => Effect.Effect<void>
  readonly exitCode: Effect.Effect<number>
}

export class ContainerEngine extends Context.Service<
  ContainerEngine,
  {
    /** Builds an image by a Dockerfile (from the folder unless its path is absolute), from a folder. Gives what the building said. */
    readonly build: (options: {
      readonly tag: string
      readonly dockerfile: string
      readonly context: string
      readonly args?: { readonly [name: string]: string }
      /** Whether steps of earlier builds may be taken over. */
      readonly isCached: boolean
    }) => Effect.Effect<string>
    /** What is in an image. */
    readonly inspect: (tag: string) => Effect.Effect<Image>
    /** Runs an image, on the network of this machine; it is killed with the scope. */
    readonly run: (
      tag: string,
      environment: { readonly [variable: string]: string }
    ) => Effect.Effect<Container, never, Scope.Scope>
  }
>()("onlinebooks/test/ContainerEngine") {
  static readonly layer = Layer.effect(
    ContainerEngine,
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const runner = yield* Config.option(Config.String("IMAGE_RUNNER"))
      const hasBuildah = Option.isSome(runner)

      /** What a command writes, if it ends well. */
      const output = Effect.fnUntraced(function* (command: string, args: ReadonlyArray<string>) {
        const handle = yield* spawner.spawn(ChildProcess.make(command, args, { stdin: "ignore", extendEnv: true }))
        const [text, exitCode] = yield* Effect.all([Stream.mkString(Stream.decodeText(handle.all)), handle.exitCode], {
          concurrency: "unbounded"
        })
        if (exitCode !== 0) {
          return yield* Effect.die(new Error(`${command} ${args.join(" ")} ended with ${exitCode}: ${text}`))
        }
        return text
      }, Effect.scoped)

      const command = hasBuildah ? "buildah" : "docker"
      yield* output(command, [hasBuildah ? "images" : "info"]).pipe(
        Effect.catchCause((cause) =>
          Effect.fail(
            new MissingTool({
              tool: "a container engine",
              install: "Docker's own packages (https://docs.docker.com/engine/install)",
              output: String(cause)
            })
          )
        )
      )

      const build = Effect.fnUntraced(
        function* ({
          args = {},
          context,
          dockerfile,
          isCached,
          tag
        }: {
          readonly tag: string
          readonly dockerfile: string
          readonly context: string
          readonly args?: { readonly [name: string]: string }
          readonly isCached: boolean
        }) {
          return yield* output(command, [
            ...(hasBuildah
              ? // what it is based on has been put there before
                ["bud", "--isolation", "chroot", "--pull-never", `--layers=${isCached}`]
              : ["build", "--progress", "plain", ...(isCached ? [] : ["--no-cache"])]),
            ...Object.entries(args).map(([name, value]) => `--build-arg=${name}=${value}`),
            "--file",
            path.resolve(context, dockerfile),
            "--tag",
            tag,
            context
          ])
        },
        (effect) => Effect.orDie(effect)
      )

      const look = Effect.fnUntraced(
        function* (tag: string) {
          const folder = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-image-" })
          if (hasBuildah) {
            yield* output("buildah", ["push", "--quiet", "--disable-compression", tag, `oci:${folder}:image`])
          } else {
            // what an image was built from is not among Docker's own images
            if (!(yield* output("docker", ["images", "--quiet", tag]))) yield* output("docker", ["pull", tag])
            yield* output("docker", ["save", "--output", `${folder}/image.tar`, tag])
            yield* output("tar", ["-xf", `${folder}/image.tar`, "-C", folder])
          }
          // an OCI layout: https://github.com/opencontainers/image-spec/blob/main/image-layout.md
          const read = (file: string) => Effect.map(fs.readFileString(`${folder}/${file}`), JSON.parse)
          const blob = (digest: string) => `blobs/${digest.replace(":", "/")}`
          let manifest = yield* read("index.json")
          while (manifest.layers === undefined) {
            const manifests = manifest.manifests as ReadonlyArray<{
              digest: string
              platform?: { architecture: string }
            }>
            const own = manifests.find(({ platform }) => platform?.architecture === architecture)
            manifest = yield* read(blob((own ?? manifests[0]!).digest))
          }
          const { config } = yield* read(blob(manifest.config.digest))
          const layers = yield* Effect.forEach(manifest.layers as ReadonlyArray<{ digest: string }>, ({ digest }) =>
            Effect.map(output("tar", ["-tvf", `${folder}/${blob(digest)}`, "--numeric-owner"]), filesOf)
          )
          return { config, layers } satisfies Image
        },
        (effect) => Effect.orDie(Effect.scoped(effect))
      )

      const inspections = yield* Cache.make({ lookup: look, capacity: 10 })
      const inspect = (tag: string) => Cache.get(inspections, tag)

      const run = Effect.fnUntraced(function* (tag: string, environment: { readonly [variable: string]: string }) {
        const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`)
        const handle = yield* spawner.spawn(
          Option.match(runner, {
            onSome: (runner) => ChildProcess.make(runner, [tag, ...variables], spawning),
            onNone: () =>
              ChildProcess.make(
                "docker",
                [
                  "run",
                  "--rm",
                  "--network=host",
                  "--read-only",
                  "--cap-drop=ALL",
                  "--security-opt=no-new-privileges",
                  ...variables.map((variable) => `--env=${variable}`),
                  tag
                ],
                spawning
              )
          })
        )
        const { match, text } = yield* Output.follow(tag, handle)
        return {
          written: match,
          output: text,
          // to the runner alone, which passes it on
          signal: (name) => Effect.sync(() => process.kill(handle.pid, name)),
          exitCode: Effect.orDie(handle.exitCode)
        } satisfies Container as Container
      }, Effect.orDie)

      return ContainerEngine.of({ build, inspect, run })
    })
  ).pipe(Layer.provide(NodeServices.layer))
}

/** This machine, as images call it. */
const architecture = process.arch === "x64" ? "amd64" : process.arch

const spawning = { stdin: "ignore", extendEnv: true, forceKillAfter: "5 seconds" } as const

export const root = fileURLToPath(new URL("../..", import.meta.url))

/** The files of a list that tar has written: mode, owner, size, day, time, name. Folders are none. */
const filesOf = (list: string): ReadonlyArray<File> =>
  list
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([mode]) => mode !== undefined && mode !== "" && !mode.startsWith("d"))
    .map(([mode = "", owner = "", bytes = "", , , ...name]) => ({
      mode,
      owner,
      bytes: Number(bytes),
      name: name.join(" ")
    }))
