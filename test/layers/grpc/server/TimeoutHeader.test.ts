import { assert, describe, it } from "@effect/vitest"

import * as TimeoutHeader from "../../../../src/layers/grpc/server/TimeoutHeader.ts"

const capped = (value: string) => {
  const headers = { "grpc-timeout": value }
  TimeoutHeader.cap(headers)
  return headers["grpc-timeout"]
}

const longest = "2147483S"

describe("a grpc-timeout", () => {
  it.each(["0n", "1n", "99999999u", "99999999n", "99999999m", "2147483S", "35791M", "596H"])(
    "%s is kept, as short as it is",
    (value) => assert.strictEqual(capped(value), value)
  )

  it.each(["2147484S", "35792M", "597H", "99999999H"])("%s is longer than timers wait, and capped", (value) =>
    assert.strictEqual(capped(value), longest)
  )

  it.each(["", "5", "S", "-5S", "+5S", " 5S", "5 S", "5SS", "5s", "5h", "1.5S", "100000000S", "1S, 2S", "soon"])(
    "%j is none, of which nothing is left that grpc-js takes for one",
    (value) => assert.notMatch(capped(value), /\d/)
  )

  it("is not there if it was not sent", () => {
    const headers = {}
    TimeoutHeader.cap(headers)
    assert.deepStrictEqual(headers, {})
  })
})
