import { X509Certificate } from "node:crypto"

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

import { issue, makeAuthority } from "../../../scripts/certificates.ts"
import * as PeerIdentity from "../../../src/layers/tls/PeerIdentity.ts"

const { isAllowed, subjectAltNames } = PeerIdentity

/** The names read from a certificate that is issued with some names. */
const namesOf = (names: ReadonlyArray<string>) =>
  Effect.promise(async () =>
    subjectAltNames(new X509Certificate((await issue(await makeAuthority(), { names, usage: "client" })).cert))
  )

const marketplace = [
  { type: "DNS", value: "marketplace" },
  { type: "URI", value: "spiffe://onlinebooks/marketplace" }
]

describe("subjectAltNames", () => {
  it.effect("returns names with their types", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        yield* namesOf(["DNS:localhost", "DNS:a.example", "IP:127.0.0.1", "IP:::1", "URI:spiffe://a/b"]),
        [
          { type: "DNS", value: "localhost" },
          { type: "DNS", value: "a.example" },
          { type: "IP", value: "127.0.0.1" },
          { type: "IP", value: "0:0:0:0:0:0:0:1" },
          { type: "URI", value: "spiffe://a/b" }
        ]
      )
    })
  )

  it.effect.each(["a, DNS:marketplace", 'a", DNS:marketplace, DNS:"b', "a\\", "a\u0000b", "a b", "marketplace\n"])(
    "parses a name such as %j as one name",
    (value) =>
      Effect.gen(function* () {
        const names = yield* namesOf([`URI:http://${value}`, "DNS:b"])
        assert.deepStrictEqual(names, [
          { type: "URI", value: `http://${value}` },
          { type: "DNS", value: "b" }
        ])
        assert.isFalse(isAllowed(names, new Set(["marketplace"])))
      })
  )

  it("accepts the peer certificate of a connection", () => {
    assert.deepStrictEqual(
      subjectAltNames({ subjectaltname: "DNS:marketplace, URI:spiffe://onlinebooks/marketplace" }),
      marketplace
    )
    assert.deepStrictEqual(subjectAltNames({ subjectaltname: undefined }), [])
    assert.deepStrictEqual(subjectAltNames({}), [])
  })

  it("returns names of other types", () => {
    assert.deepStrictEqual(
      subjectAltNames({ subjectAltName: 'DirName:"CN=a\\u002c O=b", Registered ID:1.2.3, othername:<unsupported>' }),
      [
        { type: "DirName", value: "CN=a, O=b" },
        { type: "Registered ID", value: "1.2.3" },
        { type: "othername", value: "<unsupported>" }
      ]
    )
  })

  it.each([
    "marketplace",
    'DNS:"marketplace',
    'DNS:market"place',
    "DNS:marketplace,DNS:a",
    'DNS:"\\x"',
    "DNS:a, , DNS:b"
  ])("returns no names for text that Node does not write: %s", (subjectAltName) => {
    assert.deepStrictEqual(subjectAltNames({ subjectAltName }), [])
  })

  it("are formatted in one line", () => {
    assert.strictEqual(PeerIdentity.format(marketplace), "DNS:marketplace, URI:spiffe://onlinebooks/marketplace")
    assert.strictEqual(PeerIdentity.format([{ type: "DNS", value: "a\nb, c" }]), 'DNS:"a\\nb, c"')
  })
})

describe("isAllowed", () => {
  it.each([
    [["marketplace"], true],
    [["other", "MarketPlace"], true],
    [["spiffe://onlinebooks/marketplace"], true],
    [["spiffe://onlinebooks/Marketplace"], false],
    [["spiffe://onlinebooks"], false],
    [["market"], false],
    [["marketplace.example"], false],
    [["*"], false],
    [["DNS:marketplace"], false],
    [[], false]
  ] as const)("%j allows Marketplace: %s", (allowed, expected) => {
    assert.strictEqual(isAllowed(marketplace, new Set(allowed)), expected)
  })

  it.each([
    { type: "DNS", value: "*.example" },
    { type: "DNS", value: "spiffe://a/b" },
    { type: "URI", value: "a.example" },
    { type: "IP", value: "127.0.0.1" },
    { type: "email", value: "a.example" },
    { type: "DirName", value: "CN=a.example" }
  ])("does not match $type:$value", (name) => {
    assert.isFalse(isAllowed([name], new Set(["a.example", "spiffe://a/b", "127.0.0.1", "CN=a.example"])))
  })
})
