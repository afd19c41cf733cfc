import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"

import { assert, describe, it } from "@effect/vitest"

import { HttpConnections, type Reason } from "../../src/layers/HttpConnections.ts"
import * as IpNetworks from "../../src/layers/IpNetworks.ts"

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
  const connect = (remoteAddress: string): Socket => {
    const socket = { remoteAddress, destroy: () => {} } as unknown as Socket
    connections.open(socket)
    return socket
  }
  return { connect, connections, reasons }
}

describe("the connections of an HTTP server", () => {
  it("are counted by address also when the only one of an address gives way to the next", () => {
    const { connect, connections, reasons } = make({ maxConnections: 100, maxConnectionsPerAddress: 1 })
    for (let count = 0; count < 5; count++) connect("192.0.2.1")
    assert.deepStrictEqual(
      reasons,
      Array.from({ length: 4 }, () => "address limit")
    )
    assert.strictEqual(connections.counts.connections, 1)
  })

  it("are known that no request has come on, of one address", () => {
    const { connect, connections } = make({ maxConnections: 100, maxConnectionsPerAddress: 100 })
    const [first, second, used] = [connect("192.0.2.1"), connect("192.0.2.1"), connect("192.0.2.1")]
    connect("192.0.2.2")
    const request = { socket: used, complete: true }
    const response = { req: request, closed: true }
    const exchange = connections.begin(request as unknown as IncomingMessage, response as unknown as ServerResponse)
    connections.answered(exchange!, 0)
    connections.closeExchange(exchange!)
    const unused = connections.unusedBeside(exchange!.connection)
    assert.deepStrictEqual(
      unused.map(({ socket }) => socket),
      [first, second]
    )
  })
})
