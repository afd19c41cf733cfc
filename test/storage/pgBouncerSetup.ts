/**
 * The global set-up of the project storage-pgbouncer: one server behind PgBouncer for all its tests.
 */
import type { TestProject } from "vitest/node"

import * as PgBouncer from "./PgBouncer.ts"
import { Postgres } from "./Postgres.ts"

export default async function setUp(project: TestProject) {
  const postgres = await Postgres.start()
  const pooler = await PgBouncer.start(postgres.port)
  project.provide("postgresPort", postgres.port)
  project.provide("poolerPort", pooler.port)
  return async () => {
    await pooler.remove()
    await postgres.remove()
  }
}
