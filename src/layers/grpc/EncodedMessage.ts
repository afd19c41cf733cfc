/**
 * A message that is encoded before its handler is called. Use it for answers that many calls get, or that are copied from bytes that
 * are kept anyway.
 */

/** The bytes of a message, as protobuf writes them. A handler may answer with it in place of the message. */
export class Encoded<out Message> {
  /** Exists in the type only, so that the bytes of one message are not taken for those of another. */
  declare protected readonly Message: Message
  readonly bytes: Buffer

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }
}
