import { assert, describe, it } from "@effect/vitest"

import * as Address from "../../../src/layers/config/Address.ts"

describe("isLoopback", () => {
  it.each(["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST."])(
    "is true for %s",
    (host) => {
      assert.isTrue(Address.isLoopback(host))
    }
  )
  it.each(["0.0.0.0", "::", "10.0.0.1", "127.example.org", "localhost.example.org"])("is false for %s", (host) => {
    assert.isFalse(Address.isLoopback(host))
  })
})
