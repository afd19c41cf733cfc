import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"

import type { ReceivedFeedback } from "../../../src/domain/Feedback.ts"
import { InvalidQuery } from "../../../src/domain/InvalidQuery.ts"
import { type FeedbackQuery, Readers, ReadersUnavailable, type Recording } from "../../../src/domain/Readers.ts"
import type { Feedback } from "../../../src/generated/v1/onlinebooks/recommendations/v1/Feedback.ts"
import { ReaderService } from "../../../src/generated/v1/services.ts"
import { BadRequest } from "../../../src/layers/grpc/ErrorDetail.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as InMemory from "../../../src/layers/testing/InMemory.ts"
import type { SubjectAltName } from "../../../src/layers/tls/PeerIdentity.ts"
import * as ReaderApi from "../../../src/recommendations/api/ReaderApi.ts"
import { book } from "../../domain/Books.ts"

const id = "0b6d7d0e-7c3f-4a7e-9d56-0f6b4a0c9a11"

/** What the readers of a test were asked. */
interface Calls {
  readonly recorded: Array<ReadonlyArray<ReceivedFeedback>>
  readonly listed: Array<FeedbackQuery>
}

/** A client of the API. A record with the book 99 is invalid, and the database is down for book 503. */
const client = Effect.fnUntraced(function* (
  calls: Calls = { recorded: [], listed: [] },
  {
    allowedClients,
    names = []
  }: { readonly allowedClients?: ReadonlySet<string>; readonly names?: ReadonlyArray<SubjectAltName> } = {}
) {
  const readers = Layer.mock(Readers, {
    create: (requestId) => Effect.succeed(requestId === id ? 1_000_000_000 : 1_000_000_001),
    record: (feedback) =>
      Effect.suspend((): Effect.Effect<Recording, InvalidQuery | ReadersUnavailable> => {
        calls.recorded.push(feedback)
        const violations = feedback.flatMap(({ bookId }, index) =>
          bookId === 99 ? [{ field: `feedback[${index}].bookId`, description: "expected another" }] : []
        )
        if (violations.length > 0) return Effect.fail(new InvalidQuery({ violations }))
        if (feedback.some(({ bookId }) => bookId === 503)) return Effect.fail(new ReadersUnavailable({ cause: "down" }))
        return Effect.succeed({ recorded: feedback.length, duplicates: 1, dropped: 2 })
      }),
    list: (query) =>
      Effect.sync(() => {
        calls.listed.push(query)
        const { userId } = query
        const record = { feedbackId: id, userId, bookId: 7, happenedAt: 1_700_000_000_123, recommendationId: "r" }
        return {
          feedback: [
            { ...record, kind: "RATING", rating: 4 },
            { ...record, kind: "VIEW", rating: undefined }
          ],
          books: [book(7, "HORROR"), { ...book(8), year: -720, isbn10: "080442957X" }],
          nextPageToken: "next"
        }
      }),
    forget: (userId) => Effect.succeed(userId)
  })
  const context = yield* Layer.build(
    ReaderApi.layer(allowedClients).pipe(InMemory.listen({ peer: { address: "peer", names } }), Layer.provide(readers))
  )
  return yield* Effect.provideContext(GrpcClient.make(ReaderService), context)
})

describe("ReaderApi", () => {
  it.effect("creates readers", () =>
    Effect.gen(function* () {
      const { CreateReader } = yield* client()
      assert.deepStrictEqual(yield* CreateReader({ requestId: id }), { userId: 1_000_000_000 })
    })
  )

  it.effect("converts feedback, and unset fields to their defaults", () =>
    Effect.gen(function* () {
      const calls: Calls = { recorded: [], listed: [] }
      const { RecordFeedback } = yield* client(calls)
      const counts = yield* RecordFeedback({
        feedback: [
          {
            feedbackId: id,
            userId: 1,
            bookId: 2,
            kind: 7,
            rating: 5,
            happenedAt: { seconds: "1700000000", nanos: 123_999_999 },
            recommendationId: "r"
          },
          {},
          { kind: 10 } as unknown as Feedback
        ]
      })
      assert.deepStrictEqual(counts, { recordedCount: 3, duplicateCount: 1, droppedCount: 2 })
      const unset = {
        feedbackId: "",
        userId: 0,
        bookId: 0,
        kind: undefined,
        rating: 0,
        happenedAt: undefined,
        recommendationId: ""
      }
      assert.deepStrictEqual(calls.recorded, [
        [
          {
            feedbackId: id,
            userId: 1,
            bookId: 2,
            kind: "RATING",
            rating: 5,
            happenedAt: 1_700_000_000_123,
            recommendationId: "r"
          },
          unset,
          unset
        ]
      ])
    })
  )

  it.effect.each([
    [{ seconds: "0", nanos: 0 }, 0],
    [{ seconds: "-1", nanos: 999_000_000 }, -1],
    [{ seconds: "1", nanos: -1 }, Number.NaN],
    [{ seconds: "1", nanos: 1_000_000_000 }, Number.NaN]
  ] as const)("converts the time %j to %d", ([happenedAt, millis]) =>
    Effect.gen(function* () {
      const calls: Calls = { recorded: [], listed: [] }
      const { RecordFeedback } = yield* client(calls)
      yield* RecordFeedback({ feedback: [{ happenedAt }] })
      assert.deepStrictEqual(calls.recorded[0]?.[0]?.happenedAt, millis)
    })
  )

  it.effect("names invalid fields as the request does", () =>
    Effect.gen(function* () {
      const { RecordFeedback } = yield* client()
      const { reason } = yield* Effect.flip(RecordFeedback({ feedback: [{}, { bookId: 99 }] }))
      assert.deepStrictEqual(reason._tag, "InvalidArgument")
      assert.deepStrictEqual(reason.details, [
        BadRequest({ fieldViolations: [{ field: "feedback[1].book_id", description: "expected another" }] })
      ])
    })
  )

  it.effect("is UNAVAILABLE while the database is down", () =>
    Effect.gen(function* () {
      const { RecordFeedback } = yield* client()
      const { reason } = yield* Effect.flip(RecordFeedback({ feedback: [{ bookId: 503 }] }))
      assert.deepStrictEqual([reason._tag, reason.message], ["Unavailable", "The database cannot be reached"])
    })
  )

  it.effect("records each message of an import as a whole, and adds up what became of them", () =>
    Effect.gen(function* () {
      const calls: Calls = { recorded: [], listed: [] }
      const { ImportFeedback } = yield* client(calls)
      const counts = yield* ImportFeedback(Stream.fromIterable([{ feedback: [{}, {}] }, { feedback: [{}] }]))
      assert.deepStrictEqual(counts, { recordedCount: "3", duplicateCount: "2", droppedCount: "4" })
      assert.deepStrictEqual(
        calls.recorded.map(({ length }) => length),
        [2, 1]
      )
    })
  )

  it.effect("fails an import at its first invalid message", () =>
    Effect.gen(function* () {
      const calls: Calls = { recorded: [], listed: [] }
      const { ImportFeedback } = yield* client(calls)
      const { reason } = yield* Effect.flip(
        ImportFeedback(Stream.fromIterable([{ feedback: [{}] }, { feedback: [{ bookId: 99 }] }, { feedback: [{}] }]))
      )
      assert.deepStrictEqual(
        reason._tag === "InvalidArgument" && reason.message,
        "feedback[0].book_id: expected another"
      )
      assert.deepStrictEqual(calls.recorded.length, 2)
    })
  )

  it.effect("lists feedback with its books", () =>
    Effect.gen(function* () {
      const calls: Calls = { recorded: [], listed: [] }
      const { ListFeedback } = yield* client(calls)
      const page = yield* ListFeedback({ userId: 3, pageSize: 2, pageToken: "t", currentOnly: true, bookIds: [7, 8] })
      const happenedAt = { seconds: "1700000000", nanos: 123_000_000 }
      const record = { feedbackId: id, userId: 3, bookId: 7, happenedAt, recommendationId: "r" }
      assert.deepStrictEqual(page, {
        feedback: [
          { ...record, kind: 7, rating: 4 },
          { ...record, kind: 2, rating: 0 }
        ],
        books: [
          { id: 7, title: "Book 7", authors: ["Author 7"], isbn10: "", categories: [13] },
          { id: 8, title: "Book 8", authors: ["Author 8"], year: -720, isbn10: "080442957X", categories: [1] }
        ],
        nextPageToken: "next"
      })
      yield* ListFeedback({})
      assert.deepStrictEqual(calls.listed, [
        { userId: 3, pageSize: 2, pageToken: "t", currentOnly: true, bookIds: [7, 8] },
        { userId: 0, pageSize: undefined, pageToken: "", currentOnly: false, bookIds: [] }
      ])
    })
  )

  it.effect("counts what was deleted of a forgotten reader", () =>
    Effect.gen(function* () {
      const { ForgetReader } = yield* client()
      assert.deepStrictEqual(yield* ForgetReader({ userId: 12 }), { deletedCount: "12" })
    })
  )

  it.effect("refuses clients that are not allowed, unary calls and streams", () =>
    Effect.gen(function* () {
      const allowedClients = new Set(["marketplace"])
      const calls: Calls = { recorded: [], listed: [] }
      const stranger = yield* client(calls, { allowedClients, names: [{ type: "DNS", value: "stranger" }] })
      const refused = [
        yield* Effect.flip(stranger.RecordFeedback({ feedback: [{}] })),
        yield* Effect.flip(stranger.ImportFeedback(Stream.fromIterable([{ feedback: [{}] }]))),
        yield* Effect.flip(stranger.ForgetReader({ userId: 1 }))
      ]
      assert.deepStrictEqual(
        refused.map(({ reason }) => [reason._tag, reason.message]),
        Array.from({ length: 3 }, () => ["PermissionDenied", "This client may not call ReaderService"])
      )
      assert.deepStrictEqual(calls.recorded, [])
      const known = yield* client(calls, { allowedClients, names: [{ type: "DNS", value: "marketplace" }] })
      yield* known.RecordFeedback({ feedback: [{}] })
      assert.deepStrictEqual(calls.recorded.length, 1)
    })
  )
})
