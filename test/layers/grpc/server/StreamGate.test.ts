import { assert, describe, it } from "@effect/vitest"

import * as StreamGate from "../../../../src/layers/grpc/server/StreamGate.ts"

const corrected = (headers: Record<string, string>) => {
  StreamGate.correctHeaders(headers)
  return headers
}

const timeoutOf = (value: string) => corrected({ "grpc-timeout": value })["grpc-timeout"] ?? ""

describe("grpc-timeout", () => {
  it.each(["0n", "1n", "99999999u", "99999999n", "99999999m", "2147483S", "35791M", "596H"])("%s is kept", (value) =>
    assert.strictEqual(timeoutOf(value), value)
  )

  it.each(["2147484S", "35792M", "597H", "99999999H"])("%s is capped to the longest time of a timer", (value) =>
    assert.strictEqual(timeoutOf(value), "2147483S")
  )

  it.each(["", "5", "S", "-5S", "+5S", " 5S", "5 S", "5SS", "5s", "5h", "1.5S", "100000000S", "1S, 2S", "soon"])(
    "%j is malformed, and replaced by a value that grpc-js rejects",
    (value) => assert.notMatch(timeoutOf(value), /\d/)
  )
})

describe("content-type", () => {
  it.each(["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])("%s is kept", (value) =>
    assert.deepStrictEqual(corrected({ "content-type": value }), { "content-type": value })
  )

  it.each(["application/grpc-web", "application/grpc-web+proto", "application/json", ""])(
    "%j is not gRPC, and removed",
    (value) => assert.deepStrictEqual(corrected({ "content-type": value }), {})
  )
})

it("absent headers are not added", () => assert.deepStrictEqual(corrected({}), {}))
