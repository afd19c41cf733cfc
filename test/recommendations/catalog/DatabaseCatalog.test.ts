import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Fiber, Layer, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"

import { BookCatalog } from "../../../src/domain/BookCatalog.ts"
import { ProjectRoot } from "../../../src/layers/config/ProjectRoot.ts"
import { DatabaseUnavailable } from "../../../src/layers/sql/Database.ts"
import { CatalogFileError } from "../../../src/recommendations/catalog/CatalogFile.ts"
import { CatalogStore } from "../../../src/recommendations/catalog/CatalogStore.ts"
import * as DatabaseCatalog from "../../../src/recommendations/catalog/DatabaseCatalog.ts"
import { EncodedCatalog } from "../../../src/recommendations/catalog/EncodedCatalog.ts"
import { book } from "../../domain/Books.ts"
import * as Logs from "../../layers/telemetry/Logs.ts"

/** A database with one catalogue, whose id is also the id of its only book. */
class FakeStore {
  catalogId = 1
  /** The content of the file that was imported. */
  sha256 = "a"
  isDown = false
  isBroken = false
  notifications: Stream.Stream<void> = Stream.never
  importError: CatalogFileError | undefined
  loads = 0

  readonly layer = Layer.mock(CatalogStore, {
    importOnce: () =>
      Effect.suspend(() =>
        this.#answer(this.importError === undefined ? Effect.succeedNone : Effect.fail(this.importError))
      ),
    current: Effect.suspend(() => this.#answer(Effect.succeedSome(this.#version))),
    load: Effect.suspend(() => {
      this.loads++
      const catalog = new EncodedCatalog()
      catalog.add(book(this.catalogId))
      return this.#answer(Effect.succeedSome({ version: this.#version, catalog }))
    }),
    notifications: Stream.suspend(() => this.notifications)
  })

  get #version() {
    return { catalogId: this.catalogId, sha256: this.sha256, importedAt: 0 }
  }

  #answer<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | DatabaseUnavailable> {
    if (this.isBroken) return Effect.die(new Error("no such table"))
    return this.isDown ? Effect.fail(new DatabaseUnavailable({ reason: "it is off", isOutage: true })) : effect
  }
}

/** The catalogue of a database, compared every second. */
const layerOf = (store: FakeStore, logs: Logs.Recorder) =>
  DatabaseCatalog.layer.pipe(
    Layer.provide([
      store.layer,
      logs.layer,
      Layer.succeed(ProjectRoot, ProjectRoot.of({ resolve: (path) => path })),
      ConfigProvider.layer(ConfigProvider.fromEnv({ env: { MODEL_REFRESH: "1 second" } }))
    ])
  )

const idOf = Effect.fnUntraced(function* (catalog: BookCatalog["Service"]) {
  const { at, size } = yield* catalog.allBooks
  assert.strictEqual(size, 1)
  return at(0).id
})

const messages = (logs: Logs.Recorder) => logs.lines().map(({ level, message }) => `${level} ${String(message)}`)

describe("DatabaseCatalog", () => {
  it.effect("replaces the catalogue when the database has another one, newer or restored", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const logs = Logs.recorder()
      const catalog = yield* BookCatalog.pipe(Effect.provide(yield* Layer.build(layerOf(store, logs))))
      assert.strictEqual(yield* idOf(catalog), 1)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(store.loads, 1)
      for (const id of [7, 3]) {
        store.catalogId = id
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* idOf(catalog), id)
      }
      assert.deepStrictEqual(
        logs.lines().map(({ annotations, message }) => [message, annotations["catalogId"], annotations["books"]]),
        [1, 7, 3].map((id) => ["Catalogue loaded", id, 1])
      )
    })
  )

  it.effect("replaces the catalogue when the database was restored and has another one with the same id", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      yield* Layer.build(layerOf(store, Logs.recorder()))
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(store.loads, 1)
      store.sha256 = "b"
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(store.loads, 2)
    })
  )

  it.effect("updates the catalogue again after unexpected errors, the first of which is logged", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const logs = Logs.recorder()
      const catalog = yield* BookCatalog.pipe(Effect.provide(yield* Layer.build(layerOf(store, logs))))
      logs.clear()
      for (const id of [2, 3]) {
        store.isBroken = true
        store.catalogId = id
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* idOf(catalog), id - 1)
        store.isBroken = false
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* idOf(catalog), id)
      }
      const error = "ERROR The catalogue cannot be updated"
      assert.deepStrictEqual(messages(logs), [error, "INFO Catalogue loaded", error, "INFO Catalogue loaded"])
      assert.include(logs.lines()[0]?.cause, "no such table")
    })
  )

  it.effect("polls when notifications break, and receives them again later", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const logs = Logs.recorder()
      store.notifications = Stream.die(new Error("broken"))
      const catalog = yield* BookCatalog.pipe(Effect.provide(yield* Layer.build(layerOf(store, logs))))
      logs.clear()
      yield* TestClock.adjust("5 seconds")
      store.catalogId = 2
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* idOf(catalog), 2)
      const notified = yield* Queue.unbounded<void>()
      store.notifications = Stream.fromQueue(notified)
      yield* TestClock.adjust("1 second")
      store.catalogId = 3
      yield* Queue.offer(notified, undefined)
      yield* TestClock.adjust(0)
      assert.strictEqual(yield* idOf(catalog), 3)
      assert.deepStrictEqual(messages(logs), [
        "ERROR Notifications of new catalogues cannot be received",
        "INFO Catalogue loaded",
        "INFO Catalogue loaded"
      ])
    })
  )

  it.effect("keeps the catalogue while the database is unavailable, with one warning for each outage", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const logs = Logs.recorder()
      const catalog = yield* BookCatalog.pipe(Effect.provide(yield* Layer.build(layerOf(store, logs))))
      logs.clear()
      for (const id of [2, 3]) {
        store.isDown = true
        store.catalogId = id
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* idOf(catalog), id - 1)
        store.isDown = false
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* idOf(catalog), id)
      }
      const warning = "WARN Database unavailable: the catalogue cannot be updated"
      assert.deepStrictEqual(messages(logs), [warning, "INFO Catalogue loaded", warning, "INFO Catalogue loaded"])
      assert.strictEqual(logs.lines()[0]?.annotations["reason"], "it is off")
    })
  )

  it.effect("waits for the database at the start, with one warning", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      store.isDown = true
      const logs = Logs.recorder()
      const building = yield* Effect.forkChild(Layer.build(layerOf(store, logs)))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(messages(logs), ["WARN Database unavailable: waiting to load the catalogue"])
      store.isDown = false
      yield* TestClock.adjust("10 seconds")
      const catalog = yield* Effect.provide(BookCatalog, yield* Fiber.join(building))
      assert.strictEqual(yield* idOf(catalog), 1)
    })
  )

  it.effect("fails the start because of an invalid file", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      store.importError = new CatalogFileError({ variable: "CATALOG_FILE", path: "x", reason: "bad", badLines: [] })
      const error = yield* Effect.flip(Layer.build(layerOf(store, Logs.recorder())))
      assert.strictEqual(error, store.importError)
    })
  )

  it.effect("accepts intervals from 10 milliseconds to 24 days", () =>
    Effect.gen(function* () {
      const parse = (MODEL_REFRESH: string) =>
        Effect.isSuccess(DatabaseCatalog.refreshInterval.parse(ConfigProvider.fromEnv({ env: { MODEL_REFRESH } })))
      assert.deepStrictEqual(yield* Effect.forEach(["10ms", "24 days"], parse), [true, true])
      assert.deepStrictEqual(yield* Effect.forEach(["0s", "9ms", "25 days", "often"], parse), [
        false,
        false,
        false,
        false
      ])
    })
  )
})
