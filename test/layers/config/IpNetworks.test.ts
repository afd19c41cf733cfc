import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"

import * as IpNetworks from "../../../src/layers/config/IpNetworks.ts"

describe("IP networks", () => {
  it.each([
    { text: "10.0.0.0/8", inside: ["10.1.2.3", "::ffff:10.1.2.3"], outside: ["11.0.0.1", "", "x", "::1"] },
    { text: "fd00::/8, 127.0.0.1", inside: ["fd12::1", "127.0.0.1"], outside: ["127.0.0.2", "fe80::1"] },
    { text: "0.0.0.0/0,::/0", inside: ["1.2.3.4", "2001:db8::1"], outside: ["unknown"] }
  ])("$text contain $inside but not $outside", ({ inside, outside, text }) => {
    const { contains } = Option.getOrThrow(IpNetworks.parse(text))
    for (const address of inside) assert.isTrue(contains(address), address)
    for (const address of outside) assert.isFalse(contains(address), address)
  })

  it.each(["10.0.0.0/33", "10.0.0/8", "fd00::/129", "localhost", "10.0.0.1,", "fe80::1%eth0", "10.0.0.0/-1", "/8"])(
    "refuse %j",
    (text) => assert.isTrue(Option.isNone(IpNetworks.parse(text)))
  )
})

describe("the network that limits count as one client", () => {
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
  ])("of %s is %s", (address, network) => assert.strictEqual(IpNetworks.clientNetwork(address), network))
})
