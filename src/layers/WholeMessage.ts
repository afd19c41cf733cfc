/**
 * Reads the message of a call of grpc-js that comes in one piece, as small ones do. grpc-js makes a decoder for pieces of messages,
 * copies the message twice, and waits for a Promise in case that it is compressed: 3 us of 31 for a Recommend of three
 * (npm run bench). Whatever else comes it reads itself.
 */
import type { ServerInterceptingCallInterface } from "@grpc/grpc-js"

import * as Frame from "./Frame.ts"

/** What grpc-js keeps to itself of a call. */
interface Call {
  readonly decoder: { readonly readState: number }
  readonly handler: { readonly deserialize: (message: Buffer) => unknown }
  readonly maxReceiveMessageSize: number
  readonly readQueue: Array<{
    readonly type: string
    readonly compressedMessage: null
    readonly parsedMessage: unknown
  }>
  readonly callEventTracker: unknown
  handleDataFrame: (data: Buffer) => void
  readonly checkCancelled: () => boolean
  readonly maybePushNextMessage: () => void
}

/** Lets a call be read so, if grpc-js has what this needs. Nothing of it has been read. */
export const read = (call: ServerInterceptingCallInterface): void => {
  const known = call as unknown as Call
  const { callEventTracker, decoder, readQueue } = known
  if (callEventTracker || decoder?.readState !== nothing || readQueue?.length !== 0) return
  known.handleDataFrame = handleDataFrame
}

/** What the decoder of grpc-js has read of a message. */
const nothing = 0

function handleDataFrame(this: Call, data: Buffer): void {
  if (!isWhole(this, data)) return readPieces(this, data)
  if (this.checkCancelled()) return
  let parsedMessage: unknown
  try {
    parsedMessage = this.handler.deserialize(Frame.messageOf(data))
  } catch {
    // it knows what to say of it
    return readPieces(this, data)
  }
  this.readQueue.push({ type: "READABLE", compressedMessage: null, parsedMessage })
  this.maybePushNextMessage()
}

/** Whether that is one message, not compressed and not too large, and no others wait to be read. */
const isWhole = ({ decoder, maxReceiveMessageSize, readQueue }: Call, data: Buffer): boolean => {
  const size = data.length - Frame.prefixSize
  return (
    size >= 0 &&
    data[0] === 0 &&
    data.readUInt32BE(1) === size &&
    (maxReceiveMessageSize === -1 || size <= maxReceiveMessageSize) &&
    decoder.readState === nothing &&
    readQueue.length === 0
  )
}

/** What is in the way of the method of the class is taken away. */
const readPieces = (call: Call, data: Buffer): void => {
  Reflect.deleteProperty(call, "handleDataFrame")
  call.handleDataFrame(data)
}
