/**
 * A book as protobuf bytes: a v1 RecommendResponse with this book alone. The response with several books is the concatenation of
 * their bytes, because that is how protobuf encodes a repeated field (https://protobuf.dev/programming-guides/encoding/).
 */
import protobuf from "protobufjs/minimal.js"

import type { Book } from "../../domain/Book.ts"
import type { Category } from "../../domain/Category.ts"
import type { RecommendResponse__Output } from "../../generated/v1/onlinebooks/recommendations/v1/RecommendResponse.ts"
import { Encoded } from "../../layers/grpc/EncodedMessage.ts"
import { categoryByNumber, numberByCategory } from "../categoryNumbers.ts"

/** The field `books` of `RecommendResponse`, and the fields of `Book`. */
const fields = { books: 1, id: 1, title: 2, authors: 3, year: 4, isbn10: 5, categories: 6 } as const

const varint = 0
const lengthDelimited = 2

/** Encodes a book. */
export const encode = (book: Book): Uint8Array => {
  const { authors, categories, id, isbn10, title, year } = book
  const writer = protobuf.Writer.create()
  writer.uint32((fields.books << 3) | lengthDelimited).fork()
  writer.uint32((fields.id << 3) | varint).int32(id)
  writer.uint32((fields.title << 3) | lengthDelimited).string(title)
  for (const author of authors) writer.uint32((fields.authors << 3) | lengthDelimited).string(author)
  if (year !== undefined) writer.uint32((fields.year << 3) | varint).int32(year)
  if (isbn10 !== undefined) writer.uint32((fields.isbn10 << 3) | lengthDelimited).string(isbn10)
  writer.uint32((fields.categories << 3) | lengthDelimited).fork()
  for (const category of categories) writer.int32(numberByCategory.get(category)!)
  return writer.ldelim().ldelim().finish()
}

/** A book that is decoded when one of its fields is first read. The fields are getters, so spreading the book copies none of them. */
export class EncodedBook implements Book {
  readonly #bytes: Uint8Array
  readonly #start: number
  #decoded: Book | undefined

  /** The book at a position in the bytes of many. */
  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes
    this.#start = start
  }

  get id() {
    return this.#book.id
  }
  get title() {
    return this.#book.title
  }
  get authors() {
    return this.#book.authors
  }
  get year() {
    return this.#book.year!
  }
  get isbn10() {
    return this.#book.isbn10!
  }
  get categories() {
    return this.#book.categories
  }

  get #book(): Book {
    return (this.#decoded ??= decode(this.#bytes, this.#start))
  }

  /** The response with these books. Plain books are encoded first. */
  static response(books: ReadonlyArray<Book>): Encoded<RecommendResponse__Output> {
    // the sizes are read before anything is copied, so that the loads from memory of all books overlap
    let size = 0
    const parts: Array<{ readonly book: EncodedBook; readonly end: number }> = []
    for (const book of books) {
      const encoded = book instanceof EncodedBook ? book : new EncodedBook(encode(book), 0)
      const end = endOf(encoded.#bytes, encoded.#start)
      size += end - encoded.#start
      parts.push({ book: encoded, end })
    }
    const response = Buffer.allocUnsafe(size)
    let position = 0
    for (const { book, end } of parts) {
      // for this few bytes a loop is faster than Buffer.copy
      for (let at = book.#start; at < end; at++) response[position++] = book.#bytes[at]!
    }
    return new Encoded(response)
  }
}

/** The end of a book: after a tag of one byte comes the length of the rest as a varint, seven bits a byte, the lowest first. */
const endOf = (bytes: Uint8Array, start: number): number => {
  let at = start + 1
  let length = 0
  for (let bits = 0; ; bits += 7) {
    const byte = bytes[at++]!
    length |= (byte & 0x7f) << bits
    if (byte < 0x80) return at + length
  }
}

const decode = (bytes: Uint8Array, start: number): Book => {
  const reader = protobuf.Reader.create(bytes)
  reader.pos = start + 1
  const end = reader.uint32() + reader.pos
  const book: { -readonly [K in keyof Book]?: Book[K] } = {}
  const authors: Array<string> = []
  const categories: Array<Category> = []
  while (reader.pos < end) {
    const tag = reader.uint32()
    switch (tag >>> 3) {
      case fields.id:
        book.id = reader.int32()
        break
      case fields.title:
        book.title = reader.string()
        break
      case fields.authors:
        authors.push(reader.string())
        break
      case fields.year:
        book.year = reader.int32()
        break
      case fields.isbn10:
        book.isbn10 = reader.string()
        break
      case fields.categories: {
        const last = reader.uint32() + reader.pos
        while (reader.pos < last) categories.push(categoryByNumber.get(reader.int32())!)
      }
    }
  }
  // it has the fields that {@link encode} has written
  return { ...book, authors, categories } as unknown as Book
}
