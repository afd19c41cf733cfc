import { assert, it } from "@effect/vitest"
import { Schema } from "effect"

import { RequestFraming } from "../../../../src/layers/grpc/server/RequestFraming.ts"

const framed = (flag: number, message: Uint8Array) => {
  const prefix = Buffer.alloc(5)
  prefix[0] = flag
  prefix.writeUInt32BE(message.length, 1)
  return Buffer.concat([prefix, message])
}

const lengthsOf = (pieces: ReadonlyArray<Uint8Array>) => {
  const framing = new RequestFraming()
  const read: Array<readonly [number, boolean]> = []
  for (const piece of pieces) framing.read(piece, (length) => read.push([length, framing.isCompressed]))
  return { read, messages: framing.messages }
}

it.prop(
  "finds the messages of a request, however its bytes are cut",
  {
    messages: Schema.Array(
      Schema.Struct({
        length: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 300 })),
        isCompressed: Schema.Boolean
      })
    ),
    cut: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 64 }))
  },
  ({ cut, messages }) => {
    const bytes = Buffer.concat(
      messages.map(({ isCompressed, length }) => framed(Number(isCompressed), Buffer.alloc(length, 1)))
    )
    const pieces = Array.from({ length: Math.ceil(bytes.length / cut) }, (_, piece) =>
      bytes.subarray(piece * cut, (piece + 1) * cut)
    )
    assert.deepStrictEqual(lengthsOf(pieces), {
      read: messages.map(({ isCompressed, length }) => [length, isCompressed] as const),
      messages: messages.length
    })
  }
)

it("tells of a message when its prefix is complete, up to 4 GiB - 1", () => {
  assert.deepStrictEqual(lengthsOf([Buffer.of(0, 0xff, 0xff, 0xff)]).read, [])
  assert.deepStrictEqual(lengthsOf([Buffer.of(0, 0xff, 0xff, 0xff), Buffer.of(0xff)]).read, [[2 ** 32 - 1, false]])
})
