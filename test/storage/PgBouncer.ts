/**
 * A PgBouncer in transaction mode in front of a PostgreSQL of the tests: Debian's package `pgbouncer`.
 */
import { spawn } from "node:child_process"
import { chownSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"

import { freePort, password, unprivileged } from "./Postgres.ts"

const program = "/usr/sbin/pgbouncer"

export interface PgBouncer {
  readonly port: number
  readonly remove: () => Promise<void>
}

/** Starts it for all databases of the server on a port, and waits until it listens. */
export const start = async (postgresPort: number): Promise<PgBouncer> => {
  if (!existsSync(program)) throw new Error("PgBouncer is missing. Install it with: apt-get install pgbouncer")
  const port = await freePort()
  const folder = mkdtempSync(path.join(tmpdir(), "pgbouncer-"))
  const user = unprivileged()
  if (user.uid !== undefined && user.gid !== undefined) chownSync(folder, user.uid, user.gid)
  const settings = path.join(folder, "pgbouncer.ini")
  writeFileSync(
    settings,
    [
      "[databases]",
      `* = host=127.0.0.1 port=${postgresPort} user=shop password='${password}'`,
      "[pgbouncer]",
      "listen_addr = 127.0.0.1",
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "auth_type = any",
      "pool_mode = transaction",
      "max_client_conn = 500",
      "default_pool_size = 20"
    ].join("\n")
  )
  const child = spawn(program, [settings], { ...user, cwd: "/", stdio: ["ignore", "ignore", "pipe"] })
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  let log = ""
  await new Promise<void>((resolve, reject) => {
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      log = (log + text).slice(-10_000)
      if (log.includes("process up")) resolve()
    })
    child.once("exit", () => reject(new Error(`PgBouncer does not start: ${log}`)))
  })
  return {
    port,
    remove: async () => {
      child.kill("SIGKILL")
      await exited
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
