import { assert, it } from "@effect/vitest"

import { uuidV5 } from "../../../src/layers/sql/uuidV5.ts"

it("uuidV5 is that of RFC 9562, appendix A.4", () => {
  const dns = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
  assert.strictEqual(uuidV5(dns, "www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2")
})
