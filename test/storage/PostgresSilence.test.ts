import { type AddressInfo, connect as connectTo, createServer, type Server, type Socket } from "node:net"

import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Layer, Schedule, Scope, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { afterAll, beforeAll } from "vitest"

import { Database, DatabaseUnavailable } from "../../src/layers/sql/Database.ts"
import { Postgres } from "./Postgres.ts"
import { connect, postgresUrl } from "./StorageTest.ts"

/** Forwards connections to a server, until they are frozen: then they stay open, and nothing passes. */
class Proxy {
  readonly #server: Server
  readonly #pairs = new Set<readonly [Socket, Socket]>()

  constructor(target: number) {
    this.#server = createServer((client) => {
      const upstream = connectTo(target, "127.0.0.1")
      const pair = [client, upstream] as const
      this.#pairs.add(pair)
      for (const socket of pair) socket.on("error", () => {})
      client.on("close", () => upstream.destroy())
      upstream.on("close", () => client.destroy())
      client.pipe(upstream)
      upstream.pipe(client)
    })
  }

  listen(): Promise<number> {
    return new Promise((resolve) => {
      this.#server.listen(0, "127.0.0.1", () => resolve((this.#server.address() as AddressInfo).port))
    })
  }

  /** Freezes the connections that there are. New ones work. */
  freeze(): void {
    for (const [client, upstream] of this.#pairs) {
      client.unpipe(upstream)
      upstream.unpipe(client)
      client.pause()
      upstream.pause()
    }
  }

  close(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy()
    this.#server.close()
  }
}

const proxyTo = (server: Postgres) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const proxy = new Proxy(server.port)
      return { proxy, port: await proxy.listen() }
    }),
    ({ proxy }) => Effect.sync(() => proxy.close())
  )

describe("a connection to PostgreSQL that breaks without a word", () => {
  let server: Postgres
  beforeAll(async () => {
    server = await Postgres.start()
  })
  afterAll(() => server.remove())

  it.live("does not keep a process from ending", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { port, proxy } = yield* proxyTo(server)
        const scope = yield* Scope.make()
        const services = yield* Layer.buildWithScope(connect(postgresUrl(port, "postgres")), scope)
        const listening = yield* Deferred.make<void>()
        const begun = yield* Deferred.make<void>()
        const frozen = yield* Deferred.make<void>()
        yield* Effect.gen(function* () {
          const { listen, transaction } = yield* Database
          const sql = yield* SqlClient.SqlClient
          const notify = Stream.runForEach(listen("changes"), () => Deferred.succeed(listening, undefined))
          yield* Effect.forkIn(notify, scope)
          const write = Effect.gen(function* () {
            yield* sql`SELECT 1`
            yield* Deferred.succeed(begun, undefined)
            yield* Deferred.await(frozen)
            yield* sql`SELECT 2`
          })
          yield* Effect.forkIn(transaction("write", write, { timeout: "1 minute" }), scope)
          yield* Deferred.await(listening)
          yield* Deferred.await(begun)
          proxy.freeze()
          yield* Deferred.succeed(frozen, undefined)
          const [elapsed] = yield* Effect.timed(Scope.close(scope, Exit.void))
          assert.isBelow(Duration.toMillis(elapsed), 10_000)
        }).pipe(Effect.provideContext(services))
      })
    )
  )

  it.live("leaves the pool, so that operations work again on new connections", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { port, proxy } = yield* proxyTo(server)
        yield* Effect.gen(function* () {
          const { run, transaction } = yield* Database
          const sql = yield* SqlClient.SqlClient
          const all = Effect.all(
            Array.from({ length: 10 }, () => transaction("read", sql`SELECT pg_sleep(0.05)`, { timeout: "1 second" })),
            { concurrency: "unbounded" }
          )
          yield* all
          proxy.freeze()
          assert.instanceOf(yield* Effect.flip(all), DatabaseUnavailable)
          const [elapsed] = yield* Effect.timed(
            Effect.retry(Effect.andThen(all, run("read", sql`SELECT 1`)), Schedule.spaced("50 millis"))
          )
          assert.isBelow(Duration.toMillis(elapsed), 20_000)
        }).pipe(Effect.provide(connect(postgresUrl(port, "postgres"))))
      })
    )
  )
})
