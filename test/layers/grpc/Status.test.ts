import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"

import { BadRequest } from "../../../src/layers/grpc/ErrorDetail.ts"
import * as Status from "../../../src/layers/grpc/Status.ts"
import * as StatusCodec from "../../../src/layers/grpc/StatusCodec.ts"

const violations = (count: number, description = "expected 1 or above") =>
  Array.from({ length: count }, (_, index) => ({ field: `feedback[${index}].rating`, description }))

/** The size of the message as grpc-js sends it and of the trailers, in bytes. */
const encodedSize = (status: Status.Status): number => {
  const { details, metadata } = StatusCodec.encode(status)
  return Object.entries(metadata.toHttp2Headers())
    .flatMap(([name, values]) => [values].flat().map((value) => name.length + String(value).length))
    .reduce((sum, length) => sum + length, "grpc-message".length + encodeURI(details).length)
}

describe("invalidArgument", () => {
  it("names each field in the message and in a BadRequest", () => {
    const status = Status.invalidArgument(violations(2))
    assert.strictEqual(
      status.message,
      "feedback[0].rating: expected 1 or above; feedback[1].rating: expected 1 or above"
    )
    assert.deepStrictEqual(status.details, [BadRequest({ fieldViolations: violations(2) })])
  })

  it("names 20 fields and counts the others", () => {
    const status = Status.invalidArgument(violations(1000))
    assert.match(status.message, /^feedback\[0\].*; feedback\[19\].rating: expected 1 or above; and 980 more$/)
    assert.deepStrictEqual(status.details, [BadRequest({ fieldViolations: violations(20) })])
    assert.notInclude(Status.invalidArgument(violations(20)).message, "more")
  })

  it.effect.prop(
    "names at least one field, and is encoded in less than 8 KiB",
    [
      Arbitrary.all({
        count: Arbitrary.schema(Schema.Literals([1, 2, 7, 20, 1000])),
        character: Arbitrary.schema(Schema.Literals(["a", "%", "é", "本", "😀", "\ud83d"])),
        length: Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2000 })))
      })
    ],
    ([{ character, count, length }]) =>
      Effect.sync(() => {
        const text = character.repeat(length)
        const status = Status.invalidArgument(
          violations(count, text).map(({ description, field }) => ({ field: field + text, description }))
        )
        assert.isBelow(encodedSize(status), 8192 - 100)
        assert.match(status.message, /^feedback\[0\]/)
      })
  )
})
