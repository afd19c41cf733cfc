import { randomUUID } from "node:crypto"

import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { afterAll, beforeAll } from "vitest"

import { Readers } from "../../src/domain/Readers.ts"
import { toRow } from "../../src/recommendations/catalog/bookRow.ts"
import * as SqlReaders from "../../src/recommendations/readers/SqlReaders.ts"
import { book } from "../domain/Books.ts"
import { Postgres } from "./Postgres.ts"
import { connect, postgresUrl } from "./StorageTest.ts"

describe("a dump of PostgreSQL", () => {
  let server: Postgres
  beforeAll(async () => {
    server = await Postgres.start()
  })
  afterAll(() => server.remove())

  it.live("has nothing of a forgotten reader but the row that drops late feedback", () => {
    const settings = {
      refresh: Duration.hours(1),
      historyTimeout: Duration.seconds(10),
      impressionRetention: Duration.days(90)
    }
    return Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { create, forget, record } = yield* Readers
      yield* sql`INSERT INTO books ${sql.insert(toRow(book(1), 1))}`
      const requestId = randomUUID()
      // an id that is in no other column
      yield* sql`UPDATE reader_ids SET next_id = 1234567891`
      const userId = yield* create(requestId)
      yield* sql`UPDATE reader_ids SET next_id = 1000000000`
      const records = Array.from({ length: 50 }, () => ({
        feedbackId: randomUUID(),
        userId,
        bookId: 1,
        kind: "LIKE" as const,
        rating: 0,
        happenedAt: undefined,
        recommendationId: "secret"
      }))
      yield* record(records)
      const texts = [requestId, "secret", ...records.map(({ feedbackId }) => feedbackId)]
      const before = server.dump("postgres")
      assert.isTrue(texts.every((text) => before.includes(text)))
      assert.isAbove(before.split(String(userId)).length, records.length)
      assert.strictEqual(yield* forget(userId), records.length)
      const after = server.dump("postgres")
      assert.deepStrictEqual(
        texts.filter((text) => after.includes(text)),
        []
      )
      assert.match(after, new RegExp(String.raw`COPY public\.readers .*\n${userId}\t\d+\t\d+\n`))
      assert.strictEqual(after.split(String(userId)).length, 2)
    }).pipe(
      Effect.provide(SqlReaders.layer(settings).pipe(Layer.provideMerge(connect(postgresUrl(server.port, "postgres")))))
    )
  })
})
