/**
 * A PostgreSQL of the tests: the server of Debian's package `postgresql`, on a free port of 127.0.0.1, with its data in a temporary folder.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import path from "node:path"

const packages = "/usr/lib/postgresql"
const minVersion = 15
export const password = "p@ss:word/of tests"

/** The newest version; undefined if there is none. */
const newestVersion = (): number | undefined => {
  const versions = existsSync(packages) ? readdirSync(packages).map(Number) : []
  return versions.toSorted((a, b) => b - a)[0]
}

/** The folder of the newest version's programs. */
const binaries = (): string => {
  const version = newestVersion()
  if (version === undefined || version < minVersion) {
    throw new Error(`PostgreSQL ${minVersion} or newer is missing. Install it with: apt-get install postgresql`)
  }
  return path.join(packages, String(version), "bin")
}

/** A port of 127.0.0.1 that is free. */
export const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { readonly port: number }
      server.close(() => resolve(port))
    })
  })

/** The user to run as, since PostgreSQL and PgBouncer refuse to run as root. */
export const unprivileged = (): { readonly uid?: number; readonly gid?: number } => {
  if (process.getuid?.() !== 0) return {}
  const idOf = (option: string) => Number(execFileSync("id", [option, "postgres"], { encoding: "utf8" }))
  return { uid: idOf("-u"), gid: idOf("-g") }
}

export class Postgres {
  readonly port: number
  readonly #folder: string
  readonly #user = unprivileged()
  readonly #settings: { readonly [name: string]: string }
  #process: ChildProcess | undefined

  private constructor(port: number, settings: { readonly [name: string]: string }) {
    this.port = port
    this.#settings = settings
    this.#folder = mkdtempSync(path.join(tmpdir(), "postgres-"))
    const { gid, uid } = this.#user
    if (uid !== undefined && gid !== undefined) chownSync(this.#folder, uid, gid)
  }

  /** Whether a version is installed that can be started. */
  static isInstalled(): boolean {
    return (newestVersion() ?? 0) >= minVersion
  }

  /** Initializes a server and starts it, with further settings of postgresql.conf. */
  static async start(settings: { readonly [name: string]: string } = {}): Promise<Postgres> {
    const postgres = new Postgres(await freePort(), settings)
    const passwordFile = path.join(postgres.#folder, "password")
    writeFileSync(passwordFile, password, { mode: 0o644 })
    const args = ["-U", "shop", "--auth=scram-sha-256", `--pwfile=${passwordFile}`, "-E", "UTF8", "--locale=C"]
    execFileSync(path.join(binaries(), "initdb"), ["-D", postgres.#data, ...args], {
      ...postgres.#user,
      cwd: "/",
      stdio: ["ignore", "ignore", "inherit"]
    })
    await postgres.restart()
    return postgres
  }

  get #data(): string {
    return path.join(this.#folder, "data")
  }

  /** The URL of a database. */
  url(database: string): string {
    return `postgres://shop:${encodeURIComponent(password)}@127.0.0.1:${this.port}/${database}`
  }

  /** The dump of a database, as pg_dump makes it. */
  dump(database: string): string {
    return execFileSync(path.join(binaries(), "pg_dump"), [this.url(database)], { encoding: "utf8" })
  }

  /** Starts the server after {@link kill} or {@link stop}, and waits until it answers. */
  async restart(): Promise<void> {
    for (;;) {
      const failure = await this.#tryStart()
      if (failure === undefined) return
      // a process of the server that was killed has not ended yet
      if (!failure.includes("pre-existing shared memory block")) {
        throw new Error(`PostgreSQL does not start: ${failure}`)
      }
    }
  }

  /** Returns the log of a server that does not start. */
  async #tryStart(): Promise<string | undefined> {
    const settings = [
      `port=${this.port}`,
      "listen_addresses=127.0.0.1",
      "unix_socket_directories=",
      "max_connections=200",
      "logging_collector=off",
      ...Object.entries(this.#settings).map(([name, value]) => `${name}=${value}`)
    ]
    const server = spawn(
      path.join(binaries(), "postgres"),
      ["-D", this.#data, ...settings.flatMap((setting) => ["-c", setting])],
      { ...this.#user, cwd: "/", stdio: ["ignore", "ignore", "pipe"] }
    )
    this.#process = server
    let log = ""
    return await new Promise((resolve) => {
      server.stderr.setEncoding("utf8").on("data", (text: string) => {
        log = (log + text).slice(-10_000)
        if (log.includes("database system is ready to accept connections")) resolve(undefined)
      })
      server.once("close", () => resolve(log))
    })
  }

  /** Ends the server without warning, with all of its processes. */
  kill(): Promise<void> {
    return this.#end("SIGKILL")
  }

  /** Ends all connections and the server. */
  stop(): Promise<void> {
    return this.#end("SIGINT")
  }

  /** Suspends and continues all processes of the server, which then does not answer. */
  signalAll(signal: "SIGSTOP" | "SIGCONT"): void {
    for (const pid of [this.#process!.pid!, ...this.#children()]) signalIfRunning(pid, signal)
  }

  /** Stops the server and deletes its data. */
  async remove(): Promise<void> {
    await this.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #children(): ReadonlyArray<number> {
    try {
      const output = execFileSync("ps", ["-o", "pid=", "--ppid", String(this.#process!.pid)], { encoding: "utf8" })
      return output.trim().split(/\s+/).map(Number)
    } catch {
      return []
    }
  }

  async #end(signal: "SIGKILL" | "SIGINT"): Promise<void> {
    const server = this.#process
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return
    const exited = new Promise<void>((resolve) => server.once("exit", () => resolve()))
    const children = signal === "SIGKILL" ? this.#children() : []
    server.kill(signal)
    for (const pid of children) signalIfRunning(pid, signal)
    await exited
  }
}

/** A child of the server may have ended since it was listed. */
const signalIfRunning = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal)
  } catch {
    // it has
  }
}
