/**
 * The limit on binary response headers, on HTTP/2 streams of gRPC and on others.
 */
import { type ClientHttp2Stream, connect, type OutgoingHttpHeaders } from "node:http2"

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

import * as ResponseHeaders from "../../../../src/layers/grpc/client/ResponseHeaders.ts"
import * as Http2Backend from "../Http2Backend.ts"

/** Makes a request to a server that responds with a header of many values. */
const request = Effect.fnUntraced(function* (headers: OutgoingHttpHeaders) {
  const port = yield* Http2Backend.serve((stream) => stream.respond({ "x-bin": ",".repeat(100) }, { endStream: true }))
  const session = yield* Effect.acquireRelease(
    Effect.sync(() => connect(`http://127.0.0.1:${port}`)),
    (session) => Effect.sync(() => session.destroy())
  )
  return session.request({ ":method": "POST", ...headers }).resume()
})

const ended = (stream: ClientHttp2Stream) =>
  Effect.callback<string>((resume) => {
    stream.on("error", ({ message }) => resume(Effect.succeed(message)))
    stream.on("close", () => resume(Effect.succeed("OK")))
    stream.end()
  })

describe("response headers with many values", () => {
  it("are removed if they are binary, and kept otherwise", () => {
    const many = ",".repeat(100)
    const headers = { "x-text": many, "x-bin": many, "y-bin": ",".repeat(63), "set-cookie": [many] }
    assert.isTrue(ResponseHeaders.removeExcess(headers))
    assert.hasAllKeys(headers, ["x-text", "y-bin", "set-cookie"])
    assert.isFalse(ResponseHeaders.removeExcess(headers))
  })

  it.live("reset streams of gRPC only", () =>
    Effect.gen(function* () {
      ResponseHeaders.install()
      const grpc = yield* request({ "content-type": "application/grpc" })
      assert.match(yield* ended(grpc), /NGHTTP2_ENHANCE_YOUR_CALM/)
      assert.strictEqual(yield* ended(yield* request({ "content-type": "application/json" })), "OK")
      assert.strictEqual(yield* ended(yield* request({})), "OK")
    })
  )

  it.live("and trailers are checked by one listener for any number of channels", () =>
    Effect.gen(function* () {
      for (let channel = 0; channel < 3; channel++) ResponseHeaders.install()
      const stream = yield* request({ "content-type": "application/grpc" })
      assert.strictEqual(stream.listenerCount("trailers"), 1)
      yield* ended(stream)
    })
  )
})
