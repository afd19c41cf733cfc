/**
 * Streams that a server resets, for example when it closes the connection. Retries depend on the messages that grpc-js gives such calls, so
 * these tests fail if grpc-js changes a message.
 */
import { constants } from "node:http2"

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

import * as RetryPolicy from "../../../../src/layers/grpc/RetryPolicy.ts"
import * as Http2Backend from "../Http2Backend.ts"

/** A client of a backend that resets the first stream and responds to the others, and the number of streams so far. */
const make = Effect.fnUntraced(function* (code: number, retry: RetryPolicy.RetryPolicy) {
  let streams = 0
  const port = yield* Http2Backend.serve((stream) => {
    if (++streams === 1) stream.close(code)
    else Http2Backend.respond(stream, Http2Backend.response("answered"), { "grpc-status": "0" })
  })
  return { client: yield* Http2Backend.connect(port, { policy: { retry } }), streams: () => streams }
})

const options = { timeout: "20 seconds" } as const

describe("a call whose stream is reset", () => {
  it.live.each([
    ["NO_ERROR", constants.NGHTTP2_NO_ERROR, "Internal"],
    ["INTERNAL_ERROR", constants.NGHTTP2_INTERNAL_ERROR, "Internal"],
    ["CANCEL", constants.NGHTTP2_CANCEL, "Cancelled"],
    ["ENHANCE_YOUR_CALM", constants.NGHTTP2_ENHANCE_YOUR_CALM, "ResourceExhausted"]
  ] as const)("with %s is retried", ([_name, code, tag]) =>
    Effect.gen(function* () {
      const retrying = yield* make(code, RetryPolicy.defaults)
      assert.strictEqual((yield* retrying.client.Echo({}, options)).text, "answered")
      assert.strictEqual(retrying.streams(), 2)
      const once = yield* make(code, RetryPolicy.never)
      assert.strictEqual((yield* Effect.flip(once.client.Echo({}, options))).reason._tag, tag)
    })
  )

  it.live("with PROTOCOL_ERROR is not retried", () =>
    Effect.gen(function* () {
      const { client, streams } = yield* make(constants.NGHTTP2_PROTOCOL_ERROR, RetryPolicy.defaults)
      assert.strictEqual((yield* Effect.flip(client.Echo({}, options))).reason._tag, "Internal")
      assert.strictEqual(streams(), 1)
    })
  )
})
