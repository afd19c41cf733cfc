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
  const connect = (remoteAddress: string) => connections.open({ remoteAddress, destroy: () => {} } as unknown as Socket)
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
})
