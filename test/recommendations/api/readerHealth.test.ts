import { assert, it } from "@effect/vitest"
import { Effect, Latch, Layer, Stream, SubscriptionRef } from "effect"

import { Health } from "../../../src/layers/grpc/services/Health.ts"
import { Database } from "../../../src/layers/sql/Database.ts"
import * as readerHealth from "../../../src/recommendations/api/readerHealth.ts"

it.effect("ReaderService is NOT_SERVING while the database cannot be reached", () =>
  Effect.gen(function* () {
    const isAvailable = yield* SubscriptionRef.make(true)
    const changed = yield* Latch.make()
    const statuses: Array<readonly [string, string]> = []
    const health = Layer.mock(Health, {
      set: (service, status) => {
        statuses.push([service, status])
        return changed.open
      }
    })
    const database = Layer.mock(Database, {
      isAvailable: () => true,
      availability: SubscriptionRef.changes(isAvailable),
      listen: () => Stream.never
    })
    yield* Layer.build(readerHealth.layer.pipe(Layer.provide([health, database])))
    for (const next of [false, true]) {
      yield* changed.await
      yield* changed.close
      yield* SubscriptionRef.set(isAvailable, next)
    }
    yield* changed.await
    const name = "onlinebooks.recommendations.v1.ReaderService"
    assert.deepStrictEqual(statuses, [
      [name, "SERVING"],
      [name, "NOT_SERVING"],
      [name, "SERVING"]
    ])
  })
)
