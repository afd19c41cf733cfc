import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"

import { assert, describe, it } from "@effect/vitest"

import * as IpNetworks from "../../../src/layers/config/IpNetworks.ts"
import { HttpConnections, type Reason } from "../../../src/layers/http/HttpConnections.ts"

const make = (limits: { readonly maxConnections: number; readonly maxConnectionsPerAddress: number }) => {
  const reasons: Array<Reason> = []
  const connections = new HttpConnections(
    {
      ...limits,
      maxRequestsPerConnection: 8,
      maxUnreadSize: 1024,
      unreadTimeout: 1000,
      trustedProxies: IpNetworks.none
    },
    { onClosed: (reason) => reasons.push(reason), onRefused: (reason) => reasons.push(reason) }
  )
  /** A connection that sends nothing. */
  const connect = (remoteAddress: string) => {
    const socket = { remoteAddress, destroyed: false, destroy: () => (socket.destroyed = true) }
    connections.open(socket as unknown as Socket)
    return socket
  }
  /** A request whose response the client reads at once. */
  const exchange = (socket: object) => {
    const request = { socket, complete: true } as unknown as IncomingMessage
    const begun = connections.begin(request, { req: request, closed: true } as unknown as ServerResponse)
    connections.responded(begun!, 0)
    connections.closeExchange(begun!)
    return begun!
  }
  return { connect, connections, exchange, reasons }
}

describe("HttpConnections", () => {
  it("keeps the count per address right when a new connection evicts the only one of its address", () => {
    const { connect, connections, reasons } = make({ maxConnections: 100, maxConnectionsPerAddress: 1 })
    for (let count = 0; count < 5; count++) connect("192.0.2.1")
    assert.deepStrictEqual(
      reasons,
      Array.from({ length: 4 }, () => "address limit")
    )
    assert.strictEqual(connections.counts.connections, 1)
  })

  it("lists the connections of the same address that have not received a request", () => {
    const { connect, connections, exchange } = make({ maxConnections: 100, maxConnectionsPerAddress: 100 })
    const [first, second, used] = [connect("192.0.2.1"), connect("192.0.2.1"), connect("192.0.2.1")]
    connect("192.0.2.2")
    const { connection } = exchange(used)
    assert.deepStrictEqual<ReadonlyArray<object>>(
      connections.unusedBeside(connection).map(({ socket }) => socket),
      [first, second]
    )
  })

  it("evicts the connection that has been idle longest if addresses hold equally many", () => {
    const { connect, exchange } = make({ maxConnections: 4, maxConnectionsPerAddress: 4 })
    const good = [connect("192.0.2.1"), connect("192.0.2.1")]
    const idle = [connect("192.0.2.2"), connect("192.0.2.2")]
    // at any time, one of these two is idle
    good.forEach(exchange)
    connect("192.0.2.3")
    assert.deepStrictEqual(
      [...good, ...idle].map(({ destroyed }) => destroyed),
      [false, false, true, false]
    )
  })
})
