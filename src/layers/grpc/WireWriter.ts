/**
 * Writes messages of protobuf field by field, for those that are encoded once, many of them, and then kept. (protobufjs' writer
 * notes every value before it writes one, which takes three times as long.)
 *
 * https://protobuf.dev/programming-guides/encoding/
 */

const varint = 0
const delimited = 2

/** The most bytes that a tag and a number have, or a tag and a length. */
const numberSize = 15

export class WireWriter {
  #bytes: Buffer
  #length = 0

  /** `capacity` is how many bytes it begins with room for. */
  constructor(capacity = 256) {
    this.#bytes = Buffer.allocUnsafeSlow(capacity)
  }

  /** How many bytes have been written. */
  get length(): number {
    return this.#length
  }

  /** A field of type int32, or of an enum. */
  int32(field: number, value: number): void {
    this.#reserve(numberSize)
    this.#varint((field << 3) | varint)
    this.#int32(value)
  }

  /** A repeated field of type int32, or of an enum. */
  int32s(field: number, values: ReadonlyArray<number>): void {
    const start = this.begin(field)
    this.#reserve(values.length * numberSize)
    for (const value of values) this.#int32(value)
    this.end(start)
  }

  /** A field of type string. */
  string(field: number, value: string): void {
    const start = this.begin(field)
    // a unit of UTF-16 has three bytes in UTF-8 at the most
    this.#reserve(value.length * 3)
    this.#length += this.#bytes.write(value, this.#length)
    this.end(start)
  }

  /** Begins a field that is a message. What is written next are its fields, until {@link end} is given what this has returned. */
  begin(field: number): number {
    this.#reserve(numberSize)
    this.#varint((field << 3) | delimited)
    // the length will be here, and has one byte most of the time
    return this.#length++
  }

  /** Ends a field that {@link begin} has begun. */
  end(start: number): void {
    const size = this.#length - start - 1
    if (size >= 0x80) {
      const more = Math.floor(Math.log2(size) / 7)
      this.#reserve(more)
      this.#bytes.copyWithin(start + 1 + more, start + 1, this.#length)
    }
    this.#length = start
    this.#varint(size)
    this.#length += size
  }

  /** All that has been written since the last time. */
  take(): Buffer {
    const taken = Buffer.from(this.#bytes.subarray(0, this.#length))
    this.#length = 0
    return taken
  }

  #reserve(size: number): void {
    const least = this.#length + size
    if (least <= this.#bytes.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(least, this.#bytes.length * 2))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
  }

  /** A number from 0 to 2^32 - 1: seven bits a byte, the lowest first. */
  #varint(value: number): void {
    let rest = value
    while (rest > 0x7f) {
      this.#bytes[this.#length++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.#bytes[this.#length++] = rest
  }

  /** A negative number is written with 64 bits, so that int32 and int64 are the same to who reads it. */
  #int32(value: number): void {
    if (value >= 0) return this.#varint(value)
    let rest = value
    for (let byte = 0; byte < 9; byte++) {
      this.#bytes[this.#length++] = (rest & 0x7f) | 0x80
      rest >>= 7
    }
    this.#bytes[this.#length++] = 1
  }
}
