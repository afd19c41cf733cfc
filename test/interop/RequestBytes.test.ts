/**
 * The responses of this library's server to malformed and unusual requests, which are written frame by frame: truncated messages, wrong
 * flags, and headers that the protocol forbids or rarely uses
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, https://github.com/grpc/grpc/blob/master/doc/compression.md).
 */
import { type ClientHttp2Session, connect, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http2"
import { deflateSync, gzipSync } from "node:zlib"

import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"

import * as Address from "../../src/layers/config/Address.ts"
import * as GrpcServer from "../../src/layers/grpc/GrpcServer.ts"
import { codes } from "../../src/layers/grpc/Status.ts"
import * as Frames from "./Frames.ts"
import * as InteropServer from "./InteropServer.ts"
import { initialKey, TestService, trailingKey } from "./InteropService.ts"

/** A connection to the server. */
class Session extends Context.Service<Session, ClientHttp2Session>()("onlinebooks/test/interop/Session") {
  static readonly layer = Layer.effect(
    Session,
    Effect.gen(function* () {
      const { address } = yield* GrpcServer.GrpcServer
      const target = Address.format(yield* address)
      return yield* Effect.acquireRelease(
        Effect.sync(() => connect(`http://${target}`)),
        (session) => Effect.sync(() => session.destroy())
      )
    })
  ).pipe(Layer.provideMerge(InteropServer.layer()))
}

interface Answer {
  readonly httpStatus: number
  /** The gRPC status. Undefined without one. */
  readonly code: number | undefined
  readonly headers: IncomingHttpHeaders
  readonly trailers: IncomingHttpHeaders
}

/** Sends a request to a method of the service, and waits for the end of the response. */
const send = (method: string, headers: OutgoingHttpHeaders, frames: ReadonlyArray<Buffer>) =>
  Effect.flatMap(Session, (session) =>
    Effect.callback<Answer>((resume) => {
      const stream = session.request(
        {
          ":method": "POST",
          ":path": `/${TestService.name}/${method}`,
          "content-type": "application/grpc",
          te: "trailers",
          ...headers
        },
        { endStream: false }
      )
      let received: IncomingHttpHeaders = {}
      let trailers: IncomingHttpHeaders = {}
      stream.on("response", (headers) => {
        received = headers
      })
      stream.on("trailers", (headers) => {
        trailers = headers
      })
      stream.on("error", () => {})
      stream.on("close", () => {
        const code = trailers["grpc-status"] ?? received["grpc-status"]
        resume(
          Effect.succeed({
            httpStatus: Number(received[":status"]),
            code: code === undefined ? undefined : Number(code),
            headers: received,
            trailers
          })
        )
      })
      stream.resume()
      for (const frame of frames) stream.write(frame)
      stream.end()
      return Effect.sync(() => stream.destroy())
    })
  ).pipe(Effect.timeout("5 seconds"))

/** A SimpleRequest that asks for three bytes. */
const simple = Buffer.from("1003", "hex")
/** A StreamingInputCallRequest with a payload of two bytes. */
const input = Buffer.from("0a0412020000", "hex")

const gzip = { "grpc-encoding": "gzip" }

interface Case {
  readonly name: string
  readonly method?: "UnaryCall" | "StreamingInputCall" | "StreamingOutputCall" | "FullDuplexCall"
  readonly headers?: OutgoingHttpHeaders
  readonly frames?: ReadonlyArray<Buffer>
  readonly code: number
}

const whole = Frames.frame(simple)
const empty = Frames.frame(Buffer.of())
const tooLong = Buffer.of(0, 255, 255, 255, 255)
/** A truncated message. */
const cut = Frames.frame(input).subarray(0, -1)

const cases: ReadonlyArray<Case> = [
  { name: "a valid message", code: 0 },
  ...(["UnaryCall", "StreamingOutputCall"] as const).flatMap((method): ReadonlyArray<Case> => [
    { name: `no message to ${method}`, method, frames: [], code: codes.Unimplemented },
    { name: `two messages to ${method}`, method, frames: [empty, empty], code: codes.Unimplemented }
  ]),
  { name: "a malformed message", frames: [Frames.frame(Buffer.from("ffffff", "hex"))], code: codes.Internal },
  { name: "a length above the limit", frames: [tooLong], code: codes.ResourceExhausted },
  {
    name: "a message and a length above the limit in a stream",
    method: "FullDuplexCall",
    frames: [empty, tooLong],
    code: codes.ResourceExhausted
  },
  {
    name: "a compressed message and a length above the limit",
    headers: gzip,
    frames: [Frames.frame(gzipSync(simple), 1), tooLong],
    code: codes.ResourceExhausted
  },
  { name: "half a prefix", frames: [Buffer.of(0, 0)], code: codes.Internal },
  {
    name: "a client stream that ends within a message",
    method: "StreamingInputCall",
    frames: [Frames.frame(input), cut],
    code: codes.Internal
  },
  {
    name: "a client stream that ends within a prefix",
    method: "StreamingInputCall",
    frames: [Frames.frame(input), Buffer.of(0, 0)],
    code: codes.Internal
  },
  {
    name: "a bidirectional stream that ends within a prefix",
    method: "FullDuplexCall",
    frames: [Buffer.of(0, 0)],
    code: codes.Internal
  },
  {
    name: "one message and a part of another",
    method: "StreamingOutputCall",
    frames: [empty, Buffer.of(0, 0)],
    code: codes.Internal
  },
  { name: "gzip", headers: gzip, frames: [Frames.frame(gzipSync(simple), 1)], code: 0 },
  {
    name: "deflate",
    headers: { "grpc-encoding": "deflate" },
    frames: [Frames.frame(deflateSync(simple), 1)],
    code: 0
  },
  { name: "an encoding and an uncompressed message", headers: gzip, frames: [whole], code: 0 },
  {
    name: "truncated gzip",
    headers: gzip,
    frames: [Frames.frame(gzipSync(simple).subarray(0, -4), 1)],
    code: codes.Internal
  },
  {
    name: "a message that does not decompress",
    headers: gzip,
    frames: [Frames.frame(Buffer.of(1, 2), 1)],
    code: codes.Internal
  },
  {
    name: "a message that decompresses to more than the limit",
    headers: gzip,
    frames: [Frames.frame(gzipSync(Buffer.alloc(2 * 1024 * 1024)), 1)],
    code: codes.ResourceExhausted
  },
  {
    name: "an empty message with the compressed flag",
    headers: gzip,
    frames: [Frames.frame(Buffer.of(), 1)],
    code: codes.Internal
  },
  {
    name: "an unknown encoding",
    headers: { "grpc-encoding": "snappy" },
    frames: [Frames.frame(simple, 1)],
    code: codes.Unimplemented
  },
  {
    name: "an unknown encoding and an uncompressed message",
    headers: { "grpc-encoding": "snappy" },
    frames: [whole],
    code: 0
  },
  {
    name: "a compressed flag without an encoding",
    frames: [Frames.frame(simple, 1)],
    code: codes.Internal
  },
  {
    name: "a compressed flag that is neither 0 nor 1",
    headers: gzip,
    frames: [Frames.frame(simple, 2)],
    code: codes.Internal
  },
  { name: "a timeout with an unknown unit", headers: { "grpc-timeout": "5x" }, code: codes.Internal },
  { name: "content type application/grpc+proto", headers: { "content-type": "application/grpc+proto" }, code: 0 },
  { name: "content type with a parameter", headers: { "content-type": "application/grpc;charset=utf-8" }, code: 0 },
  { name: "110 additional headers", headers: Frames.manyHeaders(110), code: 0 },
  // clients must send te; the response without it is not specified
  { name: "no te header", headers: { te: undefined }, code: 0 },
  { name: "a wrong scheme", headers: { ":scheme": "ftp" }, code: 0 },
  { name: "a path with one segment", headers: { ":path": "/UnaryCall" }, code: codes.Unimplemented },
  { name: "an empty path", headers: { ":path": "/" }, code: codes.Unimplemented },
  {
    name: "a path with three segments",
    headers: { ":path": `/${TestService.name}/UnaryCall/more` },
    code: codes.Unimplemented
  },
  { name: "a path with a query", headers: { ":path": `/${TestService.name}/UnaryCall?a` }, code: codes.Unimplemented }
]

layer(Session.layer, { excludeTestServices: true })("a request with", (it) => {
  for (const { code: expected, frames = [whole], headers = {}, method = "UnaryCall", name } of cases) {
    it.effect(name, () =>
      Effect.gen(function* () {
        assert.strictEqual((yield* send(method, headers, frames)).code, expected)
        // in one chunk, the server reads all prefixes before grpc-js reads the first message
        assert.strictEqual((yield* send(method, headers, [Buffer.concat(frames)])).code, expected)
        // the connection still serves calls, and none is left
        assert.strictEqual((yield* send("UnaryCall", {}, [whole])).code, 0)
        const { load } = yield* GrpcServer.GrpcServer
        assert.deepInclude(yield* load, { answering: 0, waiting: 0 })
      })
    )
  }

  const others = ["text/html", "application/json", "application/grpc-web", "application/grpcfoo", undefined]
  it.effect.each(others)("content type %s gets HTTP 415", (contentType) =>
    Effect.map(send("UnaryCall", { "content-type": contentType }, [whole]), ({ httpStatus }) =>
      assert.strictEqual(httpStatus, 415)
    )
  )

  it.effect.each(["PUT", "GET", "HEAD", "DELETE", "OPTIONS", "post"])("the method %s gets HTTP 405", (method) =>
    Effect.gen(function* () {
      const { code, headers, httpStatus } = yield* send("UnaryCall", { ":method": method }, [whole])
      assert.deepStrictEqual([httpStatus, headers.allow, code], [405, "POST", undefined])
      // the connection stays usable
      assert.strictEqual((yield* send("UnaryCall", {}, [whole])).code, 0)
    })
  )

  it.effect("140 additional headers gets RESOURCE_EXHAUSTED, and the connection stays usable", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* send("UnaryCall", Frames.manyHeaders(140), [whole])).code, 8)
      assert.strictEqual((yield* send("UnaryCall", {}, [whole])).code, 0)
    })
  )

  it.effect.each([
    { sent: "AAECAw==", echoed: ["AAECAw=="] },
    { sent: "AAECAw", echoed: ["AAECAw=="] },
    { sent: "AAECAw,AAEC", echoed: ["AAECAw==", "AAEC"] },
    { sent: "AAECAw==, AAEC", echoed: ["AAECAw==", "AAEC"] },
    { sent: "", echoed: [""] }
  ])("binary metadata $sent is received as $echoed", ({ echoed, sent }) =>
    Effect.gen(function* () {
      const { code, trailers } = yield* send("UnaryCall", { [trailingKey]: sent }, [whole])
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(String(trailers[trailingKey]).split(", "), echoed)
    })
  )

  // Node and grpc-js join several values and drop non-ASCII ones; neither fails the call
  it.effect.each([
    { sent: "", echoed: "" },
    { sent: ["a, b", "c"], echoed: "a, b, c" },
    { sent: "é", echoed: undefined }
  ])("text metadata $sent is received as $echoed", ({ echoed, sent }) =>
    Effect.gen(function* () {
      const { code, headers } = yield* send("UnaryCall", { [initialKey]: sent }, [whole])
      assert.strictEqual(code, 0)
      assert.strictEqual(headers[initialKey], echoed)
    })
  )
})
