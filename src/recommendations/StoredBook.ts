/**
 * A book as it is kept, which is as it is sent: a response of today's API with this book alone. One of several books is their
 * bytes one after another, since that is how protobuf writes a repeated field.
 */
import protobuf from "protobufjs/minimal.js"

import type { Book } from "../domain/Book.ts"
import type { Category } from "../domain/Category.ts"
import type { RecommendResponse__Output } from "../generated/v1/onlinebooks/recommendations/v1/RecommendResponse.ts"
import { Encoded } from "../layers/Encoded.ts"
import * as Frame from "../layers/Frame.ts"
import type { WireWriter } from "../layers/WireWriter.ts"
import * as Categories from "./Categories.ts"

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
  writer.int32s(fields.categories, categories.map(Categories.toV1))
  writer.end(start)
}

/** One of many books that {@link write} has written, each of whose fields is read when it is asked for. */
export class StoredBook implements Book {
  // a key that may be missing cannot be declared as an accessor, which these two are
  declare readonly year?: number
  declare readonly isbn10?: string
  readonly #bytes: Buffer
  readonly #start: number

  static {
    Object.defineProperties(this.prototype, {
      year: {
        get(this: StoredBook) {
          return this.#find(fields.year)?.int32()
        }
      },
      isbn10: {
        get(this: StoredBook) {
          return this.#find(fields.isbn10)?.string()
        }
      }
    })
  }

  /** That which begins at a position of bytes. */
  constructor(bytes: Buffer, start: number) {
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

  get id(): number {
    return this.#find(fields.id)!.int32()
  }

  get title(): string {
    return this.#find(fields.title)!.string()
  }

  get authors(): Book["authors"] {
    const reader = this.#find(fields.authors)!
    const authors: [string, ...Array<string>] = [reader.string()]
    while (find(reader, this.#end, fields.authors)) authors.push(reader.string())
    return authors
  }

  get categories(): Book["categories"] {
    const reader = this.#find(fields.categories)!
    const end = reader.uint32() + reader.pos
    // they have been categories when they were written
    const next = () => Categories.fromV1(reader.int32()) as Category
    const categories: [Category, ...Array<Category>] = [next()]
    while (reader.pos < end) categories.push(next())
    return categories
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

  /** A reader that stands before the value of a field, if there is one. */
  #find(field: number): protobuf.Reader | undefined {
    const reader = protobuf.Reader.create(this.#bytes)
    // the message comes after its tag, of one byte, and its length
    reader.pos = this.#start + 1
    reader.uint32()
    return find(reader, this.#end, field) ? reader : undefined
  }
}

/** Goes on to the next value of a field, if there is one before `end`. */
const find = (reader: protobuf.Reader, end: number, field: number): boolean => {
  while (reader.pos < end) {
    const tag = reader.uint32()
    if (tag >>> 3 === field) return true
    reader.skipType(tag & 7)
  }
  return false
}

const isStored = (book: Book): book is StoredBook => book instanceof StoredBook

/** The response with these books, if all of them are stored ones. */
export const response = (books: ReadonlyArray<Book>): Encoded<RecommendResponse__Output> | undefined => {
  // all of them are looked at first, so that the memory that they are in is waited for once
  let size = Frame.prefixSize
  for (const book of books) {
    if (!isStored(book)) return undefined
    size += book.size
  }
  const frame = Buffer.allocUnsafe(size)
  let position: number = Frame.prefixSize
  for (const book of books) position = (book as StoredBook).copy(frame, position)
  return new Encoded({ frame })
}
