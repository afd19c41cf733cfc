/**
 * Lets go of the calls of a client that have ended, as a server does of its own: see {@link ClosedStreams}. And keeps those that have
 * not in a set that lets go of them, too, where grpc-js has a Set: by that, each call led to all that came after it.
 */
import type { ClientHttp2Stream } from "node:http2"

import { Http2SubchannelCall } from "@grpc/grpc-js/build/src/subchannel-call.js"

import { StableSet } from "../../collections/StableSet.ts"
import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"
import * as ClosedStreams from "./ClosedStreams.ts"

/** What is needed here of grpc-js' call on a connection, and what it keeps to itself. */
interface Call {
  readonly http2Stream: ClientHttp2Stream
  readonly transport: { activeCalls: Set<object> | StableSet<object> }
  /** Called once, when it is known what has become of the call. */
  outputStatus(): void
}

let isForgetting = false

/** From now on, calls that have ended lead to nothing any more; if grpc-js does not tell of their end as it did, they do. */
export const forget = (): void => {
  const prototype = Http2SubchannelCall.prototype as unknown as Call
  const { outputStatus } = prototype
  if (isForgetting || typeof outputStatus !== "function") return
  isForgetting = true
  const release = CallbackGuard.make()("end of a gRPC call", ({ http2Stream, transport }: Call) => {
    ClosedStreams.forget(http2Stream)
    const { activeCalls } = transport
    // the first call on a connection
    if (activeCalls instanceof Set) transport.activeCalls = stable(activeCalls)
  })
  prototype.outputStatus = function (this: Call) {
    outputStatus.call(this)
    release(this)
  }
}

const stable = (calls: Set<object>): StableSet<object> => {
  const all = new StableSet<object>()
  for (const call of calls) all.add(call)
  return all
}
