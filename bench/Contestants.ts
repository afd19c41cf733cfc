/**
 * The servers that are compared, each in its own process: ours as `npm run build` makes them, and other implementations.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { readdirSync } from "node:fs"
import { type AddressInfo, createServer, connect, type Socket } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

import { build } from "rolldown"

import * as Processes from "./Processes.ts"
import * as TemporaryDatabase from "./TemporaryDatabase.ts"

const here = fileURLToPath(new URL(".", import.meta.url))
const root = join(here, "..")
const bundles = join(here, "dist")
const python = join(here, "rivals/python")
const generatedPython = join(here, "rivals/generated/python")

/** The files of a certificate, its key, and the authority of both sides. */
export interface TlsFiles {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** The settings of a server; each contestant takes those that it knows. */
export interface Situation {
  readonly core: number
  readonly port: number
  /** The catalogue file. */
  readonly catalogue?: string | undefined
  /** The URL of a database, for servers that have one; without it, they get a new one of SQLite that is removed when they end. */
  readonly database?: string | undefined
  /** The URL of an OTLP collector; only ours sends telemetry. */
  readonly collector?: string | undefined
  /** The port of Recommendations, for pages. */
  readonly backend?: number | undefined
  readonly tls?: TlsFiles | undefined
  /** The folder of Node's compile cache. */
  readonly compileCache?: string | undefined
  /** The clients that may call over TLS. */
  readonly allowedClients?: string | undefined
  /** NODE_OPTIONS. */
  readonly nodeOptions?: string | undefined
  /** A prefix command, such as one that limits memory. */
  readonly launcher?: ReadonlyArray<string> | undefined
  /** Whether the server may exit by itself; its stderr is dropped then. */
  readonly mayEnd?: boolean | undefined
}

export interface Contestant {
  readonly name: string
  readonly start: (situation: Situation) => ChildProcess
  /** How to install what is missing on this machine, if anything is. */
  readonly missing?: () => string | undefined
}

const node = (name: string, program: string, env: (situation: Situation) => NodeJS.ProcessEnv): Contestant => ({
  name,
  start: (situation) => {
    const { compileCache, core, launcher, mayEnd, nodeOptions } = situation
    return Processes.start({
      core,
      launcher,
      mayEnd,
      isQuiet: mayEnd === true,
      command: process.execPath,
      args: [program],
      cwd: root,
      env: {
        ...env(situation),
        ...(compileCache === undefined ? {} : { NODE_COMPILE_CACHE: compileCache }),
        ...(nodeOptions === undefined ? {} : { NODE_OPTIONS: nodeOptions })
      }
    })
  }
})

/** Starts it with a database. */
const withDatabase = (contestant: Contestant): Contestant => ({
  ...contestant,
  start: (situation) =>
    situation.database === undefined
      ? TemporaryDatabase.startWith((database) => contestant.start({ ...situation, database }))
      : contestant.start(situation)
})

const telemetry = ({ collector }: Situation): NodeJS.ProcessEnv =>
  collector === undefined ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT: collector }

const recommendations = node("ours", join(root, "dist/recommendations.js"), (situation) => ({
  ...telemetry(situation),
  DATABASE_URL: situation.database,
  ...(situation.catalogue === undefined ? {} : { CATALOG_FILE: situation.catalogue }),
  ...(situation.tls === undefined
    ? {}
    : {
        RECOMMENDATIONS_TLS_CERT_FILE: situation.tls.cert,
        RECOMMENDATIONS_TLS_KEY_FILE: situation.tls.key,
        RECOMMENDATIONS_TLS_CLIENT_CA_FILE: situation.tls.ca
      }),
  ...(situation.allowedClients === undefined ? {} : { RECOMMENDATIONS_TLS_ALLOWED_CLIENTS: situation.allowedClients }),
  RECOMMENDATIONS_GRPC_HOST: "127.0.0.1",
  RECOMMENDATIONS_GRPC_PORT: String(situation.port),
  RECOMMENDATIONS_ADMIN_PORT: "0"
}))

export const ours: Contestant = withDatabase(recommendations)

export const ourPage: Contestant = node("ours", join(root, "dist/marketplace.js"), (situation) => ({
  ...telemetry(situation),
  RECOMMENDATIONS_TARGET: `127.0.0.1:${situation.backend}`,
  MARKETPLACE_HTTP_HOST: "127.0.0.1",
  MARKETPLACE_HTTP_PORT: String(situation.port),
  MARKETPLACE_ADMIN_PORT: "0"
}))

export const ourStream: Contestant = node("ours", join(bundles, "streamingServer.js"), (situation) => ({
  ...telemetry(situation),
  ECHO_GRPC_HOST: "127.0.0.1",
  ECHO_GRPC_PORT: String(situation.port)
}))

const rival = (name: string, program: string, more: NodeJS.ProcessEnv = {}): Contestant =>
  node(name, join(bundles, "rivals", program), ({ backend, catalogue, database, port, tls }) => ({
    ...more,
    ...(database === undefined ? {} : { DATABASE_URL: database }),
    ...(catalogue === undefined ? {} : { CATALOG_FILE: catalogue }),
    ...(backend === undefined ? {} : { RECOMMENDATIONS_TARGET: `127.0.0.1:${backend}` }),
    ...(tls === undefined ? {} : { TLS_CA_FILE: tls.ca, TLS_CERT_FILE: tls.cert, TLS_KEY_FILE: tls.key }),
    PORT: String(port)
  }))

export const byHand = rival("grpc-js by hand", "grpcJs.js")
export const byHandSqlite = withDatabase(rival("grpc-js and node:sqlite by hand", "grpcJsSqlite.js"))
export const byHandPostgres = rival("grpc-js and pg by hand", "grpcJsPostgres.js")
export const niceGrpc = rival("nice-grpc", "niceGrpc.js")
export const connectNode = rival("connect-node", "connectNode.js")
export const pageByHand = rival("node:http and grpc-js by hand", "nodeHttp.js")
export const streamByHand = rival("grpc-js by hand", "grpcJsStream.js")

/** node:http2 that answers every request with the same bytes. */
export const constant = (answer: Buffer): Contestant =>
  rival("node:http2, constant answer", "http2.js", { ANSWER: answer.toString("base64") })

const interpreter = "/usr/bin/python3"

const pythonContestant = (name: string, packages: string, modules: string, args: (port: string) => Array<string>) => ({
  name,
  start: ({ backend, catalogue, core, port }: Situation) =>
    Processes.start({
      core,
      command: interpreter,
      args: args(String(port)),
      cwd: python,
      isQuiet: true,
      env: {
        PYTHONPATH: generatedPython,
        PYTHONDONTWRITEBYTECODE: "1",
        ...(catalogue === undefined ? {} : { CATALOG_FILE: catalogue }),
        ...(backend === undefined ? {} : { RECOMMENDATIONS_HOST: "127.0.0.1", RECOMMENDATIONS_PORT: String(backend) }),
        PORT: String(port)
      }
    }),
  missing: () =>
    spawnSync(interpreter, ["-c", `import grpc_tools.protoc, ${modules}`], { stdio: "ignore" }).status === 0
      ? undefined
      : `apt-get install python3-grpc-tools python3-pkg-resources ${packages}`
})

export const pythonGrpc: Contestant = pythonContestant("Python, grpcio", "python3-grpcio", "grpc", () => [
  "recommendations.py"
])
export const flask: Contestant = pythonContestant(
  "Python, Flask's own server",
  "python3-flask",
  "grpc, flask",
  (port) => "-m flask --app marketplace run --port".split(" ").concat(port)
)
export const gunicorn: Contestant = pythonContestant(
  "Python, Flask under gunicorn",
  "python3-flask gunicorn",
  "grpc, flask, gunicorn",
  (port) => ["-m", "gunicorn", "--bind", `127.0.0.1:${port}`, "marketplace:app"]
)

/** Fills Node's compile cache as our image does: by a start that fails after all modules are loaded. */
export const fillCompileCache = async (folder: string): Promise<void> => {
  const child = spawn(process.execPath, [join(root, "dist/recommendations.js")], {
    cwd: root,
    env: {
      NODE_COMPILE_CACHE: folder,
      DATABASE_URL: "postgres://x@x/x?sslmode=verify-full&sslrootcert=/missing"
    },
    stdio: "ignore"
  })
  await once(child, "exit")
}

/** A free port. */
export const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, "close")
  return port
}

/** Connects to a port, and retries until a server listens there. */
export const connected = async (port: number): Promise<Socket> => {
  for (;;) {
    const socket = connect(port, "127.0.0.1")
    try {
      await once(socket, "connect")
      return socket
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
}

/** Compiles the TypeScript servers: ours are bundled into one file each, the others are not bundled. */
export const prepare = async (): Promise<void> => {
  execFileSync(process.execPath, [
    join(here, "rivals/generate.ts"),
    ...(pythonGrpc.missing?.() === undefined ? [] : ["typescript"])
  ])
  const output = { format: "esm", comments: false } as const
  await build({
    input: join(here, "streamingServer.ts"),
    platform: "node",
    output: { ...output, dir: bundles, codeSplitting: false },
    checks: { eval: false }
  })
  const rivals = readdirSync(join(here, "rivals")).filter((file) => file.endsWith(".ts") && file !== "generate.ts")
  await build({
    input: rivals.map((file) => join(here, "rivals", file)),
    platform: "node",
    // dependencies are loaded from node_modules, as they would be without a bundler
    external: /^[^./]/,
    output: {
      ...output,
      dir: join(bundles, "rivals"),
      preserveModules: true,
      preserveModulesRoot: join(here, "rivals")
    }
  })
}
