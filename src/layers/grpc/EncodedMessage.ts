/**
 * A response that is already encoded. Use it for responses that are sent to many calls, or that are stored as bytes.
 */

/** The bytes of a protobuf message. A handler may return it in place of the message. */
export class Encoded<out Message> {
  /** Exists only in the type, so that the bytes of one message type are not used as another. */
  declare protected readonly Message: Message
  readonly bytes: Buffer

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }
}
