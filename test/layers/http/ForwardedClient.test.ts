import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"

import * as IpNetworks from "../../../src/layers/config/IpNetworks.ts"
import * as ForwardedClient from "../../../src/layers/http/ForwardedClient.ts"

describe("ForwardedClient.behind", () => {
  const trusted = Option.getOrThrow(IpNetworks.parse("10.0.0.0/8,fd00::/8"))
  const of = (headers: Record<string, string>) => ForwardedClient.behind(trusted, "10.0.0.1", headers)

  it.each([
    { header: "1.2.3.4", address: "1.2.3.4" },
    // an entry that the client sent itself comes before the one that the first proxy appends
    { header: "9.9.9.9, 1.2.3.4", address: "1.2.3.4" },
    { header: "9.9.9.9, 1.2.3.4, 10.0.0.2", address: "1.2.3.4" },
    { header: "1.2.3.4:5678", address: "1.2.3.4" },
    { header: "[2001:db8::1]:5678", address: "2001:db8::1" },
    { header: "2001:db8::1, fd00::1", address: "2001:db8::1" },
    { header: "::ffff:1.2.3.4", address: "1.2.3.4" },
    { header: "10.0.0.3, 10.0.0.2", address: "10.0.0.3" },
    // an entry that is not an address ends the search
    { header: "", address: "10.0.0.1" },
    { header: "unknown", address: "10.0.0.1" },
    { header: "1.2.3.4, <script>", address: "10.0.0.1" },
    { header: "1.2.3.4, unknown, 10.0.0.2", address: "10.0.0.2" },
    { header: "1.2.3.4,,", address: "10.0.0.1" },
    { header: "1.2.3.4.5", address: "10.0.0.1" },
    { header: "fe80::1%eth0", address: "10.0.0.1" },
    { header: "10.0.0.2,".repeat(5_000) + "10.0.0.2", address: "10.0.0.2" },
    // only the last 32 entries are read
    { header: "1.2.3.4" + ",10.0.0.2".repeat(31), address: "1.2.3.4" },
    { header: "1.2.3.4" + ",10.0.0.2".repeat(32), address: "10.0.0.2" }
  ])("returns the address $address for X-Forwarded-For: $header", ({ address, header }) =>
    assert.strictEqual(of({ "x-forwarded-for": header }).address, address)
  )

  it.each([
    ["https", "https"],
    ["HTTPS ", "https"],
    ["http, https", "https"],
    ["https, http", "http"],
    ["gopher", "http"],
    ["", "http"]
  ])("for X-Forwarded-Proto: %s returns the scheme %s", (header, scheme) =>
    assert.strictEqual(of({ "x-forwarded-proto": header }).scheme, scheme)
  )

  it("returns the address of the peer if there are no headers", () =>
    assert.deepStrictEqual(of({}), { address: "10.0.0.1", scheme: "http" }))
})
