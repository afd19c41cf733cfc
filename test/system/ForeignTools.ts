/**
 * Clients of Recommendations that are not ours: Python's grpcio and buf curl. A tool that is missing fails the tests that
 * need it and says what to install; a test that was skipped would pass for one that had been run.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { Context, Effect, FileSystem, Layer, Path, Schema, type Scope, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import type { Ended } from "../integration/Installation.ts"

/** A tool that the tests need is not there. */
export class MissingTool extends Schema.TaggedError<MissingTool>()("MissingTool", {
  tool: Schema.String,
  /** A command that installs it. */
  install: Schema.String,
  /** What the attempt to use it said. */
  output: Schema.String
}) {
  override get message(): string {
    return `${this.tool} is missing. Install it with: ${this.install}. It said: ${this.output.trim()}`
  }
}

/** A call with the stubs that were generated from the proto of its API; fields by the names of the proto. */
export interface StubCall {
  readonly call: "first.Recommend" | "v1.Recommend" | "v1.ListCategories"
  readonly request: { readonly [field: string]: number | string }
  /** Compresses the request. */
  readonly gzip?: boolean
}

/** A call past the stubs. */
export interface RawCall {
  readonly path: string
  /** The request messages, in hexadecimal. */
  readonly messages: ReadonlyArray<string>
  /** Reads a stream of responses, and sends SIGTERM to the process of that id when the first one has come. */
  readonly terminate?: number
}

/** How a client in Python connects over TLS; see python/tls.py. */
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

/** How the interoperability tests in Python connect; plaintext without the files. */
export type InteropClientSettings = Pick<TlsSettings, "target"> | Pick<TlsSettings, "target" | "ca" | "name">

/** What the server of the interoperability tests in Python has; plaintext without the files. */
export type InteropServerSettings = Readonly<Record<never, never>> | { readonly cert: string; readonly key: string }

/** What it does there. */
export type TlsStep =
  | {
      readonly call: string
      readonly message?: string
      readonly timeout?: number
      readonly wait_for_ready?: boolean
      readonly gzip?: boolean
      /** Keys and values, which are in hexadecimal where the key ends in -bin. */
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
     * Makes calls to a port on localhost from one Python process, over one channel, one after the other. What became of
     * each is as python/client.py says.
     */
    readonly python: (
      port: number,
      calls: ReadonlyArray<StubCall | RawCall>
    ) => Effect.Effect<ReadonlyArray<unknown>, MissingTool>
    /**
     * Makes calls over TLS from one Python process, over one channel, one after the other, with bytes. `onSaid` gets the
     * lines that steps say, as they do.
     */
    readonly pythonTls: (
      settings: TlsSettings,
      steps: ReadonlyArray<TlsStep>,
      onSaid?: (line: string) => Effect.Effect<unknown>
    ) => Effect.Effect<ReadonlyArray<unknown>, MissingTool>
    /** Runs the client of gRPC's interoperability tests: null for a case that passes, and what was wrong for others. */
    readonly interopClient: (
      settings: InteropClientSettings
    ) => Effect.Effect<{ readonly [name: string]: string | null }, MissingTool>
    /** Starts the server of gRPC's interoperability tests, and gives its port. It is killed with the scope. */
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

      /** Nothing of the environment is inherited: neither a proxy nor the path of another Python. */
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

      /** Runs what must end well. */
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

      // Debian 12's grpc_tools is so old (libprotoc 3.5) that it does not parse an `optional` of proto3, though it writes
      // code for one. So buf does the parsing.
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

      // Debian has no googleapis-common-protos for Python
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

/** Debian's, which is the one that its packages are for, whatever else is called python3 here. */
const pythonFile = "/usr/bin/python3"
/** A script of Node's, which starts the buf of this platform. */
const bufFile = fileURLToPath(new URL("../../node_modules/@bufbuild/buf/bin/buf", import.meta.url))

const decodeOutcomes = Schema.decodeEffect(Schema.fromJsonString(Schema.Array(Schema.Unknown)))

const decodeCases = Schema.decodeEffect(
  Schema.fromJsonString(Schema.Record(Schema.String, Schema.NullOr(Schema.String)))
)

/** Tries a tool, once. */
const available = <E>(tool: string, install: string, attempt: Effect.Effect<Ended, E>) =>
  attempt.pipe(
    Effect.mapError((error) => new MissingTool({ tool, install, output: String(error) })),
    Effect.flatMap(({ exitCode, stderr }) =>
      exitCode === 0 ? Effect.void : Effect.fail(new MissingTool({ tool, install, output: stderr }))
    ),
    Effect.cached
  )

/** What was printed is not what the test expects. */
export class Unexpected extends Schema.TaggedError<Unexpected>()("Unexpected", {
  reason: Schema.String,
  printed: Schema.Unknown
}) {
  override get message(): string {
    return `${this.reason}\nThis was printed: ${JSON.stringify(this.printed, undefined, 2)}`
  }
}

/** Reads what was printed; a failure shows all of it. */
export const decodePrinted = <A>(schema: Schema.Decoder<A>) => {
  const decode = Schema.decodeUnknownEffect(schema)
  return (printed: unknown) =>
    Effect.mapError(decode(printed), ({ message }) => new Unexpected({ reason: message, printed }))
}
