/**
 * Installs the built bundles like in production, in a folder with dist/, proto/ and data/ and without node_modules, and starts them as
 * processes.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { Context, Effect, FileSystem, Layer, Path, type Scope, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import * as Output from "./Output.ts"

export type Service = "recommendations" | "marketplace"

/** The complete environment of a process. */
export type Environment = { readonly [variable: string]: string }

/** A service that has started. */
export interface Running {
  readonly pid: number
  /** The port of the service. */
  readonly port: number
  /** The admin port. */
  readonly adminPort: number
  /** The output so far, stdout and stderr. */
  readonly output: Effect.Effect<string>
  /** Waits until the output contains a text; fails the test if the process exits without it. */
  readonly written: (text: string) => Effect.Effect<void>
  readonly signal: (name: "SIGTERM" | "SIGINT" | "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGUSR2") => Effect.Effect<void>
  /** Waits for the exit. */
  readonly exitCode: Effect.Effect<number>
}

/** A process that has ended. */
export interface Ended {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

const root = fileURLToPath(new URL("../..", import.meta.url))

/** The log line of a service that is listening, with its port. */
const started: { readonly [S in Service]: RegExp } = {
  recommendations: /gRPC server listening on [^\s"]+?:(\d+)\b/,
  marketplace: /HTTP server listening on http:\/\/[^\s"]+?:(\d+)\b/
}

const adminStarted = /Admin server listening on http:\/\/[^\s"]+?:(\d+)\b/

/** Settings that make the system choose the ports of both services, with a database that ends with the process. */
export const freePorts: Environment = {
  DATABASE_URL: "sqlite::memory:",
  RECOMMENDATIONS_GRPC_PORT: "0",
  RECOMMENDATIONS_ADMIN_PORT: "0",
  MARKETPLACE_ADMIN_PORT: "0",
  MARKETPLACE_HTTP_PORT: "0"
}

/** A folder with the bundles. */
export class Installation extends Context.Service<
  Installation,
  {
    /** The folder that relative paths of settings are resolved against. */
    readonly folder: string
    /** Starts a service on a free port and waits until it is listening. The scope kills it. */
    readonly start: (
      service: Service,
      env?: Environment,
      limits?: { readonly openFiles?: number }
    ) => Effect.Effect<Running, never, Scope.Scope>
    /** Starts a service and waits only until its admin port is listening; `port` is 0. */
    readonly begin: (service: Service, env?: Environment) => Effect.Effect<Running, never, Scope.Scope>
    /** Runs a service until it exits by itself. */
    readonly run: (service: Service, env?: Environment) => Effect.Effect<Ended>
    /** Runs the program of imports with arguments, such as "catalog" and a path, and with a standard input. */
    readonly runImport: (args: ReadonlyArray<string>, env?: Environment, input?: string) => Effect.Effect<Ended>
    /** Imports a catalogue file with `dist/import.js`. */
    readonly importFile: (file: string, env?: Environment) => Effect.Effect<void>
    /** Writes a file to the folder. */
    readonly write: (name: string, content: string | Uint8Array) => Effect.Effect<void>
  }
>()("onlinebooks/test/Installation") {
  static readonly layer = Layer.effect(
    Installation,
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-" })
      for (const name of ["dist", "proto", "data"]) yield* fs.copy(path.join(root, name), path.join(folder, name))

      const commandOf = (service: Service, env: Environment, openFiles?: number) => {
        const command = [process.execPath, path.join(folder, "dist", `${service}.js`)]
        const [program = "", ...args] =
          openFiles === undefined ? command : ["/bin/sh", "-c", `ulimit -n ${openFiles}; exec "$0" "$@"`, ...command]
        return ChildProcess.make(program, args, {
          // not the folder itself, so that a path that depends on the working directory fails
          cwd: path.dirname(folder),
          env: { ...freePorts, ...env },
          extendEnv: false,
          // for a process that is stopped or does not exit
          forceKillAfter: "5 seconds"
        })
      }

      const launch = Effect.fnUntraced(function* (
        service: Service,
        env: Environment,
        awaitService: boolean,
        openFiles?: number
      ) {
        const handle = yield* spawner.spawn(commandOf(service, env, openFiles))
        const { match, text } = yield* Output.follow(service, handle)
        const [, adminPort] = yield* match(adminStarted)
        const [, port] = awaitService ? yield* match(started[service]) : []
        return {
          pid: handle.pid,
          port: Number(port ?? 0),
          adminPort: Number(adminPort),
          output: text,
          written: (text: string) =>
            Effect.asVoid(match(new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)))),
          signal: (name) => Effect.sync(() => process.kill(handle.pid, name)),
          exitCode: Effect.orDie(handle.exitCode)
        } satisfies Running as Running
      }, Effect.orDie)

      const run = (service: Service, env: Environment = {}) =>
        Output.runApart(commandOf(service, env)).pipe(
          Effect.provideService(ChildProcessSpawner.ChildProcessSpawner, spawner),
          Effect.orDie
        )

      const runImport = (args: ReadonlyArray<string>, env: Environment = {}, input = "") =>
        Output.runApart(
          ChildProcess.make(process.execPath, [path.join(folder, "dist", "import.js"), ...args], {
            cwd: path.dirname(folder),
            env,
            extendEnv: false,
            stdin: Stream.make(new TextEncoder().encode(input))
          })
        ).pipe(Effect.provideService(ChildProcessSpawner.ChildProcessSpawner, spawner), Effect.orDie)

      const importFile = Effect.fnUntraced(function* (file: string, env: Environment = {}) {
        const { exitCode, stderr } = yield* runImport(["catalog", path.resolve(folder, file)], env)
        if (exitCode !== 0) return yield* Effect.die(new Error(`The import failed: ${stderr}`))
      })

      const write = (name: string, content: string | Uint8Array) =>
        Effect.orDie(
          fs.writeFile(
            path.join(folder, name),
            typeof content === "string" ? new TextEncoder().encode(content) : content
          )
        )

      const start = (service: Service, env: Environment = {}, limits: { readonly openFiles?: number } = {}) =>
        launch(service, env, true, limits.openFiles)
      const begin = (service: Service, env: Environment = {}) => launch(service, env, false)

      return Installation.of({ begin, folder, importFile, run, runImport, start, write })
    })
  ).pipe(Layer.provide(NodeServices.layer), Layer.orDie)
}
