/**
 * A compact catalogue: the protobuf bytes of all books in one buffer, and for each shelf the offsets of its books
 * (docs/decisions/0018-one-encoded-catalogue.md).
 *
 * The bytes of a book are a v1 RecommendResponse with only this book. A response with several books is the concatenation of their bytes,
 * because that is how protobuf encodes a repeated field (https://protobuf.dev/programming-guides/encoding/).
 */
import type { Book } from "../../domain/Book.ts"
import type { Shelf, Shelves } from "../../domain/BookCatalog.ts"
import { categories, type Category } from "../../domain/Category.ts"
import definitions from "../../generated/v1/definitions.ts"
import type { Book__Output } from "../../generated/v1/onlinebooks/recommendations/v1/Book.ts"
import type { RecommendResponse__Output } from "../../generated/v1/onlinebooks/recommendations/v1/RecommendResponse.ts"
import * as EmbeddedProtos from "../../layers/grpc/EmbeddedProtos.ts"
import { Encoded } from "../../layers/grpc/MessageCodec.ts"
import { categoryByNumber, numberByCategory } from "../categoryNumbers.ts"

/** A builder of a catalogue. */
export class EncodedCatalog {
  #bytes = new Uint8Array(65_536)
  #length = 0
  readonly #offsets = new OffsetList()
  readonly #offsetsOf = new Map<Category, OffsetList>(categories.map((category) => [category, new OffsetList()]))

  /** The number of books. */
  get size(): number {
    return this.#offsets.size
  }

  /** Adds a book. Its id has to be above those of the books before it. */
  add(book: Book): void {
    const encoded = encode(book)
    const offset = this.#length
    this.#length += encoded.length
    if (this.#length > this.#bytes.length) this.#bytes = new Uint8Array(this.#bytes.buffer.transfer(this.#length * 2))
    this.#bytes.set(encoded, offset)
    this.#offsets.add(offset)
    for (const category of book.categories) this.#offsetsOf.get(category)!.add(offset)
  }

  /** Returns the books. None may be added afterwards. */
  toShelves(): Shelves {
    const bytes = this.#bytes
    const shelfOf = (list: OffsetList): Shelf => {
      const { size, values } = list
      return { size, at: (position) => new EncodedBook(bytes, values[position]!) }
    }
    return {
      allBooks: shelfOf(this.#offsets),
      byCategory: new Map(Array.from(this.#offsetsOf, ([category, offsets]) => [category, shelfOf(offsets)]))
    }
  }
}

/** A list of unsigned 32-bit integers. */
class OffsetList {
  /** May be longer than `size`. */
  values = new Uint32Array(64)
  size = 0

  add(value: number): void {
    if (this.size === this.values.length) {
      this.values = new Uint32Array(this.values.buffer.transfer(this.values.byteLength * 2))
    }
    this.values[this.size++] = value
  }
}

const { type: responseType } = EmbeddedProtos.codec(definitions, "onlinebooks.recommendations.v1.RecommendResponse")

/** Encodes a book. */
export const encode = ({ authors, categories, id, isbn10, title, year }: Book): Uint8Array => {
  const numbers = categories.map((category) => numberByCategory.get(category))
  return responseType()
    .encode({ books: [{ id, title, authors, year, isbn10, categories: numbers }] })
    .finish()
}

/** Decodes the book of a response with one book. A missing year is null. */
const decode = (bytes: Uint8Array): Book__Output =>
  (responseType().decode(bytes) as unknown as RecommendResponse__Output).books[0]!

/** A book that is decoded on the first access to a field. The fields are getters, so spreading the book copies none of them. */
export class EncodedBook implements Book {
  readonly #bytes: Uint8Array
  readonly #start: number
  #message: Book__Output | undefined

  /** `bytes` contains the book at `start`, and may contain others. */
  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes
    this.#start = start
  }

  /** Read from the bytes, since the search for an id reads the ids of many books. */
  get id(): number {
    return idOf(this.#bytes, this.#start)
  }
  get title(): string {
    return this.#decoded.title
  }
  get authors(): Book["authors"] {
    return this.#decoded.authors as unknown as Book["authors"]
  }
  // unknown years and ISBNs are undefined, as in a plain book, although the type of an optional property of Book does not allow it
  get year(): number {
    return (this.#decoded.year ?? undefined) as number
  }
  get isbn10(): string {
    return (this.#decoded.isbn10 || undefined) as string
  }
  get categories(): Book["categories"] {
    return this.#decoded.categories.map((number) => categoryByNumber.get(number)!) as unknown as Book["categories"]
  }

  get #decoded(): Book__Output {
    return (this.#message ??= decode(this.#bytes.subarray(this.#start, endOf(this.#bytes, this.#start))))
  }

  /** The response with these books. Plain books are encoded first. */
  static response(books: ReadonlyArray<Book>): Encoded<RecommendResponse__Output> {
    // all sizes are read before the first copy, so that memory loads overlap
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

/** The end of a book. Its encoding is a tag of one byte, the length of the message as a varint (little-endian base 128), and the message. */
const endOf = (bytes: Uint8Array, start: number): number => {
  let at = start + 1
  let length = 0
  for (let bits = 0; ; bits += 7) {
    const byte = bytes[at++]!
    length |= (byte & 0x7f) << bits
    if (byte < 0x80) return at + length
  }
}

/** The id of a book: the first field of its message, since protobufjs writes fields in the order of their numbers. */
const idOf = (bytes: Uint8Array, start: number): number => {
  let at = start + 1
  while (bytes[at]! >= 0x80) at++
  // skips the last byte of the length, and the tag of the field
  at += 2
  let id = 0
  for (let bits = 0; ; bits += 7) {
    const byte = bytes[at++]!
    id |= (byte & 0x7f) << bits
    if (byte < 0x80) return id
  }
}
