import { assert, describe, it } from "@effect/vitest"

import * as Address from "../../../src/layers/config/Address.ts"

describe("the network of an address", () => {
  it.each([
    ["10.1.2.3", "10.1.2.3"],
    ["::ffff:10.1.2.3", "10.1.2.3"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::6", "2001:db8:1:2::/64"],
    ["2001:0DB8:0001:0002::", "2001:db8:1:2::/64"],
    ["2001:db8::6", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["::2:3:4:5:6:7:8", "0:2:3:4::/64"],
    ["64:ff9b::192.0.2.33", "64:ff9b:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["unknown", "unknown"]
  ])("of %s is %s", (host, network) => {
    assert.strictEqual(Address.network(host), network)
  })
})

describe("loopback", () => {
  it.each(["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST."])("is %s", (host) => {
    assert.isTrue(Address.isLoopback(host))
  })
  it.each(["0.0.0.0", "::", "10.0.0.1", "127.example.org", "localhost.example.org"])("is not %s", (host) => {
    assert.isFalse(Address.isLoopback(host))
  })
})
