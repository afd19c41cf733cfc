/**
 * The statuses with which this library's client ends calls after malformed and unusual responses, which are written frame by frame:
 * missing, truncated or superfluous messages, wrong flags, invalid statuses, responses of plain HTTP, and unusual but valid ones
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
 */
import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from "node:http2"
import { gzipSync } from "node:zlib"

import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Stream } from "effect"

import * as NodeGrpcChannel from "../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../src/layers/grpc/GrpcClient.ts"
import type { GrpcError } from "../../src/layers/grpc/GrpcError.ts"
import type { StatusName } from "../../src/layers/grpc/Status.ts"
import * as Http2Backend from "../layers/grpc/Http2Backend.ts"
import * as Frames from "./Frames.ts"
import { TestService } from "./InteropService.ts"

type Answer = (stream: ServerHttp2Stream) => void

/** A server that gives every call the same response. */
class Peer extends Context.Service<
  Peer,
  { readonly target: string; readonly answerWith: (answer: Answer) => Effect.Effect<void> }
>()("onlinebooks/test/interop/Peer") {
  static readonly layer = Layer.effect(
    Peer,
    Effect.gen(function* () {
      let current: Answer = (stream) => stream.close()
      const port = yield* Http2Backend.serve((stream) => current(stream))
      return {
        target: `127.0.0.1:${port}`,
        answerWith: (answer) => Effect.sync(() => void (current = answer))
      }
    })
  )
}

/** Responds with messages, trailers and headers. */
const answer =
  (frames: ReadonlyArray<Buffer>, trailers: OutgoingHttpHeaders = { "grpc-status": "0" }, headers = {}): Answer =>
  (stream) =>
    Http2Backend.respond(stream, Buffer.concat(frames), trailers, headers)

/** Responds with headers only. */
const headersOnly =
  (headers: OutgoingHttpHeaders): Answer =>
  (stream) =>
    Http2Backend.respondStatus(stream, headers)

/** Responds with an HTML page. */
const page =
  (status: number, body = "<html>an answer of a proxy</html>"): Answer =>
  (stream) => {
    stream.respond({ ":status": status, "content-type": "text/html" })
    stream.end(body)
  }

const reset =
  (code: number): Answer =>
  (stream) =>
    stream.close(code)

/** A message with a payload of three bytes. */
const message = Buffer.from("0a0512030a0b0c", "hex")
const whole = Frames.frame(message)

/** The status of a call: "OK", or its name. */
type Outcome = "OK" | StatusName

interface Case {
  readonly name: string
  readonly answer: Answer
  readonly unary: Outcome
  /** The status of a server-streaming call. Like `unary` by default. */
  readonly stream?: Outcome
  /** The expected message of the status. Any by default. */
  readonly text?: string
  /** The known faults by kind of call, with which the case has to fail. */
  readonly fault?: { readonly unary?: string; readonly stream?: string }
}

const gzip = { "grpc-encoding": "gzip" }
/** grpc-js does not export its decoder of messages, and a second decoder would read all response bytes again. */
const unnoticed = "grpc-js does not detect it"

const cases: ReadonlyArray<Case> = [
  { name: "one message", answer: answer([whole]), unary: "OK" },
  { name: "no message", answer: answer([]), unary: "Unimplemented", stream: "OK" },
  {
    name: "no message in a Trailers-Only response",
    answer: headersOnly({ "grpc-status": "0" }),
    unary: "Unimplemented",
    stream: "OK"
  },
  { name: "a message and an error", answer: answer([whole], { "grpc-status": "10" }), unary: "Aborted" },
  {
    name: "two messages",
    answer: answer([whole, whole]),
    unary: "Unimplemented",
    stream: "OK"
  },
  {
    name: "two messages and an error",
    answer: answer([whole, whole], { "grpc-status": "10" }),
    unary: "Aborted"
  },
  {
    name: "one message and a part of another",
    answer: answer([whole, whole.subarray(0, -1)]),
    unary: "Internal",
    fault: { unary: unnoticed, stream: unnoticed }
  },
  {
    name: "one message and a part of a prefix",
    answer: answer([whole, Buffer.of(0, 0)]),
    unary: "Internal",
    fault: { unary: unnoticed, stream: unnoticed }
  },
  {
    name: "a malformed message",
    answer: answer([Frames.frame(Buffer.from("ffffff", "hex"))]),
    unary: "Internal"
  },
  { name: "a length above the limit", answer: answer([Buffer.of(0, 255, 255, 255, 255)]), unary: "ResourceExhausted" },
  { name: "gzip", answer: answer([Frames.frame(gzipSync(message), 1)], { "grpc-status": "0" }, gzip), unary: "OK" },
  {
    name: "invalid gzip",
    answer: answer([Frames.frame(message, 1)], { "grpc-status": "0" }, gzip),
    unary: "Internal"
  },
  {
    name: "a compressed flag that is neither 0 nor 1",
    answer: answer([Frames.frame(message, 2)], { "grpc-status": "0" }, gzip),
    unary: "Internal",
    fault: { unary: unnoticed, stream: unnoticed }
  },
  {
    name: "an unknown encoding and an uncompressed message",
    answer: answer([whole], { "grpc-status": "0" }, { "grpc-encoding": "snappy" }),
    unary: "OK"
  },
  { name: "no status", answer: answer([whole], { "x-trailer": "1" }), unary: "Unknown" },
  { name: "a status that is not a number", answer: answer([whole], { "grpc-status": "abc" }), unary: "Unknown" },
  { name: "a status that gRPC does not define", answer: answer([], { "grpc-status": "17" }), unary: "Unknown" },
  {
    name: "an empty status",
    answer: answer([whole], { "grpc-status": "" }),
    unary: "Unknown"
  },
  {
    name: "a status in hexadecimal",
    answer: answer([whole], { "grpc-status": "0x0" }),
    unary: "Unknown"
  },
  {
    name: "malformed details",
    answer: answer([], { "grpc-status": "5", "grpc-status-details-bin": "!" }),
    unary: "NotFound"
  },
  { name: "HTTP 401", answer: page(401), unary: "Unauthenticated" },
  { name: "HTTP 403", answer: page(403), unary: "PermissionDenied" },
  { name: "HTTP 404", answer: page(404), unary: "Unimplemented" },
  { name: "HTTP 429", answer: page(429), unary: "Unavailable" },
  { name: "HTTP 500", answer: page(500), unary: "Unknown" },
  { name: "HTTP 503", answer: page(503), unary: "Unavailable" },
  {
    name: "an HTML page with HTTP 200",
    answer: page(200),
    unary: "Unknown",
    text: 'Received HTTP status code 200 with content type "text/html"'
  },
  { name: "a short HTML page with HTTP 200", answer: page(200, "no"), unary: "Unknown" },
  {
    name: "the content type application/grpc+proto",
    answer: answer([whole], { "grpc-status": "0" }, { "content-type": "application/grpc+proto" }),
    unary: "OK"
  },
  {
    name: "an informational response before it",
    answer: (stream) => {
      stream.additionalHeaders({ ":status": 103 })
      answer([whole])(stream)
    },
    unary: "OK"
  },
  { name: "a reset with REFUSED_STREAM", answer: reset(constants.NGHTTP2_REFUSED_STREAM), unary: "Unavailable" },
  { name: "a reset with CANCEL", answer: reset(constants.NGHTTP2_CANCEL), unary: "Cancelled" },
  {
    name: "a reset with ENHANCE_YOUR_CALM",
    answer: reset(constants.NGHTTP2_ENHANCE_YOUR_CALM),
    unary: "ResourceExhausted"
  },
  { name: "a reset with INTERNAL_ERROR", answer: reset(constants.NGHTTP2_INTERNAL_ERROR), unary: "Internal" },
  {
    name: "110 additional headers",
    answer: answer([whole], { "grpc-status": "0" }, Frames.manyHeaders(110)),
    unary: "OK"
  },
  {
    name: "140 additional headers",
    answer: answer([whole], { "grpc-status": "0" }, Frames.manyHeaders(140)),
    unary: "ResourceExhausted"
  },
  {
    name: "a closed connection",
    answer: (stream) => stream.session?.destroy(),
    unary: "Unavailable"
  }
]

/** Makes a unary or a server-streaming call. */
const call = Effect.fnUntraced(
  function* (answer: Answer, kind: "unary" | "stream") {
    const { answerWith, target } = yield* Peer
    yield* answerWith(answer)
    const context = yield* Layer.build(NodeGrpcChannel.layer({ target }))
    const { StreamingOutputCall, UnaryCall } = yield* Effect.provideContext(GrpcClient.make(TestService), context)
    // no deadline: the timeout of the test detects a call that hangs
    const call: Effect.Effect<unknown, GrpcError> =
      kind === "unary" ? UnaryCall({}) : Stream.runDrain(StreamingOutputCall({}))
    return yield* Effect.match(call, {
      onSuccess: () => ({ tag: "OK", text: "" }),
      onFailure: ({ reason }) => ({ tag: reason._tag as string, text: reason.message })
    })
  },
  Effect.timeout("2 seconds"),
  Effect.scoped
)

layer(Peer.layer, { excludeTestServices: true })("a response with", (it) => {
  for (const { answer, fault, name, text, ...expected } of cases) {
    for (const kind of ["unary", "stream"] as const) {
      const run = () =>
        Effect.map(call(answer, kind), (outcome) => {
          assert.strictEqual(outcome.tag, expected[kind] ?? expected.unary)
          assert.isString(outcome.text)
          if (text !== undefined) assert.strictEqual(outcome.text, text)
        })
      const known = fault?.[kind]
      if (known === undefined) it.effect(`${name} (${kind})`, run)
      else it.effect.fails(`${name} (${kind}; known fault: ${known})`, run)
    }
  }
})
