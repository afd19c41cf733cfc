/**
 * The service with a database on grpc-js, written as in a small service without Effect. {@link file://./grpcJsSqlite.ts} and
 * {@link file://./grpcJsPostgres.ts} implement the storage. It answers only first pages, since the benchmark asks for no others, with the
 * token of the next one.
 */
import * as grpc from "@grpc/grpc-js"
import * as protoLoader from "@grpc/proto-loader"

import { type Catalogue, draw, type Row } from "./catalogue.ts"

/** Feedback, with the fields of its message. */
export interface Feedback {
  readonly feedbackId: string
  readonly userId: number
  readonly bookId: number
  /** The number of the enum. */
  readonly kind: number
  readonly rating: number
  readonly happenedAt: { readonly seconds: string; readonly nanos: number } | null
  readonly recommendationId: string
}

export interface Counts {
  recordedCount: number
  duplicateCount: number
  droppedCount: number
}

/** A call with these field violations is INVALID_ARGUMENT. */
export class Invalid extends Error {}

/** A book as a row of the table `books`. */
export interface BookRow {
  readonly book_id: number
  readonly title: string
  readonly authors: string
  readonly year: number | null
  readonly isbn10: string | null
  readonly categories: string
}

/** Feedback as a row of its table. */
export interface FeedbackRow {
  readonly feedback_id: string
  readonly user_id: number
  readonly book_id: number
  readonly kind: number
  readonly rating: number | null
  readonly happened_at: number
  readonly recommendation_id: string
}

/** A book that a search found, with its place in the order of matches. */
export interface MatchRow extends BookRow {
  readonly title_match: number
  readonly title_length: number
}

/** Feedback with its book, and with its number in the order of arrival. */
export interface ListedRow extends FeedbackRow, BookRow {
  readonly sequence: number
}

export interface Search {
  readonly words: ReadonlyArray<string>
  readonly limit: number
}

type Result<A> = A | Promise<A>

export interface Storage {
  readonly catalogue: Catalogue
  readonly record: (feedback: ReadonlyArray<Feedback>) => Result<Counts>
  /** The feedback of a reader, the newest first, each with its book. */
  readonly list: (userId: number, limit: number) => Result<ReadonlyArray<ListedRow>>
  readonly search: (search: Search) => Result<ReadonlyArray<MatchRow>>
  /** The ids of the books that are not recommended to a reader. */
  readonly excluded: (userId: number) => Result<ReadonlySet<number>>
}

/** The first id that is given to readers. */
export const firstCreatedId = 1_000_000_000

/** Kinds of feedback that change nothing (impressions and views), and those whose books are not recommended. */
export const counts = (kind: number): boolean => kind > 2
export const excludingKinds = [4, 5, 6, 7, 8]

export const ratingKind = 7
const maxKind = 9

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** The time of feedback in milliseconds since 1970; undefined if it has none. */
export const timeOf = ({ happenedAt }: Feedback): number | undefined =>
  happenedAt === null ? undefined : Number(happenedAt.seconds) * 1000 + Math.floor(happenedAt.nanos / 1_000_000)

const validate = (feedback: ReadonlyArray<Feedback>): void => {
  if (feedback.length < 1 || feedback.length > 1000) throw new Invalid("feedback: expected 1 to 1000 records")
  const problems: Array<string> = []
  const latest = Date.now() + 60_000
  for (const [index, record] of feedback.entries()) {
    const { bookId, feedbackId, kind, rating, recommendationId, userId } = record
    const time = timeOf(record) ?? 0
    if (!uuid.test(feedbackId)) problems.push(`feedback[${index}].feedbackId`)
    if (userId < 1) problems.push(`feedback[${index}].userId`)
    if (bookId < 1) problems.push(`feedback[${index}].bookId`)
    if (kind < 1 || kind > maxKind) problems.push(`feedback[${index}].kind`)
    if (kind === ratingKind ? rating < 1 || rating > 5 : rating !== 0) problems.push(`feedback[${index}].rating`)
    if (time < 0 || time > latest) problems.push(`feedback[${index}].happenedAt`)
    if (recommendationId.length > 64 || recommendationId.includes("\0")) {
      problems.push(`feedback[${index}].recommendationId`)
    }
  }
  if (problems.length > 0) throw new Invalid(problems.join(", "))
}

/** The words of a text, without case and accents. */
export const wordsOf = (text: string): ReadonlyArray<string> =>
  text
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== "")

/** The columns of a book that is inserted. */
export const toBookRow = ({ authors, categories, id, isbn10, title, year }: Row) => ({
  book_id: id,
  title,
  authors: JSON.stringify(authors),
  year: year ?? null,
  isbn10,
  categories: categories.join(";"),
  folded_title: wordsOf(title).join(" "),
  words: wordsOf(`${title} ${authors.join(" ")}`).join(" ")
})

export const fromBookRow = ({ authors, book_id, categories, isbn10, title, year }: BookRow): Row => ({
  id: book_id,
  title,
  authors: JSON.parse(authors) as Array<string>,
  ...(year === null ? {} : { year }),
  isbn10: isbn10 ?? "",
  categories: categories.split(";").map(Number)
})

const toFeedback = ({ book_id, feedback_id, happened_at, kind, rating, recommendation_id, user_id }: FeedbackRow) => ({
  feedbackId: feedback_id,
  userId: user_id,
  bookId: book_id,
  kind,
  rating: rating ?? 0,
  happenedAt: { seconds: Math.floor(happened_at / 1000), nanos: (happened_at % 1000) * 1_000_000 },
  recommendationId: recommendation_id
})

const unary =
  <Request, Response>(handle: (request: Request) => Result<Response>): grpc.handleUnaryCall<Request, Response> =>
  async (call, callback) => {
    try {
      callback(null, await handle(call.request))
    } catch (error) {
      const code = error instanceof Invalid ? grpc.status.INVALID_ARGUMENT : grpc.status.INTERNAL
      callback({ code, details: error instanceof Error ? error.message : String(error) })
    }
  }

/** The first page of rows, of which there may be one more, and the token of the next page: the position of the last row. */
const firstPage = <A>(rows: ReadonlyArray<A>, size: number, positionOf: (row: A) => ReadonlyArray<number>) => {
  const page = rows.slice(0, size)
  const last = rows.length > size ? page.at(-1) : undefined
  return {
    page,
    nextPageToken: last === undefined ? "" : Buffer.from(positionOf(last).join(":")).toString("base64url")
  }
}

/** Serves the parts of the API that the benchmark calls. */
export const serve = (storage: Storage): void => {
  const recommend = unary(
    async ({ category, maxResults, userId }: { category: number; maxResults: number; userId: number }) => {
      if (userId < 0 || maxResults < 0) throw new Invalid("user_id and max_results must not be negative")
      const { all, byCategory } = storage.catalogue
      const books = category === 0 ? all : (byCategory.get(category) ?? [])
      const excluded = await storage.excluded(userId)
      const left = excluded.size === 0 ? books : books.filter(({ id }) => !excluded.has(id))
      return { books: draw(left, maxResults === 0 ? 10 : Math.min(maxResults, 100)) }
    }
  )
  const recordFeedback = unary(({ feedback }: { feedback: ReadonlyArray<Feedback> }) => {
    validate(feedback)
    return storage.record(feedback)
  })
  const listFeedback = unary(async ({ pageSize, userId }: { pageSize: number; userId: number }) => {
    if (userId < 1 || pageSize < 0) throw new Invalid("userId must be positive, and pageSize not negative")
    const size = pageSize === 0 ? 50 : Math.min(pageSize, 1000)
    const listed = await storage.list(userId, size + 1)
    const { nextPageToken, page } = firstPage(listed, size, ({ happened_at, sequence }) => [happened_at, sequence])
    const books = [...new Map(page.map((row) => [row.book_id, row])).values()]
    return { feedback: page.map(toFeedback), books: books.map(fromBookRow), nextPageToken }
  })
  const searchBooks = unary(async ({ pageSize, query }: { pageSize: number; query: string }) => {
    if (query.trim() === "" || query.length > 200 || pageSize < 0) throw new Invalid("query or pageSize")
    const size = pageSize === 0 ? 20 : Math.min(pageSize, 100)
    const words = wordsOf(query)
    const found = words.length === 0 ? [] : await storage.search({ words, limit: size + 1 })
    const { nextPageToken, page } = firstPage(found, size, (row) => [row.title_match, row.title_length, row.book_id])
    return { books: page.map(fromBookRow), nextPageToken }
  })

  const definition = protoLoader.loadSync("onlinebooks/recommendations/v1/recommendations.proto", {
    includeDirs: ["proto"],
    defaults: true,
    longs: String
  })
  const server = new grpc.Server()
  const add = (name: string, methods: object) =>
    server.addService(
      definition[`onlinebooks.recommendations.v1.${name}`] as grpc.ServiceDefinition,
      methods as grpc.UntypedServiceImplementation
    )
  add("RecommendationsService", { Recommend: recommend })
  add("ReaderService", { RecordFeedback: recordFeedback, ListFeedback: listFeedback })
  add("CatalogService", { SearchBooks: searchBooks })
  server.bindAsync(`127.0.0.1:${process.env["PORT"] ?? 0}`, grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error !== null) throw error
    console.log(`listening on 127.0.0.1:${port}`)
  })
}
