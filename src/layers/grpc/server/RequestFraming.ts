/**
 * Parses the length-prefixed messages of a request (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) as their bytes
 * arrive, without copying them, so that a server can check the size of a message before it is decoded.
 */

/** The compressed flag, and four bytes of length. */
const prefixSize = 5

export interface MessageObserver {
  /** Called once the prefix of a message is complete, with its length in bytes and its compressed flag. */
  readonly onMessagePrefix: (length: number, flag: number) => void
}

export class RequestFraming {
  /** How many messages have started. */
  messages = 0
  /** Whether a message is incomplete. */
  isWithinMessage = false
  #flag = 0
  #length = 0
  #prefixRead = 0
  /** The bytes of the current message that have not arrived yet. */
  #left = 0

  /** Reads the next bytes. */
  read(bytes: Uint8Array, observer: MessageObserver): void {
    let at = 0
    while (at < bytes.length) {
      if (this.#left > 0) {
        const read = Math.min(this.#left, bytes.length - at)
        this.#left -= read
        at += read
        continue
      }
      const byte = bytes[at++]!
      if (this.#prefixRead === 0) {
        this.#flag = byte
        this.#length = 0
      } else this.#length = this.#length * 256 + byte
      if (++this.#prefixRead < prefixSize) continue
      this.#prefixRead = 0
      this.messages++
      this.#left = this.#length
      observer.onMessagePrefix(this.#length, this.#flag)
    }
    this.isWithinMessage = this.#left > 0 || this.#prefixRead > 0
  }
}
