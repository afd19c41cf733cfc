/**
 * Removes the listeners of an HTTP/2 stream once it has closed, so that what they refer to is collected with its call.
 *
 * A full garbage collection moves live objects to V8's old generation, and whatever they refer to survives until the next full one. A
 * closed stream that was moved there refers to streams created after it (this is visible with node:http2 alone), and by its listeners to
 * all objects of its call. Under load, calls then pile up in memory between two full collections.
 *
 * It relies on no private member: streams are Node's, and their listeners are removed by EventEmitter's public methods.
 */
import { EventEmitter } from "node:events"
import type { Http2Stream } from "node:http2"

/** Removes all listeners of a stream after they have been told of its end. Nothing may wait for later events of the stream. */
export const forget = (stream: Http2Stream): void => {
  if (stream.destroyed) setImmediate(removeListeners, stream)
  else stream.once("close", () => setImmediate(removeListeners, stream))
}

const { removeAllListeners } = EventEmitter.prototype

const removeListeners = (stream: Http2Stream): void => {
  // while there is a listener of this event, all others are removed one by one
  removeAllListeners.call(stream, "removeListener")
  removeAllListeners.call(stream)
}
