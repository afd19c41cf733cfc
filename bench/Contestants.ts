/**
 * The servers that are compared: ours as it is built and shipped, and its rivals, each in a process of its own.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { readdirSync } from "node:fs"
import { type AddressInfo, createServer, connect, type Socket } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

import { build } from "rolldown"

import * as Processes from "./Processes.ts"

const here = fileURLToPath(new URL(".", import.meta.url))
const root = join(here, "..")
const bundles = join(here, "dist")
const python = join(here, "rivals/python")
const generatedPython = join(here, "rivals/generated/python")

/** The files of a certificate, its key, and the authority that has signed both sides'. */
export interface TlsFiles {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** What a server finds. */
export interface Situation {
  readonly core: number
  readonly port: number
  /** A catalogue file. */
  readonly catalogue?: string | undefined
  /** A collector of telemetry, of which rivals know nothing. */
  readonly collector?: string | undefined
  /** The port of a Recommendations, for pages. */
  readonly backend?: number | undefined
  readonly tls?: TlsFiles | undefined
  /** A folder with Node's compile cache. */
  readonly compileCache?: string | undefined
  /** The clients that may call over TLS. */
  readonly allowedClients?: string | undefined
  /** Options of Node. */
  readonly nodeOptions?: string | undefined
  /** A command that starts the server, such as one that limits its memory. */
  readonly launcher?: ReadonlyArray<string> | undefined
  /** Whether the server may end by itself; what it says of that is dropped. */
  readonly mayEnd?: boolean | undefined
}

export interface Contestant {
  readonly name: string
  readonly start: (situation: Situation) => ChildProcess
  /** What has to be installed for it, if it cannot run on this machine. */
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

const telemetry = ({ collector }: Situation): NodeJS.ProcessEnv =>
  collector === undefined ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT: collector }

export const ours: Contestant = node("ours", join(root, "dist/recommendations.js"), (situation) => ({
  ...telemetry(situation),
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
  node(name, join(bundles, "rivals", program), ({ backend, catalogue, port, tls }) => ({
    ...more,
    ...(catalogue === undefined ? {} : { CATALOG_FILE: catalogue }),
    ...(backend === undefined ? {} : { RECOMMENDATIONS_TARGET: `127.0.0.1:${backend}` }),
    ...(tls === undefined ? {} : { TLS_CA_FILE: tls.ca, TLS_CERT_FILE: tls.cert, TLS_KEY_FILE: tls.key }),
    PORT: String(port)
  }))

export const byHand = rival("grpc-js by hand", "grpcJs.js")
export const niceGrpc = rival("nice-grpc", "niceGrpc.js")
export const connectNode = rival("connect-node", "connectNode.js")
export const pageByHand = rival("node:http and grpc-js by hand", "nodeHttp.js")
export const streamByHand = rival("grpc-js by hand", "grpcJsStream.js")

/** node:http2 that gives the same answer to all. */
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

/** Makes Node's compile cache as the image of ours has it: by a start that ends at a wrong setting once all modules are loaded. */
export const fillCompileCache = async (folder: string): Promise<void> => {
  const child = spawn(process.execPath, [join(root, "dist/recommendations.js")], {
    cwd: root,
    env: { NODE_COMPILE_CACHE: folder, LOG_LEVEL: "wrong" },
    stdio: "ignore"
  })
  await once(child, "exit")
}

/** A port that nobody listens on. */
export const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, "close")
  return port
}

/** A connection to a port, as soon as somebody listens there. */
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

/** Makes all that is run out of TypeScript into JavaScript: what is ours in one file, of rivals each as it is. */
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
    // as if they had been written in JavaScript: what they depend on stays where npm has put it
    external: /^[^./]/,
    output: {
      ...output,
      dir: join(bundles, "rivals"),
      preserveModules: true,
      preserveModulesRoot: join(here, "rivals")
    }
  })
}
