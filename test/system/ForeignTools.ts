/**
 * Third-party clients of Recommendations: Python's grpcio and buf curl. If a tool is missing, the tests that need it fail with the
 * command that installs it; a skipped test would look like one that passed.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { Context, Effect, FileSystem, Layer, Path, Schema, type Scope, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import type { Ended } from "../integration/Installation.ts"

/** A tool that a test needs is missing. */
export class MissingTool extends Schema.TaggedError<MissingTool>()("MissingTool", {
  tool: Schema.String,
  /** A command that installs it. */
  install: Schema.String,
  /** The output of the attempt to use it. */
  output: Schema.String
}) {
  override get message(): string {
    return `${this.tool} is missing. Install it with: ${this.install}. Its output was: ${this.output.trim()}`
  }
}

/** A call with stubs generated from the protos. Fields have the names of the proto. */
export interface StubCall {
  readonly call: "first.Recommend" | `v1.${"Recommend" | "ListCategories" | "GetBook" | "ListBooks" | "SearchBooks"}`
  readonly request: { readonly [field: string]: number | string }
  /** Compresses the request. */
  readonly gzip?: boolean
}

/** A call without stubs. */
export interface RawCall {
  readonly path: string
  /** The request message, in hexadecimal. */
  readonly message: string
  /** Reads a stream of responses, and sends SIGTERM to the process with this id after the first one. */
  readonly terminate?: number
}

/** The settings of a client in Python over TLS; see python/tls.py. */
export interface TlsSettings {
  readonly target: string
  /** The name in the server's certificate. */
  readonly name: string
  /** Files. */
  readonly ca: string
  readonly cert?: string
  readonly key?: string
  /** The server's process. */
  readonly pid?: number
}

/** The settings of the interoperability client in Python; plaintext without the files. */
export type InteropClientSettings = Pick<TlsSettings, "target"> | Pick<TlsSettings, "target" | "ca" | "name">

/** The settings of the interoperability server in Python; plaintext without the files. */
export type InteropServerSettings = Readonly<Record<never, never>> | { readonly cert: string; readonly key: string }

/** A step of python/tls.py. */
export type TlsStep =
  | {
      readonly call: string
      readonly message?: string
      readonly timeout?: number
      readonly wait_for_ready?: boolean
      readonly gzip?: boolean
      /** Keys and values. Values of keys that end in -bin are hexadecimal. */
      readonly metadata?: ReadonlyArray<readonly [string, string]>
    }
  | { readonly cancel: string; readonly message?: string }
  | { readonly cancel_stream: string; readonly message?: string }
  | { readonly signal: "SIGSTOP" | "SIGCONT" }
  | { readonly say: string }

export class ForeignTools extends Context.Service<
  ForeignTools,
  {
    /**
     * Makes calls to a port on localhost from one Python process, over one channel, one after the other. Returns the outcomes in
     * the format of python/client.py.
     */
    readonly python: (
      port: number,
      calls: ReadonlyArray<StubCall | RawCall>
    ) => Effect.Effect<ReadonlyArray<unknown>, MissingTool>
    /**
     * Makes calls over TLS from one Python process, over one channel, one after the other, with encoded messages. `onSaid` receives
     * the lines that `say` steps print.
     */
    readonly pythonTls: (
      settings: TlsSettings,
      steps: ReadonlyArray<TlsStep>,
      onSaid?: (line: string) => Effect.Effect<unknown>
    ) => Effect.Effect<ReadonlyArray<unknown>, MissingTool>
    /** Runs the client of gRPC's interoperability tests. A case's value is null if it passed, or else its error. */
    readonly interopClient: (
      settings: InteropClientSettings
    ) => Effect.Effect<{ readonly [name: string]: string | null }, MissingTool>
    /** Starts the server of gRPC's interoperability tests and returns its port. It is killed with the scope. */
    readonly interopServer: (settings: InteropServerSettings) => Effect.Effect<number, MissingTool, Scope.Scope>
    /** Runs buf in the project's folder. */
    readonly buf: (...args: ReadonlyArray<string>) => Effect.Effect<Ended, MissingTool>
  }
>()("onlinebooks/test/ForeignTools") {
  static readonly layer = Layer.effect(
    ForeignTools,
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const home = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-foreign-" })
      const stubs = path.join(home, "stubs")
      yield* fs.makeDirectory(stubs)

      /** Inherits no environment: neither a proxy nor the path of another Python. */
      const spawn = (command: string, args: ReadonlyArray<string>) =>
        spawner.spawn(
          ChildProcess.make(command, args, {
            cwd: root,
            env: { HOME: home, PYTHONPATH: stubs },
            extendEnv: false,
            stdin: "ignore"
          })
        )

      const run = Effect.fnUntraced(function* (
        command: string,
        args: ReadonlyArray<string>,
        onLine: (line: string) => Effect.Effect<unknown> = () => Effect.void
      ) {
        const handle = yield* spawn(command, args)
        const [stdout, stderr, exitCode] = yield* Effect.all(
          [
            handle.stdout.pipe(
              Stream.decodeText(),
              Stream.splitLines,
              Stream.tap(onLine),
              Stream.map((line) => `${line}\n`),
              Stream.mkString
            ),
            Stream.mkString(Stream.decodeText(handle.stderr)),
            handle.exitCode
          ],
          { concurrency: "unbounded" }
        )
        return { exitCode, stdout, stderr } satisfies Ended
      }, Effect.scoped)

      /** Runs a command that must succeed, and returns its stdout. */
      const succeed = Effect.fnUntraced(function* (...command: Parameters<typeof run>) {
        const { exitCode, stderr, stdout } = yield* Effect.orDie(run(...command))
        if (exitCode !== 0) {
          return yield* Effect.die(
            new Error(`${command.slice(0, 2).flat().join(" ")} ended with ${exitCode}: ${stderr}`)
          )
        }
        return stdout
      })

      const hasBuf = yield* available("buf, of node_modules,", "npm ci", run(process.execPath, [bufFile, "--version"]))
      const hasPython = yield* available(
        `${pythonFile} with grpc and grpc_tools`,
        "apt-get install python3-grpcio python3-grpc-tools python3-pkg-resources",
        run(pythonFile, ["-c", "import grpc, grpc_tools.protoc"])
      )

      const buf = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
        yield* hasBuf
        return yield* Effect.orDie(run(process.execPath, [bufFile, ...args]))
      })

      const out = [`--python_out=${stubs}`, `--grpc_python_out=${stubs}`]

      const generateFirst = succeed(pythonFile, [
        "-m",
        "grpc_tools.protoc",
        "--proto_path=proto",
        ...out,
        "recommendations.proto"
      ])

      // Debian 12's grpc_tools (libprotoc 3.5) generates code for an `optional` of proto3, but cannot parse one. So buf parses it.
      const generateV1 = Effect.gen(function* () {
        const descriptors = path.join(home, "descriptors.binpb")
        yield* hasBuf
        yield* succeed(process.execPath, [
          bufFile,
          "build",
          "proto",
          "--as-file-descriptor-set",
          `--output=${descriptors}`
        ])
        yield* succeed(pythonFile, [
          path.join(scripts, "protoc.py"),
          `--descriptor_set_in=${descriptors}`,
          ...out,
          "onlinebooks/recommendations/v1/recommendations.proto"
        ])
      })

      // Debian has no package of googleapis-common-protos for Python
      const generateDetails = succeed(pythonFile, [
        "-m",
        "grpc_tools.protoc",
        "--proto_path=src/layers/grpc/proto",
        `--python_out=${stubs}`,
        "google/rpc/status.proto",
        "google/rpc/error_details.proto"
      ])

      const generatedInterop = yield* Effect.cached(
        Effect.andThen(
          hasPython,
          succeed(pythonFile, ["-m", "grpc_tools.protoc", "--proto_path=src/layers/testing", ...out, "interop.proto"])
        )
      )

      const interopClient = Effect.fnUntraced(function* (settings: InteropClientSettings) {
        yield* generatedInterop
        const output = yield* succeed(pythonFile, [path.join(scripts, "interop_client.py"), JSON.stringify(settings)])
        return yield* Effect.orDie(decodeCases(output))
      })

      const interopServer = Effect.fnUntraced(function* (settings: InteropServerSettings) {
        yield* generatedInterop
        const handle = yield* Effect.orDie(
          spawn(pythonFile, [path.join(scripts, "interop_server.py"), JSON.stringify(settings)])
        )
        const lines = Stream.splitLines(Stream.decodeText(handle.stdout))
        const [port] = yield* Effect.orDie(Stream.runCollect(Stream.take(lines, 1)))
        if (port === undefined) return yield* Effect.die(new Error("interop_server.py ended without a port"))
        return Number(port)
      })

      const generated = yield* Effect.cached(
        Effect.andThen(
          hasPython,
          Effect.all([generateFirst, generateV1, generateDetails], { concurrency: "unbounded", discard: true })
        )
      )

      const python = Effect.fnUntraced(function* (port: number, calls: ReadonlyArray<StubCall | RawCall>) {
        yield* generated
        const output = yield* succeed(pythonFile, [
          path.join(scripts, "client.py"),
          `localhost:${port}`,
          JSON.stringify(calls)
        ])
        return yield* Effect.orDie(decodeOutcomes(output))
      })

      const pythonTls = Effect.fnUntraced(function* (
        settings: TlsSettings,
        steps: ReadonlyArray<TlsStep>,
        onSaid?: (line: string) => Effect.Effect<unknown>
      ) {
        yield* hasPython
        const script = path.join(scripts, "tls.py")
        const output = yield* succeed(pythonFile, [script, JSON.stringify(settings), JSON.stringify(steps)], onSaid)
        return yield* Effect.orDie(decodeOutcomes(output.trimEnd().split("\n").at(-1) ?? ""))
      })

      return ForeignTools.of({ buf, interopClient, interopServer, python, pythonTls })
    })
  ).pipe(Layer.provide(NodeServices.layer), Layer.orDie)
}

const root = fileURLToPath(new URL("../..", import.meta.url))
const scripts = fileURLToPath(new URL("python", import.meta.url))

/** Debian's own Python, for which its packages are installed; `python3` in PATH can be another one. */
const pythonFile = "/usr/bin/python3"
/** A script for Node that starts the buf program of this platform. */
const bufFile = fileURLToPath(new URL("../../node_modules/@bufbuild/buf/bin/buf", import.meta.url))

const decodeOutcomes = Schema.decodeEffect(Schema.fromJsonString(Schema.Array(Schema.Unknown)))

const decodeCases = Schema.decodeEffect(
  Schema.fromJsonString(Schema.Record(Schema.String, Schema.NullOr(Schema.String)))
)

/** Checks once whether a tool works. */
const available = <E>(tool: string, install: string, attempt: Effect.Effect<Ended, E>) =>
  attempt.pipe(
    Effect.mapError((error) => new MissingTool({ tool, install, output: String(error) })),
    Effect.flatMap(({ exitCode, stderr }) =>
      exitCode === 0 ? Effect.void : Effect.fail(new MissingTool({ tool, install, output: stderr }))
    ),
    Effect.cached
  )

/** The printed output does not match the schema that a test expects. */
export class Unexpected extends Schema.TaggedError<Unexpected>()("Unexpected", {
  reason: Schema.String,
  printed: Schema.Unknown
}) {
  override get message(): string {
    return `${this.reason}\nThe output was: ${JSON.stringify(this.printed, undefined, 2)}`
  }
}

/** Decodes printed output. The error contains all of it. */
export const decodePrinted = <A>(schema: Schema.Decoder<A>) => {
  const decode = Schema.decodeUnknownEffect(schema)
  return (printed: unknown) =>
    Effect.mapError(decode(printed), ({ message }) => new Unexpected({ reason: message, printed }))
}
