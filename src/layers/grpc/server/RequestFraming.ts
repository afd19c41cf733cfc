/**
 * Follows the length-prefixed messages of a request (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) as their
 * bytes arrive, without keeping or copying any. A server uses it to know what a request will cost before anything is decoded.
 */

/** The bytes before each message: one that says whether it is compressed, and four with its length. */
const prefixSize = 5

export class RequestFraming {
  /** How many messages have begun. */
  messages = 0
  /** The compressed flag of the latest of them: 0 or 1, unless the client is wrong. */
  flag = 0
  #prefixRead = 0
  #length = 0
  #left = 0

  /** Whether the latest of them is compressed. */
  get isCompressed(): boolean {
    return this.flag === 1
  }

  /** Whether a message has begun that has not ended. */
  get isWithinMessage(): boolean {
    return this.#left > 0 || this.#prefixRead > 0
  }

  /** Reads the next bytes. `onMessage` is told of each message once its prefix is complete, with its length in bytes. */
  read(bytes: Uint8Array, onMessage: (length: number) => void): void {
    let at = 0
    while (at < bytes.length) {
      if (this.#left > 0) {
        const read = Math.min(this.#left, bytes.length - at)
        this.#left -= read
        at += read
      } else if (this.#readPrefix(bytes[at++]!)) {
        this.messages++
        this.#left = this.#length
        onMessage(this.#length)
      }
    }
  }

  /** Whether the prefix is complete with this byte. */
  #readPrefix(byte: number): boolean {
    if (this.#prefixRead === 0) {
      this.flag = byte
      this.#length = 0
    } else this.#length = this.#length * 256 + byte
    this.#prefixRead = (this.#prefixRead + 1) % prefixSize
    return this.#prefixRead === 0
  }
}
