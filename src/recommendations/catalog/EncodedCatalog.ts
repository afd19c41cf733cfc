/**
 * Many books in little memory: their protobuf bytes in one buffer, and for each shelf the offsets of its books
 * (docs/decisions/0012-books-are-stored-encoded.md).
 */
import type { Book } from "../../domain/Book.ts"
import { BookCatalog, type Shelf } from "../../domain/BookCatalog.ts"
import { categories, type Category } from "../../domain/Category.ts"
import { encode, EncodedBook } from "./EncodedBook.ts"

export class EncodedCatalog {
  #bytes = new Uint8Array(65_536)
  #length = 0
  readonly #offsets = new OffsetList()
  readonly #offsetsOf = new Map<Category, OffsetList>(categories.map((category) => [category, new OffsetList()]))

  /** The number of books. */
  get size(): number {
    return this.#offsets.size
  }

  add(book: Book): void {
    const encoded = encode(book)
    const offset = this.#length
    this.#length += encoded.length
    if (this.#length > this.#bytes.length) this.#bytes = grown(this.#bytes, this.#length * 2)
    this.#bytes.set(encoded, offset)
    this.#offsets.add(offset)
    for (const category of book.categories) this.#offsetsOf.get(category)!.add(offset)
  }

  /** The catalogue of the books. No more can be added. */
  toBookCatalog(): BookCatalog["Service"] {
    const bytes = this.#bytes
    const shelfOf = (offsets: OffsetList): Shelf => ({
      size: offsets.size,
      at: (position) => new EncodedBook(bytes, offsets.at(position))
    })
    return BookCatalog.make(
      shelfOf(this.#offsets),
      new Map(Array.from(this.#offsetsOf, ([category, offsets]) => [category, shelfOf(offsets)]))
    )
  }
}

/** A list of unsigned 32-bit integers. */
class OffsetList {
  #values = new Uint32Array(64)
  size = 0

  add(value: number): void {
    if (this.size === this.#values.length) {
      const values = new Uint32Array(this.size * 2)
      values.set(this.#values)
      this.#values = values
    }
    this.#values[this.size++] = value
  }

  at(position: number): number {
    return this.#values[position]!
  }
}

const grown = (bytes: Uint8Array, size: number): Uint8Array<ArrayBuffer> => {
  const larger = new Uint8Array(size)
  larger.set(bytes)
  return larger
}
