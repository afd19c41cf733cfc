/**
 * A stream of responses that ends with an error: its status arrives after all of its messages.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"

import * as Echo from "../Echo.ts"

const answers = Stream.map(Stream.range(1, 100), (number) => ({ text: "", number, items: [] }))

describe("the status of a handler that fails after 100 messages", () => {
  it.live.each([1, 1_000])("arrives after all of them, sent in chunks of %i", (chunkSize) => {
    const Expand = (() =>
      Stream.concat(
        Stream.rechunk(answers, chunkSize),
        Stream.fail(new Echo.Refused({ field: "text" }))
      )) as typeof Echo.handlers.Expand
    return Effect.gen(function* () {
      const client = yield* Echo.client
      for (const responses of [client.Expand({}), client.Chat(Stream.make({ text: "a" }))]) {
        const received: Array<number | undefined> = []
        const { reason } = yield* responses.pipe(
          Stream.runForEach(({ number }) => Effect.sync(() => received.push(number))),
          Effect.flip
        )
        assert.deepStrictEqual([reason._tag, reason.message], ["InvalidArgument", "text: refused"])
        assert.deepStrictEqual(reason.details, [
          { _tag: "BadRequest", fieldViolations: [{ field: "text", description: "refused" }] }
        ])
        assert.deepStrictEqual(
          received,
          Array.from({ length: 100 }, (_, index) => index + 1)
        )
      }
    }).pipe(
      Effect.provide(Echo.serve({ Expand, Chat: (requests) => Stream.flatMap(requests, () => Expand({} as never)) }))
    )
  })
})
