/**
 * A compact catalogue: the protobuf bytes of all books in one buffer, and for each shelf the offsets of its books
 * (docs/decisions/0018-one-encoded-catalogue.md).
 */
import type { Book } from "../../domain/Book.ts"
import { BookCatalog, type Shelf } from "../../domain/BookCatalog.ts"
import { categories, type Category } from "../../domain/Category.ts"
import { encode, EncodedBook } from "./EncodedBook.ts"

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

  add(book: Book): void {
    const encoded = encode(book)
    const offset = this.#length
    this.#length += encoded.length
    if (this.#length > this.#bytes.length) this.#bytes = new Uint8Array(this.#bytes.buffer.transfer(this.#length * 2))
    this.#bytes.set(encoded, offset)
    this.#offsets.add(offset)
    for (const category of book.categories) this.#offsetsOf.get(category)!.add(offset)
  }

  /** Returns the catalogue. No books may be added afterwards. */
  toBookCatalog(): BookCatalog["Service"] {
    const bytes = this.#bytes
    const shelfOf = (list: OffsetList): Shelf => {
      const { size, values } = list
      return { size, at: (position) => new EncodedBook(bytes, values[position]!) }
    }
    return BookCatalog.make(
      shelfOf(this.#offsets),
      new Map(Array.from(this.#offsetsOf, ([category, offsets]) => [category, shelfOf(offsets)]))
    )
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
