/**
 * Keeps the active calls of a client's connection in an array instead of a Set.
 *
 * V8 rehashes a Set repeatedly and each old table references the next, so an ended call that survived a full garbage collection retains all
 * later calls until the next full collection. Together with {@link ClosedStreams}, which breaks the same kind of chain between streams,
 * the patch lowers the memory of a client that makes many calls (docs/decisions/0005).
 *
 * Private members: the method `connect` of `Http2SubchannelConnector`, and the field `activeCalls` of the transport that it resolves with.
 * There is no transport before the first connection, so this field is only checked then.
 */
import { Http2SubchannelConnector } from "@grpc/grpc-js/build/src/transport.js"

import type { Patch } from "./compat.ts"

const position = Symbol("position")

interface Call {
  [position]?: number
}

/** The Set operations grpc-js uses; each call stores its index. A call is in at most one of these sets. */
class CallSet {
  readonly #calls: Array<Call> = []
  size = 0

  add(call: Call): void {
    if (this.#calls[call[position] ?? -1] === call) return
    call[position] = this.size
    this.size = this.#calls.push(call)
  }

  delete(call: Call): void {
    const at = call[position] ?? -1
    if (this.#calls[at] !== call) return
    const last = this.#calls.pop()!
    this.size--
    if (last === call) return
    this.#calls[at] = last
    last[position] = at
  }

  /** Iterates over a copy, since calls may be removed during the iteration. */
  [Symbol.iterator](): Iterator<Call> {
    return [...this.#calls][Symbol.iterator]()
  }
}

interface Transport {
  activeCalls: unknown
}

interface Connector {
  connect(...args: Array<unknown>): Promise<Transport>
}

const prototype = Http2SubchannelConnector.prototype as unknown as Connector

export const patch: Patch = {
  name: "ActiveCalls",
  findMismatch: () => (typeof prototype.connect === "function" ? undefined : "Http2SubchannelConnector.connect"),
  apply: (onMismatch) => {
    const { connect } = prototype
    prototype.connect = async function (this: Connector, ...args) {
      const transport = await connect.apply(this, args)
      const { activeCalls } = transport
      if (activeCalls instanceof Set && activeCalls.size === 0) transport.activeCalls = new CallSet()
      else onMismatch("Http2Transport.activeCalls")
      return transport
    }
  },
  consequence: "clients take more memory"
}
