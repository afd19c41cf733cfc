/**
 * A message that has been encoded before its handler is asked: what does not change need not be made into bytes at each call.
 */

/** The bytes of a message; a handler may answer with it in place of the message, and it is sent as it is. */
export class Encoded<out Message> {
  /** Only its type is there, so that bytes of one message are not taken for those of another. */
  declare protected readonly Message: Message
  /** As protobuf writes the message. */
  readonly bytes: Buffer

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }
}
