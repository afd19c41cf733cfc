/**
 * A response that is encoded already. Use it for responses that many calls get, or that are kept as bytes.
 */

/** The bytes of a protobuf message. A handler may return it in place of the message. */
export class Encoded<out Message> {
  /** Exists only in the type, so that the bytes of one message are not used as those of another. */
  declare protected readonly Message: Message
  readonly bytes: Buffer

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }
}
