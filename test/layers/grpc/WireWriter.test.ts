import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"
import protobuf from "protobufjs"

import { WireWriter } from "../../../src/layers/grpc/WireWriter.ts"

const Int32 = Schema.Int.check(Schema.isBetween({ minimum: -(2 ** 31), maximum: 2 ** 31 - 1 }))

interface Message {
  readonly number: number
  readonly numbers: ReadonlyArray<number>
  readonly text: string
  readonly message?: Message
}

/** Messages whose lengths have one byte, two, and three, one in another. */
const arbitraryMessage = Arbitrary.map(
  Arbitrary.all({
    numbers: Arbitrary.schema(Schema.NonEmptyArray(Int32)),
    texts: Arbitrary.schema(Schema.Array(Schema.String)),
    times: Arbitrary.schema(Schema.Literals([1, 30, 300, 10_000]))
  }),
  ({ numbers, texts, times }) =>
    texts.reduce<Message>(
      (message, text) => ({ number: numbers[0], numbers, text: text.toWellFormed().repeat(times), message }),
      { number: numbers[0], numbers: [], text: "" }
    )
)

const write = (writer: WireWriter, { message, number, numbers, text }: Message): void => {
  writer.int32(1, number)
  writer.int32s(2, numbers)
  writer.string(300, text)
  if (message === undefined) return
  const start = writer.begin(4)
  write(writer, message)
  writer.end(start)
}

const writeElsewhere = (writer: protobuf.Writer, { message, number, numbers, text }: Message): protobuf.Writer => {
  writer.uint32(1 << 3).int32(number)
  writer.uint32((2 << 3) | 2).fork()
  for (const value of numbers) writer.int32(value)
  writer.ldelim()
  writer.uint32((300 << 3) | 2).string(text)
  return message === undefined ? writer : writeElsewhere(writer.uint32((4 << 3) | 2).fork(), message).ldelim()
}

describe("WireWriter", () => {
  it.effect.prop("writes what protobufjs does", [Arbitrary.array(arbitraryMessage, { maxLength: 3 })], ([messages]) =>
    Effect.sync(() => {
      const writer = new WireWriter(1)
      for (const message of messages) {
        write(writer, message)
        const { length } = writer
        const bytes = writer.take()
        assert.strictEqual(bytes.length, length)
        assert.isTrue(bytes.equals(writeElsewhere(protobuf.Writer.create(), message).finish()))
      }
    })
  )
})
