/**
 * Requests of one message, however they come: in one piece, in several, or wrong.
 */
import { connect } from "node:http2"
import { gzipSync } from "node:zlib"

import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"

import * as Frame from "../../src/layers/Frame.ts"
import { EchoServer, EchoService } from "../../src/layers/testing/EchoServer.ts"

const text = "hello"
const message = Buffer.concat([Buffer.of(0x0a, text.length), Buffer.from(text)])
const frame = Frame.of(message)

interface Answer {
  readonly status: string
  readonly message: string
}

/** Makes a call by HTTP/2 alone, with a body in the pieces that are given. */
const send = (path: string, pieces: ReadonlyArray<Buffer>, headers: Record<string, string> = {}) =>
  Effect.flatMap(EchoServer, ({ target }) =>
    Effect.callback<Answer>((resume) => {
      const session = connect(`http://${target}`)
      const stream = session.request({
        ":method": "POST",
        ":path": `/${EchoService.name}/${path}`,
        "content-type": "application/grpc",
        te: "trailers",
        ...headers
      })
      const chunks: Array<Buffer> = []
      let status = ""
      const read = (all: { readonly [name: string]: unknown }) => {
        if (all["grpc-status"] !== undefined) status = String(all["grpc-status"])
      }
      stream.on("response", read)
      stream.on("trailers", read)
      stream.on("data", (chunk: Buffer) => chunks.push(chunk))
      stream.on("close", () => {
        session.close()
        resume(
          Effect.succeed({
            status,
            message: Buffer.concat(chunks)
              .subarray(Frame.prefixSize + 2)
              .toString()
          })
        )
      })
      // each is a frame of HTTP/2 of its own
      for (const piece of pieces) stream.write(piece)
      stream.end()
    })
  )

layer(EchoServer.layer({ limits: { maxRequestSize: 1_000 } }), { excludeTestServices: true })("a request", (it) => {
  it.effect.each([
    { what: "in one piece", pieces: [frame] },
    { what: "byte by byte", pieces: Array.from(frame, (byte) => Buffer.of(byte)) },
    { what: "with its prefix before it", pieces: [frame.subarray(0, 5), frame.subarray(5)] },
    { what: "with empty pieces around it", pieces: [Buffer.alloc(0), frame, Buffer.alloc(0)] },
    { what: "whose last byte comes by itself", pieces: [frame.subarray(0, -1), frame.subarray(-1)] }
  ])("is read $what", ({ pieces }) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* send("Echo", pieces), { status: "0", message: text })
    })
  )

  it.effect("is read that is compressed", () =>
    Effect.gen(function* () {
      const compressed = Frame.of(gzipSync(message))
      compressed[0] = 1
      assert.deepStrictEqual(yield* send("Echo", [compressed], { "grpc-encoding": "gzip" }), {
        status: "0",
        message: text
      })
    })
  )

  it.effect("is read that has no fields", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* send("Echo", [Frame.of(Buffer.alloc(0))]), { status: "0", message: "" })
    })
  )

  it.effect.each([
    { what: "two messages in one piece", status: "12", pieces: [Buffer.concat([frame, frame])] },
    { what: "two messages in two pieces", status: "12", pieces: [frame, frame] },
    { what: "half a message", status: "12", pieces: [frame.subarray(0, 7)] },
    { what: "no message", status: "12", pieces: [] },
    { what: "what protobuf does not know", status: "13", pieces: [Frame.of(Buffer.of(0xff, 0xff))] },
    { what: "more than is allowed", status: "8", pieces: [Frame.of(Buffer.alloc(1_001))] },
    { what: "what says that it is more than is allowed", status: "8", pieces: [Buffer.of(0, 0xff, 0xff, 0xff, 0xff)] }
  ])("is refused that has $what", ({ pieces, status }) =>
    Effect.gen(function* () {
      assert.strictEqual((yield* send("Echo", pieces)).status, status)
    })
  )

  it.effect("is read by a handler of a stream of answers, too", () =>
    Effect.gen(function* () {
      const numbers = Frame.of(Buffer.concat([message, Buffer.of(0x5a, 1, 7)]))
      for (const pieces of [[numbers], [numbers.subarray(0, 3), numbers.subarray(3)]]) {
        const { message, status } = yield* send("Expand", pieces)
        assert.deepStrictEqual([status, message.slice(0, text.length)], ["0", text])
      }
    })
  )
})
