import { assert, it } from "@effect/vitest"
import { Schema } from "effect"

import { RequestFraming } from "../../../../src/layers/grpc/server/ServerCall.ts"
import * as Http2Frames from "../../../integration/Http2Frames.ts"

const read = (pieces: ReadonlyArray<Uint8Array>) => {
  const framing = new RequestFraming()
  const prefixes: Array<{ readonly length: number; readonly flag: number }> = []
  const onMessagePrefix = (length: number, flag: number) => void prefixes.push({ length, flag })
  for (const piece of pieces) framing.read(piece, { onMessagePrefix })
  return { prefixes, messages: framing.messages, isWithinMessage: framing.isWithinMessage }
}

it.prop(
  "finds the messages of a request, however its bytes are split",
  {
    messages: Schema.Array(
      Schema.Struct({
        length: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 300 })),
        flag: Schema.Literals([0, 1])
      })
    ),
    size: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 64 }))
  },
  ({ messages, size }) => {
    const bytes = Buffer.concat(
      messages.map(({ flag, length }) => Http2Frames.message(Buffer.alloc(length, 1), { flag }))
    )
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, piece) =>
      bytes.subarray(piece * size, (piece + 1) * size)
    )
    assert.deepStrictEqual(read(pieces), { prefixes: [...messages], messages: messages.length, isWithinMessage: false })
  }
)

it("reports a message once its prefix is complete, up to 4 GiB - 1", () => {
  const part = Buffer.of(0, 0xff, 0xff, 0xff)
  assert.deepStrictEqual(read([part]), { prefixes: [], messages: 0, isWithinMessage: true })
  assert.deepStrictEqual(read([part, Buffer.of(0xff)]), {
    prefixes: [{ length: 2 ** 32 - 1, flag: 0 }],
    messages: 1,
    isWithinMessage: true
  })
})
