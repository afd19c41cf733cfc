/**
 * The client of gRPC's interoperability tests with this library. Each case is a function that fails by an assertion.
 *
 * The cases are described in https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md. README.md lists them, and those
 * that are added here.
 */
import { assert } from "@effect/vitest"
import { Metadata } from "@grpc/grpc-js"
import { type Cause, Deferred, Effect, Exit, Fiber, Layer, Queue, type Scope, Stream } from "effect"

import type { ChannelOptions } from "../../src/layers/grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../src/layers/grpc/GrpcClient.ts"
import type { GrpcError } from "../../src/layers/grpc/GrpcError.ts"
import type { ClientInterceptor } from "../../src/layers/grpc/GrpcInterceptor.ts"
import * as MessageCompression from "../../src/layers/grpc/MessageCompression.ts"
import type { StatusName } from "../../src/layers/grpc/Status.ts"
import * as Tls from "../layers/tls/Tls.ts"
import {
  concurrency,
  initialKey,
  iterations,
  large,
  payloadOf,
  percentMessages,
  specialMessage,
  streamed,
  TestService,
  trailingKey,
  UnimplementedService
} from "./InteropService.ts"

/** The target of a client. Plaintext without `tls`. */
export type Connection = Pick<ChannelOptions, "target" | "tls">

/** A connection to a server, which trusts this authority. Plaintext without one. */
export const connectionTo = (target: string, ca: string | undefined) =>
  Effect.map(Tls.watch(undefined, ca), ({ watched }): Connection => ({
    target,
    tls: ca === undefined ? undefined : { certificates: watched, serverName: "localhost" }
  }))

/** Connects, and records the status of each call, such as "FullDuplexCall Cancelled". */
const connect = Effect.fnUntraced(function* (options: Connection & Pick<ChannelOptions, "compression">) {
  const ends: Array<string> = []
  const noteEnds: ClientInterceptor = {
    onEnd: ({ method }, _exit, status) => void ends.push(`${method} ${status?._tag ?? "OK"}`)
  }
  const channel = yield* Layer.build(
    NodeGrpcChannel.layer({
      ...options,
      observeCompression: true,
      interceptors: [noteEnds],
      // larger responses and more concurrent calls than the defaults allow
      policy: { maxResponseSize: 1024 * 1024, maxCalls: 2_000 }
    })
  )
  return yield* Effect.gen(function* () {
    return {
      test: yield* GrpcClient.make(TestService),
      unimplemented: yield* GrpcClient.make(UnimplementedService),
      ends
    }
  }).pipe(Effect.provideContext(channel))
})

const compressing = (connection: Connection) => connect({ ...connection, compression: "gzip" })

type Client = Effect.Success<ReturnType<typeof connect>>

type TestClient = Client["test"]

const largeRequest = { responseSize: large.response, payload: payloadOf(large.request) }

const largeUnary = ({ UnaryCall }: TestClient, options?: GrpcClient.CallOptions) =>
  Effect.map(UnaryCall(largeRequest, options), ({ payload }) => assertSize(payload, large.response))

const assertSize = (payload: { readonly body: Uint8Array } | null, size: number) => {
  assert.strictEqual(payload?.body.length, size)
  // a callback for each byte would take most of the time of concurrent_large_unary
  assert.isTrue(payload !== null && Buffer.alloc(size).equals(payload.body))
}

const assertSizes = (
  responses: ReadonlyArray<{ readonly payload: { readonly body: Uint8Array } | null }>,
  sizes: ReadonlyArray<number>
) => {
  assert.strictEqual(responses.length, sizes.length)
  for (const [index, size] of sizes.entries()) assertSize(responses[index]!.payload, size)
}

/** Asserts that a call fails with a status. Succeeds with its message. */
const assertFails = <A, R>(call: Effect.Effect<A, GrpcError, R>, expected: StatusName) =>
  Effect.map(Effect.flip(call), ({ reason }) => {
    assert.strictEqual(reason._tag, expected, reason.message)
    return reason.message
  })

const clientStreaming = ({ test }: Client) =>
  Effect.gen(function* () {
    const requests = Stream.map(Stream.fromIterable(streamed.requests), (size) => ({ payload: payloadOf(size) }))
    assert.deepStrictEqual(yield* test.StreamingInputCall(requests), { aggregatedPayloadSize: 74_922 })
  })

const responsesOf = (...sizes: ReadonlyArray<number>) => ({ responseParameters: sizes.map((size) => ({ size })) })

/** Makes a unary and a bidirectional call with metadata that is echoed as headers and as trailers. */
const assertEchoed = Effect.fnUntraced(function* (
  { test }: Client,
  initial: ReadonlyArray<string>,
  trailing: ReadonlyArray<Buffer>
) {
  const metadata = new Metadata()
  for (const value of initial) metadata.add(initialKey, value)
  for (const value of trailing) metadata.add(trailingKey, value)
  const request = { ...responsesOf(large.response), payload: payloadOf(large.request) }
  for (const call of [
    Effect.asVoid(test.UnaryCall(largeRequest, { metadata })),
    Stream.runDrain(test.FullDuplexCall(Stream.make(request), { metadata }))
  ]) {
    const [, { headers, trailers }] = yield* GrpcClient.withResponseMetadata(call)
    // HTTP/2 allows a header for each value, or one header with all values
    assert.deepStrictEqual(
      headers.get(initialKey).flatMap((value) => String(value).split(", ")),
      initial
    )
    assert.deepStrictEqual(trailers.get(trailingKey), [...trailing])
  }
})

/** Requests a status by a unary call and by a stream. */
const assertStatus = Effect.fnUntraced(function* ({ test }: Client, message: string) {
  const responseStatus = { code: 2, message }
  assert.strictEqual(yield* assertFails(test.UnaryCall({ responseStatus }), "Unknown"), message)
  const stream = Stream.runDrain(test.FullDuplexCall(Stream.make({ responseStatus })))
  assert.strictEqual(yield* assertFails(stream, "Unknown"), message)
})

/** Interrupts a call, and asserts that its status is CANCELLED. */
const assertCancels = <A, E>({ ends }: Client, method: string, fiber: Fiber.Fiber<A, E>) =>
  Effect.gen(function* () {
    yield* Fiber.interrupt(fiber)
    assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
    assert.strictEqual(ends.at(-1), `${method} Cancelled`)
  })

const sleeping = ({ test }: Client, timeout: "1 millis" | "50 millis") => {
  const requests = Stream.concat(Stream.make({ payload: payloadOf(27_182) }), Stream.never)
  return assertFails(Stream.runDrain(test.FullDuplexCall(requests, { timeout })), "DeadlineExceeded")
}

/** The cases by name. The test skips those that cannot run against a server. */
export const cases = {
  empty_unary: ({ test }) => Effect.map(test.EmptyCall({}), (response) => assert.deepStrictEqual(response, {})),
  large_unary: ({ test }) => largeUnary(test),
  client_compressed_unary: (plain, connection) =>
    Effect.gen(function* () {
      const other = yield* compressing(connection)
      const expecting = (value: boolean) => ({ ...largeRequest, expectCompressed: { value } })
      yield* assertFails(plain.test.UnaryCall(expecting(true)), "InvalidArgument")
      assertSize((yield* other.test.UnaryCall(expecting(true))).payload, large.response)
      assertSize((yield* plain.test.UnaryCall(expecting(false))).payload, large.response)
    }),
  large_unary_compressed: (_, connection) => Effect.flatMap(compressing(connection), ({ test }) => largeUnary(test)),
  server_compressed_unary: ({ test }) =>
    Effect.gen(function* () {
      for (const value of [true, false]) {
        const response = yield* test.UnaryCall({ ...largeRequest, responseCompressed: { value } })
        assertSize(response.payload, large.response)
        assert.strictEqual(MessageCompression.isCompressed(response), value)
      }
    }),
  client_streaming: clientStreaming,
  // compression is a setting of a channel, so a call cannot mix compressed and plain messages, and two calls are made
  client_compressed_streaming: (plain, connection) =>
    Effect.gen(function* () {
      const other = yield* compressing(connection)
      const requests = (value: boolean, size: number) =>
        Stream.make({ expectCompressed: { value }, payload: payloadOf(size) })
      yield* assertFails(plain.test.StreamingInputCall(requests(true, 27_182)), "InvalidArgument")
      const compressed = yield* other.test.StreamingInputCall(requests(true, 27_182))
      const uncompressed = yield* plain.test.StreamingInputCall(requests(false, 45_904))
      assert.strictEqual(compressed.aggregatedPayloadSize + uncompressed.aggregatedPayloadSize, 73_086)
    }),
  client_streaming_compressed: (_, connection) => Effect.flatMap(compressing(connection), clientStreaming),
  server_streaming: ({ test }) =>
    Effect.map(Stream.runCollect(test.StreamingOutputCall(responsesOf(...streamed.responses))), (responses) =>
      assertSizes(responses, streamed.responses)
    ),
  server_compressed_streaming: ({ test }) =>
    Effect.gen(function* () {
      const responses = yield* Stream.runCollect(
        test.StreamingOutputCall({
          responseParameters: [
            { size: 31_415, compressed: { value: true } },
            { size: 92_653, compressed: { value: false } }
          ]
        })
      )
      assertSizes(responses, [31_415, 92_653])
      assert.deepStrictEqual(responses.map(MessageCompression.isCompressed), [true, false])
    }),
  // sends each request after the response to the previous one
  ping_pong: ({ test }) =>
    Effect.gen(function* () {
      const pings = streamed.requests.map((size, index) => ({
        ...responsesOf(streamed.responses[index]!),
        payload: payloadOf(size)
      }))
      const requests = yield* Queue.unbounded<(typeof pings)[number], Cause.Done>()
      const sendNext = Effect.suspend(() => {
        const ping = pings.shift()
        return ping === undefined ? Queue.end(requests) : Queue.offer(requests, ping)
      })
      yield* sendNext
      const responses = yield* test.FullDuplexCall(Stream.fromQueue(requests)).pipe(
        Stream.tap(() => sendNext),
        Stream.runCollect
      )
      assertSizes(responses, streamed.responses)
    }),
  half_duplex: ({ test }) =>
    Effect.gen(function* () {
      const requests = Stream.fromIterable(streamed.responses.map((size) => responsesOf(size)))
      assertSizes(yield* Stream.runCollect(test.HalfDuplexCall(requests)), streamed.responses)
    }),
  empty_stream: ({ test }) =>
    Effect.map(Stream.runCollect(test.FullDuplexCall(Stream.empty)), (responses) =>
      assert.deepStrictEqual(responses, [])
    ),
  custom_metadata: (client) => assertEchoed(client, ["test_initial_metadata_value"], [Buffer.from("ababab", "hex")]),
  // binary values with each length of base64 padding, an empty one, and several values of one key
  binary_metadata: (client) =>
    assertEchoed(
      client,
      ["one", "two"],
      ["000102", "00010203", "0001020304", "ff"].map((hex) => Buffer.from(hex, "hex"))
    ),
  status_code_and_message: (client) => assertStatus(client, "test status message"),
  special_status_message: (client) => assertStatus(client, specialMessage),
  percent_status_messages: (client) =>
    Effect.forEach(percentMessages, (message) => assertStatus(client, message), { discard: true }),
  unimplemented_method: ({ test }) => assertFails(test.UnimplementedCall({}), "Unimplemented"),
  unimplemented_service: ({ unimplemented }) => assertFails(unimplemented.UnimplementedCall({}), "Unimplemented"),
  cancel_after_begin: (client) =>
    Effect.gen(function* () {
      const call = client.test.StreamingInputCall(Stream.never)
      yield* assertCancels(client, "StreamingInputCall", yield* Effect.forkChild(call, { startImmediately: true }))
    }),
  cancel_after_first_message: (client) =>
    Effect.gen(function* () {
      const sent = yield* Deferred.make<void>()
      const requests = Stream.make({ payload: payloadOf(8) }).pipe(
        Stream.concat(Stream.fromEffectDrain(Deferred.succeed(sent, undefined))),
        Stream.concat(Stream.never)
      )
      const fiber = yield* Effect.forkChild(client.test.StreamingInputCall(requests))
      yield* Deferred.await(sent)
      yield* assertCancels(client, "StreamingInputCall", fiber)
    }),
  cancel_after_first_response: ({ ends, test }) =>
    Effect.gen(function* () {
      const request = { ...responsesOf(31_415), payload: payloadOf(27_182) }
      const responses = test.FullDuplexCall(Stream.concat(Stream.make(request), Stream.never))
      // a consumer that stops reading cancels the call
      assertSizes(yield* Stream.runCollect(Stream.take(responses, 1)), [31_415])
      assert.strictEqual(ends.at(-1), "FullDuplexCall Cancelled")
    }),
  timeout_on_sleeping_server: (client) => sleeping(client, "1 millis"),
  timeout_before_expiry: ({ test }) => largeUnary(test, { timeout: "10 seconds" }),
  // many concurrent calls that all exceed their deadlines
  many_timeouts: (client) =>
    Effect.forEach(Array.from({ length: 1_000 }), () => sleeping(client, "50 millis"), {
      concurrency: "unbounded",
      discard: true
    }),
  // the longest timeout that gRPC can express, and some that do not fit into 31 bits of milliseconds
  long_timeouts: ({ test }) =>
    Effect.gen(function* () {
      for (const timeout of ["25 days", "40 days", "50 days", "90 days", "11000 years"] as const) {
        const millis = timeout === "11000 years" ? 99_999_999 * 3_600_000 : timeout
        yield* largeUnary(test, { timeout: millis })
      }
    }),
  concurrent_large_unary: ({ test }) =>
    Effect.forEach(Array.from({ length: concurrency }), () => largeUnary(test), {
      concurrency: "unbounded",
      discard: true
    }),
  rpc_soak: ({ test }) =>
    Effect.forEach(Array.from({ length: iterations.rpcSoak }), () => largeUnary(test), { discard: true }),
  channel_soak: (_, connection) =>
    Effect.forEach(
      Array.from({ length: iterations.channelSoak }),
      () => Effect.scoped(Effect.flatMap(connect(connection), ({ test }) => largeUnary(test))),
      { discard: true }
    )
} satisfies {
  readonly [name: string]: (client: Client, connection: Connection) => Effect.Effect<unknown, unknown, Scope.Scope>
}

export type CaseName = keyof typeof cases

/** Runs a case on a channel of its own. */
export const run = (name: CaseName, connection: Connection) =>
  Effect.scoped(Effect.flatMap(connect(connection), (client) => cases[name](client, connection)))
