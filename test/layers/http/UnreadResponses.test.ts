/**
 * The unread timeout of HTTP connections, with fake timers.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"

import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"

import * as IpNetworks from "../../../src/layers/config/IpNetworks.ts"
import { HttpConnections, type Reason } from "../../../src/layers/http/HttpConnections.ts"

/** A connection with a response that its client has not read. `closed` records why connections are closed. */
const unreadAnswer = () => {
  const closed: Array<Reason> = []
  const connections = new HttpConnections(
    {
      maxConnections: 10,
      maxConnectionsPerAddress: undefined,
      maxRequestsPerConnection: 8,
      maxUnreadSize: 1_000_000,
      unreadTimeout: 2_000,
      trustedProxies: IpNetworks.none
    },
    { onClosed: (reason) => void closed.push(reason), onRefused: (reason) => void closed.push(reason) }
  )
  const socket = { remoteAddress: "127.0.0.1", writableLength: 100_000, destroy: () => {} }
  const request = { socket, complete: true }
  const response = { req: request, closed: true }
  assert.isDefined(connections.open(socket as unknown as Socket))
  const exchange = connections.begin(request as unknown as IncomingMessage, response as unknown as ServerResponse)
  connections.responded(exchange!, 100_000)
  /** Advances the time by a second, in which the client reads `bytes`. */
  const read = (bytes: number) => {
    vi.advanceTimersByTime(1_000)
    socket.writableLength -= bytes
    connections.sweep()
  }
  return { closed, read }
}

describe("a connection with an unread response", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }))
  afterEach(() => void vi.useRealTimers())

  it("stays open while its client reads, however slowly", () => {
    const { closed, read } = unreadAnswer()
    for (let second = 0; second < 60; second++) read(1)
    assert.deepStrictEqual(closed, [])
  })

  it("is closed after its client has read nothing for the timeout, even if it read before", () => {
    const { closed, read } = unreadAnswer()
    read(1)
    read(0)
    assert.deepStrictEqual(closed, [])
    read(0)
    assert.deepStrictEqual(closed, ["unread timeout"])
  })
})
