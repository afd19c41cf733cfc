/**
 * Records feedback at a fixed rate, and knows what was acknowledged.
 */
import { randomUUID } from "node:crypto"

import { Effect, Exit, Layer } from "effect"

import { FeedbackKind } from "../../src/generated/v1/onlinebooks/recommendations/v1/FeedbackKind.ts"
import { ReaderService } from "../../src/generated/v1/services.ts"
import * as NodeGrpcChannel from "../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../src/layers/grpc/GrpcClient.ts"
import * as RetryPolicy from "../../src/layers/grpc/RetryPolicy.ts"
import * as Load from "../integration/Load.ts"

export interface Options {
  /** Records a second; each is a call. */
  readonly rate: number
  readonly target: string
}

/** The largest id of a reader, and of a book of the shipped catalogue. */
const [readers, books] = [500, 200]

export const start = Effect.fnUntraced(function* ({ rate, target }: Options) {
  const channel = yield* Layer.build(
    NodeGrpcChannel.layer({
      target,
      policy: { retry: RetryPolicy.never, circuitFailures: 1_000_000 }
    })
  )
  const client = yield* Effect.provideContext(GrpcClient.make(ReaderService), channel)
  const runFork = Effect.runForkWith(yield* Effect.context())
  const acknowledged = new Set<string>()
  let count = 0
  const load = yield* Load.start(rate, (done) => {
    const feedbackId = randomUUID()
    const feedback = [
      { feedbackId, userId: (count % readers) + 1, bookId: (count % books) + 1, kind: FeedbackKind.FEEDBACK_KIND_LIKE }
    ]
    count++
    runFork(client.RecordFeedback({ feedback }, { timeout: "5 seconds" })).addObserver((exit) => {
      if (Exit.isSuccess(exit)) acknowledged.add(feedbackId)
      done(Exit.isSuccess(exit) ? {} : { failure: "not acknowledged" })
    })
  })
  return { ...load, acknowledged }
})
