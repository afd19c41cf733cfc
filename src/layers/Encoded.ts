/**
 * A message that has been encoded before its handler is asked: what does not change need not be made into bytes at each call.
 */
import * as Frame from "./Frame.ts"

/** The bytes of a message; a handler may answer with it in place of the message, and it is sent as it is. */
export class Encoded<out Message> {
  /** Only its type is there, so that bytes of one message are not taken for those of another. */
  declare protected readonly Message: Message
  /** With what gRPC puts before the message. */
  readonly frame: Buffer

  /** From what protobuf writes of the message; or from that with as many bytes before it as {@link Frame.prefixSize} says. */
  constructor(bytes: Buffer | { readonly frame: Buffer }) {
    this.frame = Buffer.isBuffer(bytes) ? Frame.of(bytes) : Frame.complete(bytes.frame)
  }

  /** As protobuf writes the message. */
  get bytes(): Buffer {
    return Frame.messageOf(this.frame)
  }
}
