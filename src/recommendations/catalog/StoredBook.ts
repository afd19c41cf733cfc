/**
 * A book as it is kept, which is as it is sent: a response of today's API with this book alone. One of several books is their
 * bytes one after another, since that is how protobuf writes a repeated field.
 */
import protobuf from "protobufjs/minimal.js"

import type { Book } from "../../domain/Book.ts"
import type { Category } from "../../domain/Category.ts"
import type { RecommendResponse__Output } from "../../generated/v1/onlinebooks/recommendations/v1/RecommendResponse.ts"
import { Encoded } from "../../layers/grpc/EncodedMessage.ts"
import type { WireWriter } from "../../layers/grpc/WireWriter.ts"
import { categoryOf, numberOf } from "../categoryNumbers.ts"
import * as LazyObject from "./LazyObject.ts"

/** The fields of `RecommendResponse` and `Book`, as the proto numbers them. */
const fields = { books: 1, id: 1, title: 2, authors: 3, year: 4, isbn10: 5, categories: 6 } as const

/** Writes a book in that way. */
export const write = (writer: WireWriter, book: Book): void => {
  const { authors, categories, id, isbn10, title, year } = book
  const start = writer.begin(fields.books)
  writer.int32(fields.id, id)
  writer.string(fields.title, title)
  for (const author of authors) writer.string(fields.authors, author)
  if (year !== undefined) writer.int32(fields.year, year)
  if (isbn10 !== undefined) writer.string(fields.isbn10, isbn10)
  writer.int32s(fields.categories, categories.map(numberOf))
  writer.end(start)
}

/** The bytes of a book that {@link write} has written, among those of others. */
class StoredBook extends LazyObject.Source<Book> {
  readonly #bytes: Buffer
  readonly #start: number

  constructor(bytes: Buffer, start: number) {
    super()
    this.#bytes = bytes
    this.#start = start
  }

  /** After the tag, of one byte, comes the length of all that follows: seven bits a byte, the lowest first. */
  get #end(): number {
    let at = this.#start + 1
    let length = 0
    for (let bits = 0; ; bits += 7) {
      const byte = this.#bytes[at++]!
      length |= (byte & 0x7f) << bits
      if (byte < 0x80) return at + length
    }
  }

  /** How many bytes the response with this book alone has. */
  get size(): number {
    return this.#end - this.#start
  }

  /** Copies those bytes to a position, and gives that after them. */
  copy(target: Buffer, position: number): number {
    const bytes = this.#bytes
    const end = this.#end
    let next = position
    // so few are copied sooner one by one than by Buffer's own way
    for (let at = this.#start; at < end; at++) target[next++] = bytes[at]!
    return next
  }

  protected override make(): Book {
    const reader = protobuf.Reader.create(this.#bytes)
    // the message comes after its tag, of one byte, and its length
    reader.pos = this.#start + 1
    const end = reader.uint32() + reader.pos
    return read(reader, end)
  }
}

/** Reads the fields of a book up to a position. */
const read = (reader: protobuf.Reader, end: number): Book => {
  let id = 0
  let title = ""
  const authors: Array<string> = []
  let year: number | undefined
  let isbn10: string | undefined
  let categories: ReadonlyArray<Category> = []
  while (reader.pos < end) {
    const tag = reader.uint32()
    switch (tag >>> 3) {
      case fields.id:
        id = reader.int32()
        break
      case fields.title:
        title = reader.string()
        break
      case fields.authors:
        authors.push(reader.string())
        break
      case fields.year:
        year = reader.int32()
        break
      case fields.isbn10:
        isbn10 = reader.string()
        break
      case fields.categories:
        categories = readCategories(reader)
        break
      default:
        reader.skipType(tag & 7)
    }
  }
  return {
    id,
    title,
    // it had one at least when it was written
    authors: authors as ReadonlyArray<string> as Book["authors"],
    ...(year === undefined ? undefined : { year }),
    ...(isbn10 === undefined ? undefined : { isbn10 }),
    categories: categories as Book["categories"]
  }
}

const readCategories = (reader: protobuf.Reader): ReadonlyArray<Category> => {
  const end = reader.uint32() + reader.pos
  const categories: Array<Category> = []
  // they have been categories when they were written
  while (reader.pos < end) categories.push(categoryOf(reader.int32())!)
  return categories
}

/** The book that begins at a position of bytes. It is read when something of it is asked for. */
export const at = (bytes: Buffer, start: number): Book => LazyObject.of(new StoredBook(bytes, start))

/** The response with these books, if all of them are stored ones. */
export const response = (books: ReadonlyArray<Book>): Encoded<RecommendResponse__Output> | undefined => {
  // all of them are looked at first, so that the memory that they are in is waited for once
  let size = 0
  const stored: Array<StoredBook> = []
  for (const book of books) {
    const source = LazyObject.sourceOf(book)
    if (!(source instanceof StoredBook)) return undefined
    stored.push(source)
    size += source.size
  }
  const bytes = Buffer.allocUnsafe(size)
  let position = 0
  for (const book of stored) position = book.copy(bytes, position)
  return new Encoded(bytes)
}
