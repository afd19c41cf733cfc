import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"

import * as IpNetworks from "../../../src/layers/config/IpNetworks.ts"
import * as ForwardedClient from "../../../src/layers/http/ForwardedClient.ts"

const networks = (text: string) => Option.getOrThrow(IpNetworks.parse(text))

describe("networks", () => {
  it.each([
    { text: "10.0.0.0/8", inside: ["10.1.2.3", "::ffff:10.1.2.3"], outside: ["11.0.0.1", "", "x", "::1"] },
    { text: "fd00::/8, 127.0.0.1", inside: ["fd12::1", "127.0.0.1"], outside: ["127.0.0.2", "fe80::1"] },
    { text: "0.0.0.0/0,::/0", inside: ["1.2.3.4", "2001:db8::1"], outside: ["unknown"] }
  ])("$text", ({ inside, outside, text }) => {
    const { contains } = networks(text)
    for (const address of inside) assert.isTrue(contains(address), address)
    for (const address of outside) assert.isFalse(contains(address), address)
  })

  it.each(["10.0.0.0/33", "10.0.0/8", "fd00::/129", "localhost", "10.0.0.1,", "fe80::1%eth0", "10.0.0.0/-1", "/8"])(
    "refuse %s",
    (text) => assert.isTrue(Option.isNone(IpNetworks.parse(text)))
  )

  it.each([
    ["1.2.3.4", "1.2.3.4"],
    ["::ffff:1.2.3.4", "1.2.3.4"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["::1", "0:0:0:0::/64"]
  ])("count %s as %s", (address, network) => assert.strictEqual(IpNetworks.clientNetwork(address), network))
})

describe("the client behind proxies", () => {
  const trusted = networks("10.0.0.0/8,fd00::/8")
  const of = (headers: Record<string, string>) => ForwardedClient.behind(trusted, "10.0.0.1", headers)

  it.each([
    { header: "1.2.3.4", address: "1.2.3.4" },
    // what the client has written itself is to the left of what the first proxy adds
    { header: "9.9.9.9, 1.2.3.4", address: "1.2.3.4" },
    { header: "9.9.9.9, 1.2.3.4, 10.0.0.2", address: "1.2.3.4" },
    { header: "1.2.3.4:5678", address: "1.2.3.4" },
    { header: "[2001:db8::1]:5678", address: "2001:db8::1" },
    { header: "2001:db8::1, fd00::1", address: "2001:db8::1" },
    { header: "::ffff:1.2.3.4", address: "1.2.3.4" },
    { header: "10.0.0.3, 10.0.0.2", address: "10.0.0.3" },
    // what is broken, and what is before it
    { header: "", address: "10.0.0.1" },
    { header: "unknown", address: "10.0.0.1" },
    { header: "1.2.3.4, <script>", address: "10.0.0.1" },
    { header: "1.2.3.4, unknown, 10.0.0.2", address: "10.0.0.2" },
    { header: "1.2.3.4,,", address: "10.0.0.1" },
    { header: "1.2.3.4.5", address: "10.0.0.1" },
    { header: "fe80::1%eth0", address: "10.0.0.1" },
    { header: "10.0.0.2,".repeat(5_000) + "10.0.0.2", address: "10.0.0.2" },
    // not looked at: one that is before more proxies than a request passes
    { header: "1.2.3.4" + ",10.0.0.2".repeat(31), address: "1.2.3.4" },
    { header: "1.2.3.4" + ",10.0.0.2".repeat(32), address: "10.0.0.2" }
  ])("is $address by $header", ({ address, header }) =>
    assert.strictEqual(of({ "x-forwarded-for": header }).address, address)
  )

  it.each([
    ["https", "https"],
    ["HTTPS ", "https"],
    ["http, https", "https"],
    ["https, http", "http"],
    ["gopher", "http"],
    ["", "http"]
  ])("comes by X-Forwarded-Proto: %s over %s", (header, scheme) =>
    assert.strictEqual(of({ "x-forwarded-proto": header }).scheme, scheme)
  )

  it("is the peer without headers", () => assert.deepStrictEqual(of({}), { address: "10.0.0.1", scheme: "http" }))
})
