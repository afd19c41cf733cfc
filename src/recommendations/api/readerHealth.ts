/**
 * The health of ReaderService: NOT_SERVING while the database cannot be reached.
 */
import { Effect, Layer, Stream } from "effect"

import { ReaderService } from "../../generated/v1/services.ts"
import { Health } from "../../layers/grpc/services/Health.ts"
import { Database } from "../../layers/sql/Database.ts"

export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const { availability } = yield* Database
    const { set } = yield* Health
    yield* availability.pipe(
      Stream.runForEach((isAvailable) => set(ReaderService.name, isAvailable ? "SERVING" : "NOT_SERVING")),
      Effect.forkScoped
    )
  })
)
