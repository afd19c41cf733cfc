/**
 * Docker and Docker Compose, for tests that build images and run containers.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { Cache, Context, Effect, FileSystem, Layer, Path, Schema, type Scope } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import * as Output from "../integration/Output.ts"
import { MissingTool } from "./ForeignTools.ts"

export const root = fileURLToPath(new URL("../..", import.meta.url))

export const services = ["recommendations", "marketplace"] as const
export type Service = (typeof services)[number]

/** The name of a service's image, as the compose files and the documentation use it. */
export const imageOf = (service: Service) => `online-books/${service}`

/** What the labels of the images are built with. */
export const labelArgs = { VERSION: "1.2.3", REVISION: "0123abc", CREATED: "2026-11-24T12:00:00Z" }

/** An image's settings, by the names of the OCI image specification. */
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
  /** In the format of `ls -l`. */
  readonly mode: string
  /** `uid/gid`. */
  readonly owner: string
}

export interface Image {
  readonly config: ImageConfig
  /** The files that each layer adds, the lowest layer first. */
  readonly layers: ReadonlyArray<ReadonlyArray<File>>
}

/** A command ended with another exit code than 0. */
class CommandFailed extends Schema.TaggedError<CommandFailed>()("CommandFailed", {
  command: Schema.String,
  exitCode: Schema.Int,
  output: Schema.String
}) {
  override get message(): string {
    return `${this.command} ended with ${this.exitCode}: ${this.output}`
  }
}

interface CommandOptions {
  /** The project's root by default. */
  readonly cwd?: string
  readonly env?: { readonly [variable: string]: string }
}

interface BuildOptions {
  readonly tag: string
  /** Relative to the context, unless it is absolute. */
  readonly dockerfile: string
  readonly context: string
  readonly args?: { readonly [name: string]: string }
}

export class Docker extends Context.Service<
  Docker,
  {
    /** Runs a `docker` command and returns what it printed, stderr included. A command that fails is a defect. */
    readonly docker: (...args: ReadonlyArray<string>) => Effect.Effect<string>
    /** The same for `docker compose`, or for `docker-compose` if the plugin is not installed. */
    readonly compose: (args: ReadonlyArray<string>, options?: CommandOptions) => Effect.Effect<string>
    /** The same for lines of a shell, which stop at the first that fails. They can call `docker compose` in any case. */
    readonly shell: (script: string) => Effect.Effect<string>
    /** Starts a `docker` command that goes on, such as `docker logs --follow`. It is ended with the scope. */
    readonly follow: (...args: ReadonlyArray<string>) => Effect.Effect<Output.Output, never, Scope.Scope>
    /** Builds an image and returns what the build printed. */
    readonly build: (options: BuildOptions) => Effect.Effect<string>
    /** Reads an image's settings and files. */
    readonly inspect: (tag: string) => Effect.Effect<Image>
  }
>()("onlinebooks/test/Docker") {
  static readonly layer = Layer.effect(
    Docker,
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner

      const make = (command: string, args: ReadonlyArray<string>, PATH: string, options: CommandOptions = {}) =>
        ChildProcess.make(command, args, {
          cwd: options.cwd ?? root,
          // BuildKit is not the default of older engines; without a terminal its output is plain, but for this variable
          env: { DOCKER_BUILDKIT: "1", BUILDKIT_PROGRESS: "plain", PATH, ...options.env },
          extendEnv: true,
          stdin: "ignore"
        })

      const run = Effect.fnUntraced(function* (command: ChildProcess.StandardCommand) {
        const { exitCode, output } = yield* Effect.provideService(
          Output.run(command),
          ChildProcessSpawner.ChildProcessSpawner,
          spawner
        )
        if (exitCode === 0) return output
        return yield* new CommandFailed({ command: [command.command, ...command.args].join(" "), exitCode, output })
      })

      const inherited = process.env["PATH"] ?? ""
      // A newer `docker` without the buildx plugin cannot build the Dockerfiles. Debian's own in /usr/bin can.
      const PATH = yield* Effect.firstSuccessOf(
        [inherited, `/usr/bin:${inherited}`].map((PATH) =>
          Effect.as(run(make("docker", ["build", "--help"], PATH)), PATH)
        )
      ).pipe(Effect.mapError(missing("Docker with BuildKit")))
      yield* Effect.mapError(run(make("docker", ["info"], PATH)), missing("A running Docker engine"))
      const [composeProgram, ...composeArgs] = yield* Effect.firstSuccessOf(
        [["docker", "compose"] as const, ["docker-compose"] as const].map((command) =>
          Effect.as(run(make(command[0], [...command.slice(1), "version"], PATH)), command)
        )
      ).pipe(Effect.mapError(missing("Docker Compose")))

      const docker = (...args: ReadonlyArray<string>) => Effect.orDie(run(make("docker", args, PATH)))

      const compose = (args: ReadonlyArray<string>, options?: CommandOptions) =>
        Effect.orDie(run(make(composeProgram, [...composeArgs, ...args], PATH, options)))

      const asPlugin = `docker() { if [ "$1" = compose ]; then command docker-compose "\${@:2}"; else command docker "$@"; fi; }\n`
      const shell = (script: string) =>
        Effect.orDie(run(make("bash", ["-euc", `${composeProgram === "docker" ? "" : asPlugin}${script}`], PATH)))

      const follow = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
        const handle = yield* Effect.orDie(spawner.spawn(make("docker", args, PATH)))
        return yield* Output.follow(`docker ${args.join(" ")}`, handle)
      })

      const build = ({ args = {}, context, dockerfile, tag }: BuildOptions) =>
        docker(
          "build",
          // `npm ci` reaches the registry in the way this machine does
          "--network=host",
          ...Object.entries(args).map(([name, value]) => `--build-arg=${name}=${value}`),
          `--file=${path.resolve(context, dockerfile)}`,
          `--tag=${tag}`,
          context
        )

      const inspect = Effect.fnUntraced(
        function* (tag: string) {
          // BuildKit does not put a base image that it has pulled among the engine's images
          yield* run(make("docker", ["image", "inspect", tag], PATH)).pipe(Effect.catch(() => docker("pull", tag)))
          const folder = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-image-" })
          yield* docker("save", "--output", `${folder}/image.tar`, tag)
          yield* run(make("tar", ["-xf", `${folder}/image.tar`, "-C", folder], PATH))
          const read = (file: string) => Effect.map(fs.readFileString(`${folder}/${file}`), JSON.parse)
          const [{ Config, Layers }] = (yield* read("manifest.json")) as [{ Config: string; Layers: Array<string> }]
          const { config } = (yield* read(Config)) as { readonly config: ImageConfig }
          const layers = yield* Effect.forEach(Layers, (layer) =>
            Effect.map(run(make("tar", ["-tvf", `${folder}/${layer}`, "--numeric-owner"], PATH)), filesOf)
          )
          return { config, layers } satisfies Image
        },
        Effect.scoped,
        Effect.orDie
      )
      const inspections = yield* Cache.make({ lookup: inspect, capacity: 10 })

      return Docker.of({ build, compose, docker, follow, inspect: (tag) => Cache.get(inspections, tag), shell })
    })
  ).pipe(Layer.provide(NodeServices.layer))

  /** The same, after both images have been built. */
  static readonly layerBuilt = Layer.effectDiscard(
    Effect.gen(function* () {
      const { build } = yield* Docker
      for (const service of services) {
        yield* build({
          tag: imageOf(service),
          dockerfile: `Dockerfile.${service}`,
          context: root,
          args: labelArgs
        })
      }
    })
  ).pipe(Layer.provideMerge(Docker.layer))
}

const missing = (tool: string) => (error: unknown) =>
  new MissingTool({
    tool,
    install: "apt-get install docker.io docker-compose, or https://docs.docker.com/engine/install",
    output: String(error)
  })

/** The files in a listing of `tar -tv`: mode, owner, size, date, time, name. Folders are left out. */
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
