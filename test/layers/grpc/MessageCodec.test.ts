import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

import * as MessageCodec from "../../../src/layers/grpc/MessageCodec.ts"

/** Fields of each wire type of proto3. */
const text = (size: number) => Buffer.concat([Buffer.from([0x0a, size]), Buffer.alloc(size, 0x61)])
const number = Buffer.from([0x10, 0xff, 0x01])
const fixed32 = Buffer.from([0x1d, 1, 2, 3, 4])
const fixed64 = Buffer.from([0x21, 1, 2, 3, 4, 5, 6, 7, 8])
const all = [text(3), number, fixed32, fixed64, text(0), text(100)]

const cut = (fields: ReadonlyArray<Buffer>, maxFields: number, maxFieldSize: number) =>
  MessageCodec.limit(Buffer.concat(fields), { maxFields, maxFieldSize })

describe("MessageCodec.limit", () => {
  it("returns the same bytes if they are within the limit", () => {
    const bytes = Buffer.concat(all)
    assert.strictEqual(MessageCodec.limit(bytes, { maxFields: 6, maxFieldSize: 102 }), bytes)
  })

  it("drops the fields after the limit", () => {
    for (let count = 0; count <= all.length; count++) {
      assert.deepStrictEqual(cut(all, count, 200), Buffer.concat(all.slice(0, count)))
    }
  })

  it("drops a field above maxFieldSize, and counts it towards maxFields", () => {
    assert.deepStrictEqual(cut(all, 6, 101), Buffer.concat(all.slice(0, 5)))
    assert.deepStrictEqual(cut([text(100), number, text(100), text(1)], 4, 50), Buffer.concat([number, text(1)]))
    assert.deepStrictEqual(cut([text(100), number, text(1)], 2, 50), number)
    assert.deepStrictEqual(cut([text(100)], 1, 50), Buffer.of())
  })

  it("replaces the rest of a malformed message, or of one with groups, by an invalid tag", () => {
    const broken = [
      [0x0a],
      [0x0a, 5, 1],
      [0x0b],
      [0x0b, 0x0c],
      [0x10],
      [0x10, 0x80],
      [0x1d, 1],
      [0x21, 1],
      [0x0a, 0xff]
    ]
    for (const bytes of broken) {
      const expected = Buffer.concat([number, Buffer.from([0x07])])
      assert.deepStrictEqual(cut([number, Buffer.from(bytes)], 9, 9), expected)
      assert.deepStrictEqual(cut([text(100), number, Buffer.from(bytes)], 9, 9), expected)
    }
    const group = Buffer.from([0x0b, 0x0c])
    assert.deepStrictEqual(cut([group, ...Array.from({ length: 99 }, () => text(0))], 9, 9), Buffer.from([0x07]))
  })

  it.effect.prop(
    "never returns more bytes than it was given, and never throws",
    [Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 })))],
    ([bytes]) => {
      const limited = MessageCodec.limit(Buffer.from(bytes), { maxFields: 3, maxFieldSize: 8 })
      return Effect.sync(() => assert.isAtMost(limited.length, bytes.length))
    }
  )
})
