/**
 * Calls that use the database, each with another body, and the checks of their answers.
 */
import { randomBytes } from "node:crypto"
import { fileURLToPath } from "node:url"

import protobuf from "protobufjs"

/** A method, its calls one after the other, and whether an answer is right. */
export interface Calls {
  readonly path: string
  readonly message: () => Uint8Array
  readonly isExpected: (answer: Buffer) => boolean
}

const proto = protobuf.loadSync(
  fileURLToPath(new URL("../proto/onlinebooks/recommendations/v1/recommendations.proto", import.meta.url))
)
const typeOf = (name: string): protobuf.Type => proto.lookupType(`onlinebooks.recommendations.v1.${name}`)
const recordRequest = typeOf("RecordFeedbackRequest")
const recordResponse = typeOf("RecordFeedbackResponse")
const listRequest = typeOf("ListFeedbackRequest")
const searchRequest = typeOf("SearchBooksRequest")

/** The readers of recorded feedback, in turn. */
const readers = 10_000

/** UUIDs that no other call has. */
const makeIds = () => {
  const prefix = randomBytes(10).toString("hex")
  const [a, b, c, d] = [prefix.slice(0, 8), prefix.slice(8, 12), prefix.slice(12, 16), prefix.slice(16, 20)]
  let count = 0
  return () => `${a}-${b}-${c}-${d}-${(count++).toString(16).padStart(12, "0")}`
}

/** VIEW, WANT_TO_READ, LIKE and RATING. */
const kinds = [2, 3, 5, 7]

/** RecordFeedback of a number of records of different readers about different books. */
export const record = (size: number, bookIds: ReadonlyArray<number>): Calls => {
  const nextId = makeIds()
  let count = 0
  const feedback = () => {
    const at = count++
    const kind = kinds[at % kinds.length]!
    return {
      feedbackId: nextId(),
      userId: 1 + (at % readers),
      // not always the same books for a reader
      bookId: bookIds[(at + Math.floor(at / readers)) % bookIds.length],
      kind,
      ...(kind === 7 ? { rating: 4 } : {})
    }
  }
  return {
    path: "/onlinebooks.recommendations.v1.ReaderService/RecordFeedback",
    message: () => recordRequest.encode({ feedback: Array.from({ length: size }, feedback) }).finish(),
    isExpected: (answer) => recordResponse.decode(answer).toJSON()["recordedCount"] === size
  }
}

/** The readers whose feedback is listed, and the records of each. */
export const listedReaders = 500
const recordsOfReader = 50

/** RecordFeedback of all feedback of one listed reader after the other. */
export const fill = (bookIds: ReadonlyArray<number>): Calls => {
  const calls = record(recordsOfReader, bookIds)
  const nextId = makeIds()
  let userId = 0
  return {
    ...calls,
    message: () => {
      userId++
      const feedback = Array.from({ length: recordsOfReader }, (_, at) => ({
        feedbackId: nextId(),
        userId,
        bookId: bookIds[(userId + at) % bookIds.length],
        kind: 5,
        happenedAt: { seconds: 1_700_000_000 + at }
      }))
      return recordRequest.encode({ feedback }).finish()
    }
  }
}

/** ListFeedback of one listed reader after the other. */
export const list = (): Calls => {
  let count = 0
  return {
    path: "/onlinebooks.recommendations.v1.ReaderService/ListFeedback",
    message: () => listRequest.encode({ userId: 1 + (count++ % listedReaders), pageSize: recordsOfReader }).finish(),
    isExpected: (answer) => countOf(answer) === recordsOfReader
  }
}

/** SearchBooks in the catalogue of 10,000 made-up books: the beginning of the last word of ten titles. */
export const search = (): Calls => {
  let count = 0
  return {
    path: "/onlinebooks.recommendations.v1.CatalogService/SearchBooks",
    message: () =>
      searchRequest.encode({ query: `book ${String(300_000 + (count++ % 1_000)).padStart(7, "0")}` }).finish(),
    isExpected: (answer) => countOf(answer) === 10
  }
}

/** The number of elements of field 1 of an encoded message, all of whose fields have lengths. */
const countOf = (message: Uint8Array): number => {
  const reader = protobuf.Reader.create(message)
  let count = 0
  while (reader.pos < reader.len) {
    if (reader.uint32() >>> 3 === 1) count++
    reader.skip(reader.uint32())
  }
  return count
}
