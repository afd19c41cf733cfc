/**
 * The built bundles, installed as they are in production: in a folder of their own, beside proto/ and data/, without
 * node_modules; and started as processes.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { Context, Effect, FileSystem, Layer, Path, type Scope, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import * as Output from "./Output.ts"

export type Service = "recommendations" | "marketplace"

/** The environment of a process; it inherits nothing. */
export type Environment = { readonly [variable: string]: string }

/** A service that has started. */
export interface Running {
  readonly pid: number
  /** Where it listens: on localhost, unless its environment names another host. */
  readonly port: number
  /** Where it answers probes. */
  readonly adminPort: number
  /** What it has written so far, stderr included. */
  readonly output: Effect.Effect<string>
  /** Waits until it has written that, or fails the test when it ends without. */
  readonly written: (text: string) => Effect.Effect<void>
  readonly signal: (name: "SIGTERM" | "SIGINT" | "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGUSR2") => Effect.Effect<void>
  /** Waits until it has ended. */
  readonly exitCode: Effect.Effect<number>
}

/** A process that has ended. */
export interface Ended {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

const root = fileURLToPath(new URL("../..", import.meta.url))

/** What a service writes once it can be used, and the port in it. */
const started: { readonly [S in Service]: RegExp } = {
  recommendations: /gRPC is served on [^\s"]+?:(\d+)\b/,
  marketplace: /HTTP server listening on http:\/\/[^\s"]+?:(\d+)\b/
}

const answersProbes = /Admin server listening on http:\/\/[^\s"]+?:(\d+)\b/

export class Installation extends Context.Service<
  Installation,
  {
    /** The folder; relative paths of settings start here. */
    readonly folder: string
    /** Starts a service on a port of the system's choice, and waits until it can be used. It is killed with the scope. */
    readonly start: (
      service: Service,
      env?: Environment,
      limits?: { readonly openFiles?: number }
    ) => Effect.Effect<Running, never, Scope.Scope>
    /** The same, but waits only until it answers probes; its port is 0. */
    readonly begin: (service: Service, env?: Environment) => Effect.Effect<Running, never, Scope.Scope>
    /** Runs a service that is expected to end by itself. */
    readonly run: (service: Service, env?: Environment) => Effect.Effect<Ended>
    /** Writes a file into the folder. */
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

      const spawn = (service: Service, env: Environment, openFiles?: number) => {
        const command = [process.execPath, path.join(folder, "dist", `${service}.js`)]
        const [program = "", ...args] =
          openFiles === undefined ? command : ["/bin/sh", "-c", `ulimit -n ${openFiles}; exec "$0" "$@"`, ...command]
        return spawner.spawn(
          ChildProcess.make(program, args, {
            // not the installation's, so that a path that depends on it is found out
            cwd: path.dirname(folder),
            env: {
              RECOMMENDATIONS_GRPC_PORT: "0",
              RECOMMENDATIONS_ADMIN_PORT: "0",
              MARKETPLACE_ADMIN_PORT: "0",
              MARKETPLACE_HTTP_PORT: "0",
              ...env
            },
            extendEnv: false,
            // one that is stopped, or that a test has brought not to leave
            forceKillAfter: "5 seconds"
          })
        )
      }

      const launch = Effect.fnUntraced(function* (
        service: Service,
        env: Environment,
        isWhole: boolean,
        openFiles?: number
      ) {
        const handle = yield* spawn(service, env, openFiles)
        const { match, text } = yield* Output.follow(service, handle)
        const [, adminPort] = yield* match(answersProbes)
        const [, port] = isWhole ? yield* match(started[service]) : []
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
        Effect.gen(function* () {
          const handle = yield* spawn(service, env)
          const [stdout, stderr, exitCode] = yield* Effect.all(
            [
              Stream.mkString(Stream.decodeText(handle.stdout)),
              Stream.mkString(Stream.decodeText(handle.stderr)),
              handle.exitCode
            ],
            { concurrency: "unbounded" }
          )
          return { exitCode, stdout, stderr }
        }).pipe(Effect.scoped, Effect.orDie)

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

      return Installation.of({ begin, folder, run, start, write })
    })
  ).pipe(Layer.provide(NodeServices.layer), Layer.orDie)
}
