/**
 * Writes protobuf messages field by field (https://protobuf.dev/programming-guides/encoding/). Use it to encode many messages at once, such as
 * those of a catalogue. protobufjs' own writer first records all values as operations, and is slower.
 */

const varint = 0
const delimited = 2

/** The largest size of a tag with a number or a length, in bytes. */
const numberSize = 15

export class WireWriter {
  #bytes: Buffer
  #length = 0

  /** `capacity` is the initial size of the buffer, in bytes. */
  constructor(capacity = 256) {
    this.#bytes = Buffer.allocUnsafeSlow(capacity)
  }

  /** The bytes that have been written. */
  get length(): number {
    return this.#length
  }

  /** Writes a field of type int32 or of an enum. */
  int32(field: number, value: number): void {
    this.#reserve(numberSize)
    this.#varint((field << 3) | varint)
    this.#int32(value)
  }

  /** Writes a packed repeated field of type int32 or of an enum. */
  int32s(field: number, values: ReadonlyArray<number>): void {
    const start = this.begin(field)
    this.#reserve(values.length * numberSize)
    for (const value of values) this.#int32(value)
    this.end(start)
  }

  /** Writes a field of type string. */
  string(field: number, value: string): void {
    const start = this.begin(field)
    // a UTF-16 code unit is at most three bytes of UTF-8
    this.#reserve(value.length * 3)
    this.#length += this.#bytes.write(value, this.#length)
    this.end(start)
  }

  /** Begins a field that is a message: its fields are written next. Returns the argument for {@link end}. */
  begin(field: number): number {
    this.#reserve(numberSize)
    this.#varint((field << 3) | delimited)
    // leaves one byte for the length, which is enough for most messages
    return this.#length++
  }

  /** Ends a field that {@link begin} began. */
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

  /** Returns the bytes that were written since the last call. */
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

  /** A number from 0 to 2^32 - 1: seven bits a byte, the lowest bits first. */
  #varint(value: number): void {
    let rest = value
    while (rest > 0x7f) {
      this.#bytes[this.#length++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.#bytes[this.#length++] = rest
  }

  /** Negative numbers are sign-extended to 64 bits, so that int32 and int64 are compatible. */
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
