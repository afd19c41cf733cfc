/**
 * The global set-up of the project storage-postgres: one server for all its tests.
 */
import type { TestProject } from "vitest/node"

import { Postgres } from "./Postgres.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** The port of the server; absent in projects that test SQLite. */
    readonly postgresPort: number | undefined
    /** The port of a PgBouncer in front of it, if the project tests that. */
    readonly poolerPort: number | undefined
  }
}

export default async function setUp(project: TestProject) {
  const postgres = await Postgres.start()
  project.provide("postgresPort", postgres.port)
  return () => postgres.remove()
}
