/**
 * What this library's client makes of responses that no gRPC server should send, written frame by frame: messages that are missing, cut,
 * too many, or flagged wrongly, statuses that are none, answers of HTTP alone, and unusual ones that are right
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
 */
import {
  constants,
  createServer,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream
} from "node:http2"
import { gzipSync } from "node:zlib"

import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Stream } from "effect"

import * as NodeGrpcChannel from "../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../src/layers/grpc/GrpcClient.ts"
import type { GrpcError } from "../../src/layers/grpc/GrpcError.ts"
import type { StatusName } from "../../src/layers/grpc/Status.ts"
import * as Frames from "./Frames.ts"
import { TestService } from "./InteropService.ts"

type Answer = (stream: ServerHttp2Stream) => void

/** A server that answers every call in one way. */
class Peer extends Context.Service<
  Peer,
  { readonly target: string; readonly answerWith: (answer: Answer) => Effect.Effect<void> }
>()("onlinebooks/test/interop/Peer") {
  static readonly layer = Layer.effect(
    Peer,
    Effect.acquireRelease(
      Effect.callback<Peer["Service"] & { readonly close: () => void }>((resume) => {
        let current: Answer = (stream) => stream.close()
        const sessions = new Set<ServerHttp2Session>()
        const server = createServer()
        server.on("session", (session) => void sessions.add(session))
        server.on("stream", (stream: ServerHttp2Stream) => {
          stream.on("error", () => {})
          stream.resume()
          current(stream)
        })
        server.listen(0, "127.0.0.1", () => {
          const address = server.address()
          resume(
            Effect.succeed({
              target: `127.0.0.1:${address !== null && typeof address === "object" ? address.port : 0}`,
              answerWith: (answer) => Effect.sync(() => void (current = answer)),
              close: () => {
                for (const session of sessions) session.destroy()
                server.close()
              }
            })
          )
        })
      }),
      ({ close }) => Effect.sync(close)
    )
  )
}

const grpc = { ":status": 200, "content-type": "application/grpc" }

/** Headers, frames and trailers. */
const answer =
  (frames: ReadonlyArray<Buffer>, trailers: OutgoingHttpHeaders = { "grpc-status": "0" }, headers = {}): Answer =>
  (stream) => {
    stream.respond({ ...grpc, ...headers }, { waitForTrailers: true })
    stream.once("wantTrailers", () => stream.sendTrailers(trailers))
    for (const frame of frames) stream.write(frame)
    stream.end()
  }

/** Headers alone. */
const headersOnly =
  (headers: OutgoingHttpHeaders): Answer =>
  (stream) =>
    stream.respond({ ...grpc, ...headers }, { endStream: true })

/** HTTP without gRPC. */
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

/** How a call ended: "OK", or the name of the status and its message. */
type Outcome = "OK" | StatusName

interface Case {
  readonly name: string
  readonly answer: Answer
  readonly unary: Outcome
  /** Of a call that answers with a stream: as `unary` unless it is given. */
  readonly stream?: Outcome
  /** The text of the status, where it matters. */
  readonly text?: string
  /** What is still to be mended, and for which kind of call; until then the case has to fail. */
  readonly fault?: { readonly unary?: string; readonly stream?: string }
}

const gzip = { "grpc-encoding": "gzip" }
/** grpc-js keeps its decoder of frames to itself; a second one of ours would read all bytes of every response again. */
const unnoticed = "grpc-js does not notice"

const cases: ReadonlyArray<Case> = [
  { name: "one message", answer: answer([whole]), unary: "OK" },
  { name: "no message", answer: answer([]), unary: "Unimplemented", stream: "OK" },
  {
    name: "no message, and all in the headers",
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
    name: "bytes that are no message",
    answer: answer([Frames.frame(Buffer.from("ffffff", "hex"))]),
    unary: "Internal"
  },
  { name: "a length above the limit", answer: answer([Buffer.of(0, 255, 255, 255, 255)]), unary: "ResourceExhausted" },
  { name: "gzip", answer: answer([Frames.frame(gzipSync(message), 1)], { "grpc-status": "0" }, gzip), unary: "OK" },
  {
    name: "gzip that is none",
    answer: answer([Frames.frame(message, 1)], { "grpc-status": "0" }, gzip),
    unary: "Internal"
  },
  {
    name: "a compressed flag without an encoding",
    answer: answer([Frames.frame(message, 1)]),
    unary: "Internal"
  },
  {
    name: "a compressed flag that is neither 0 nor 1",
    answer: answer([Frames.frame(message, 2)], { "grpc-status": "0" }, gzip),
    unary: "Internal",
    fault: { unary: unnoticed, stream: unnoticed }
  },
  {
    name: "an unknown encoding",
    answer: answer([Frames.frame(message, 1)], { "grpc-status": "0" }, { "grpc-encoding": "snappy" }),
    unary: "Internal"
  },
  {
    name: "an unknown encoding, and a message that is not compressed",
    answer: answer([whole], { "grpc-status": "0" }, { "grpc-encoding": "snappy" }),
    unary: "OK"
  },
  { name: "no status", answer: answer([whole], { "x-trailer": "1" }), unary: "Unknown" },
  { name: "a status that is no number", answer: answer([whole], { "grpc-status": "abc" }), unary: "Unknown" },
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
    name: "a message of a status that encodes much",
    answer: headersOnly({ "grpc-status": "5", "grpc-message": "a%2Cb%3A%20%2Fc%20%E6%BA%90%25" }),
    unary: "NotFound",
    text: "a,b: /c 源%"
  },
  {
    name: "a message of a status that is not encoded well",
    answer: headersOnly({ "grpc-status": "5", "grpc-message": "100%ZZ" }),
    unary: "NotFound",
    text: "100%ZZ"
  },
  {
    name: "details that are none",
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
    name: "a page of HTTP 200",
    answer: page(200),
    unary: "Unknown",
    text: 'Received HTTP status code 200 with content type "text/html"'
  },
  { name: "a short page of HTTP 200", answer: page(200, "no"), unary: "Unknown" },
  {
    name: "a content type with a format",
    answer: answer([whole], { "grpc-status": "0" }, { "content-type": "application/grpc+proto" }),
    unary: "OK"
  },
  {
    name: "an informational answer before",
    answer: (stream) => {
      stream.additionalHeaders({ ":status": 103 })
      answer([whole])(stream)
    },
    unary: "OK"
  },
  { name: "a reset: refused", answer: reset(constants.NGHTTP2_REFUSED_STREAM), unary: "Unavailable" },
  { name: "a reset: cancelled", answer: reset(constants.NGHTTP2_CANCEL), unary: "Cancelled" },
  {
    name: "a reset: enhance your calm",
    answer: reset(constants.NGHTTP2_ENHANCE_YOUR_CALM),
    unary: "ResourceExhausted"
  },
  { name: "a reset: internal error", answer: reset(constants.NGHTTP2_INTERNAL_ERROR), unary: "Internal" },
  { name: "110 headers more", answer: answer([whole], { "grpc-status": "0" }, Frames.manyHeaders(110)), unary: "OK" },
  {
    name: "140 headers more",
    answer: answer([whole], { "grpc-status": "0" }, Frames.manyHeaders(140)),
    unary: "ResourceExhausted"
  },
  {
    name: "a connection that is closed",
    answer: (stream) => stream.session?.destroy(),
    unary: "Unavailable"
  }
]

/** Calls with a method that answers with one message, or with a stream of them. */
const call = Effect.fnUntraced(
  function* (answer: Answer, kind: "unary" | "stream") {
    const { answerWith, target } = yield* Peer
    yield* answerWith(answer)
    const context = yield* Layer.build(NodeGrpcChannel.layer({ target }))
    const { StreamingOutputCall, UnaryCall } = yield* Effect.provideContext(GrpcClient.make(TestService), context)
    // without a time-out: one that hangs is found by that of the test
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
