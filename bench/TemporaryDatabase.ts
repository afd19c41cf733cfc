/**
 * Databases of SQLite in temporary files, so that no measured process finds what another one has written.
 */
import type { ChildProcess } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const folders = new Set<string>()

const remove = (folder: string) => {
  folders.delete(folder)
  // a process that was killed may still end
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}

process.on("exit", () => folders.forEach(remove))

const make = () => {
  const folder = mkdtempSync(join(tmpdir(), "bench-database-"))
  folders.add(folder)
  return { folder, url: `sqlite:${join(folder, "books.db")}` }
}

/** The URL of a new database, which is removed when this program ends. */
export const create = (): string => make().url

/** Starts a process with a new database, which is removed when the process ends. */
export const startWith = <Child extends ChildProcess>(start: (url: string) => Child): Child => {
  const { folder, url } = make()
  const child = start(url)
  child.once("close", () => remove(folder))
  return child
}
