/**
 * Removes the listeners of an HTTP/2 stream once it has closed, so that the objects that they reference can be collected.
 *
 * A full garbage collection moves live objects to V8's old generation, and everything that they reference is retained until the next full
 * collection. A closed stream that was moved there references streams created after it (node:http2 alone shows this), and by its listeners
 * all objects of its call. Under load, calls then accumulate in memory between two full collections.
 *
 * No private member is used: streams are Node's, and their listeners are removed by EventEmitter's public methods.
 */
import { EventEmitter } from "node:events"
import type { Http2Stream } from "node:http2"

/** Removes all listeners of a stream after `close` was emitted; no later event may be awaited. */
export const releaseListeners = (stream: Http2Stream): void => {
  // Other listeners of the same event are still called: an emitter calls those that it had when the event was emitted.
  if (stream.destroyed) setImmediate(() => removeListeners.call(stream))
  else stream.once("close", removeListeners)
}

const { removeAllListeners } = EventEmitter.prototype

function removeListeners(this: Http2Stream): void {
  // while there is a listener of this event, all others are removed one by one
  removeAllListeners.call(this, "removeListener")
  removeAllListeners.call(this)
}
