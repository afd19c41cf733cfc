import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Schema, Stream } from "effect"

import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as EmbeddedProtos from "../../../../src/layers/grpc/EmbeddedProtos.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import * as MessageCodec from "../../../../src/layers/grpc/MessageCodec.ts"
import type { EchoRequest } from "../../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"
import type { EchoResponse__Output } from "../../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoResponse.ts"
import * as Echo from "../Echo.ts"

const { request: codec } = EmbeddedProtos.methods(Echo.EchoService)["Echo"]!

/** The violations of a request, as "field: description". */
const check = (request: unknown) =>
  MessageCodec.check(codec.type(), request).map(({ description, field }) => `${field}: ${description}`)

const int32 = "expected a whole number from -2147483648 to 2147483647"

describe("the validation of a request", () => {
  it.each([
    [{ int32Value: 2.5 }, `int32Value: ${int32}, got 2.5`],
    [{ int32Value: 3e9 }, `int32Value: ${int32}, got 3000000000`],
    [{ int32Value: "7" }, `int32Value: ${int32}, got "7"`],
    [{ int32Value: Number.NaN }, `int32Value: ${int32}, got NaN`],
    [{ uint32Value: -1 }, "uint32Value: expected a whole number from 0 to 4294967295, got -1"],
    [{ int64Value: 2 ** 53 }, "int64Value: expected a whole number of 64 bits, got 9007199254740992"],
    [
      { int64Value: "9223372036854775808" },
      'int64Value: expected a whole number of 64 bits, got "9223372036854775808"'
    ],
    [{ uint64Value: "-1" }, 'uint64Value: expected a whole number of 64 bits, 0 or above, got "-1"'],
    [{ doubleValue: "1.5" }, 'doubleValue: expected a number, got "1.5"'],
    [{ floatValue: 1e300 }, "floatValue: expected a number of single precision, got 1e+300"],
    [{ boolValue: 1 }, "boolValue: expected true or false, got 1"],
    [{ text: 7 }, "text: expected a string of whole characters, got 7"],
    [{ text: "\uD800" }, 'text: expected a string of whole characters, got "\\ud800"'],
    [{ bytesValue: [1] }, "bytesValue: expected bytes, or a string in base64, got an array"],
    [{ bytesValue: "not base64!" }, 'bytesValue: expected bytes, or a string in base64, got "not base64!"'],
    [{ color: "COLOR_BLUE" }, 'color: expected a value of Color, got "COLOR_BLUE"'],
    [{ color: 0.5 }, "color: expected a value of Color, got 0.5"],
    [{ color: "1" }, 'color: expected a value of Color, got "1"'],
    [{ color: "toString" }, 'color: expected a value of Color, got "toString"'],
    [{ constructor: 1 }, "constructor: EchoRequest has no such field"],
    [JSON.parse('{"__proto__": 1}'), "__proto__: EchoRequest has no such field"],
    [{ int64Value: [5] }, "int64Value: expected a whole number of 64 bits, got an array"],
    [{ bytesValue: "abcde" }, 'bytesValue: expected bytes, or a string in base64, got "abcde"'],
    [{ counts: new Map([["a", 1]]) }, "counts: expected a map, a plain object, got an object"],
    [{ item: new Date(0) }, "item: expected Item, a plain object, got an object"],
    // oxlint-disable-next-line no-sparse-arrays
    [{ numbers: [1, , 2] }, `numbers[1]: ${int32}, got undefined`],
    [{ numbers: 1 }, "numbers: expected an array, got 1"],
    [{ numbers: [1, 2.5] }, `numbers[1]: ${int32}, got 2.5`],
    [{ item: "x" }, 'item: expected Item, a plain object, got "x"'],
    [{ items: [{ name: "a" }, { count: "3" }] }, `items[1].count: ${int32}, got "3"`],
    [{ counts: { a: 1, b: 0.5 } }, `counts["b"]: ${int32}, got 0.5`],
    [{ left: "a", right: 1 }, "right: oneof choice is already set by left"],
    [{ txt: "a" }, "txt: EchoRequest has no such field"],
    [{ item: { nam: "a" } }, "item.nam: Item has no such field"],
    ["text", 'expected EchoRequest, a plain object, got "text"']
  ] as ReadonlyArray<readonly [unknown, string]>)("%j: %s", (request, violation) => {
    assert.deepStrictEqual(
      check(request).map((found) => found.replace(/^: /, "")),
      [violation]
    )
  })

  it("reports all invalid fields", () => {
    assert.strictEqual(check({ int32Value: 0.5, text: 1, boolValue: "yes" }).length, 3)
  })

  const Int64 = Schema.BigInt.check(Schema.isBetweenBigInt({ minimum: -(2n ** 63n), maximum: 2n ** 63n - 1n }))
  const Request = Schema.Struct({
    text: Schema.String.check(Schema.makeFilter((text) => text.isWellFormed())),
    int32Value: Schema.Int.check(Schema.isBetween({ minimum: -(2 ** 31), maximum: 2 ** 31 - 1 })),
    int64Value: Int64,
    doubleValue: Schema.Finite,
    boolValue: Schema.Boolean,
    numbers: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: -(2 ** 31), maximum: 2 ** 31 - 1 })))
  })

  it.prop("accepts requests that are unchanged by encoding and decoding", [Request], ([{ int64Value, ...rest }]) => {
    const request = { ...rest, int64Value: String(int64Value) }
    assert.deepStrictEqual(check(request), [])
    const received = codec.decode(codec.encode(request))
    for (const [key, value] of Object.entries(request)) assert.deepStrictEqual(Reflect.get(received, key), value)
  })
})

describe("GrpcClient", () => {
  it.live("fails with INVALID_ARGUMENT without a call if the request is invalid", () => {
    let calls = 0
    return Effect.gen(function* () {
      // a method that is never retried
      const { EchoOnce: call } = yield* Echo.client
      const error = yield* Effect.flip(call({ int32Value: 2.5, text: 1 } as unknown as EchoRequest))
      assert.strictEqual(error.method, "onlinebooks.layers.testing.EchoService/EchoOnce")
      assert.strictEqual(error.reason._tag, "InvalidArgument")
      assert.deepStrictEqual(
        error.reason.details.map(
          (detail) => detail._tag === "BadRequest" && detail.fieldViolations.map(({ field }) => field)
        ),
        [["int32Value", "text"]]
      )
      assert.strictEqual(calls, 0)
      yield* call({ int32Value: 2 })
      assert.strictEqual(calls, 1)
    }).pipe(
      Effect.provide(
        Echo.serve({
          EchoOnce: (request) => {
            calls++
            return Echo.echo(request)
          }
        })
      )
    )
  })

  it.live("fails with a retryable UNAVAILABLE without a server", () =>
    Effect.gen(function* () {
      const { Echo: call } = yield* GrpcClient.make(Echo.EchoService)
      const error = yield* Effect.flip(call({ text: "x" }, { timeout: "10 seconds" }))
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.isTrue(error.isRetryable)
      // nothing listens on port 1
    }).pipe(Effect.provide(NodeGrpcChannel.layer({ target: "127.0.0.1:1" })))
  )

  it.live("cancels the call when its consumer stops reading the stream, and serves the next call", () =>
    Effect.gen(function* () {
      const cancelled = yield* Deferred.make<void>()
      const responses = Stream.concat(
        Stream.make<Array<EchoResponse__Output>>({ text: "first", items: [] }),
        Stream.never
      ).pipe(Stream.onExit(() => Deferred.succeed(cancelled, undefined)))
      const {
        client: { Echo: call, Expand }
      } = yield* Echo.start({ Expand: () => responses })
      const [first] = yield* Stream.runCollect(Stream.take(Expand({}), 1))
      assert.strictEqual(first?.text, "first")
      yield* Deferred.await(cancelled)
      // an unhandled error event would have ended the process by now
      assert.strictEqual((yield* call({ text: "second" })).text, "second")
    })
  )
})
