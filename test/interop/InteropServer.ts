/**
 * The server of gRPC's interoperability tests with this library: a method of each kind, metadata both ways, statuses that the client
 * requests, and an unimplemented method.
 */
import { Metadata } from "@grpc/grpc-js"
import { Context, Effect, Layer, Schema, Stream } from "effect"

import type { Issued } from "../../scripts/certificates.ts"
import * as Address from "../../src/layers/config/Address.ts"
import { GrpcCall } from "../../src/layers/grpc/GrpcCall.ts"
import * as GrpcServer from "../../src/layers/grpc/GrpcServer.ts"
import * as MessageCompression from "../../src/layers/grpc/MessageCompression.ts"
import * as NodeGrpcServer from "../../src/layers/grpc/server/NodeGrpcServer.ts"
import * as Status from "../../src/layers/grpc/Status.ts"
import { Drain } from "../../src/layers/process/Drain.ts"
import type { EchoStatus__Output } from "../../src/layers/testing/generated/grpc/testing/EchoStatus.ts"
import type { ResponseParameters__Output } from "../../src/layers/testing/generated/grpc/testing/ResponseParameters.ts"
import type { SimpleRequest__Output } from "../../src/layers/testing/generated/grpc/testing/SimpleRequest.ts"
import type { StreamingInputCallRequest__Output } from "../../src/layers/testing/generated/grpc/testing/StreamingInputCallRequest.ts"
import type { StreamingOutputCallRequest__Output } from "../../src/layers/testing/generated/grpc/testing/StreamingOutputCallRequest.ts"
import * as Tls from "../layers/tls/Tls.ts"
import { initialKey, payloadOf, TestService, trailingKey } from "./InteropService.ts"

/** The status that the client has requested. */
class StatusRequested extends Schema.TaggedError<StatusRequested>()("StatusRequested", {
  code: Schema.Int,
  text: Schema.String
}) {}

/** A message was compressed although the client expected it not to be, or the reverse. */
class WrongCompression extends Schema.TaggedError<WrongCompression>()("WrongCompression", {
  expected: Schema.Boolean
}) {}

/** Echoes the metadata of the two keys of the tests. */
const echoMetadata = Effect.gen(function* () {
  const { addTrailers, metadata, sendMetadata } = yield* GrpcCall
  const headers = only(metadata, initialKey)
  if (headers !== undefined) yield* sendMetadata(headers)
  const trailers = only(metadata, trailingKey)
  if (trailers !== undefined) yield* addTrailers(trailers)
})

/** Metadata with all values of a key. Undefined if there are none. */
const only = (metadata: Metadata, key: string): Metadata | undefined => {
  const values = metadata.get(key)
  if (values.length === 0) return undefined
  const kept = new Metadata()
  for (const value of values) kept.add(key, value)
  return kept
}

const failIfRequested = (status: EchoStatus__Output | null) =>
  status === null || status.code === 0
    ? Effect.void
    : Effect.fail(new StatusRequested({ code: status.code, text: status.message }))

const checkCompression = (request: SimpleRequest__Output | StreamingInputCallRequest__Output) =>
  request.expectCompressed === null || request.expectCompressed.value === MessageCompression.isCompressed(request)
    ? Effect.void
    : Effect.fail(new WrongCompression({ expected: request.expectCompressed.value }))

const toResponse = ({ intervalUs, size }: ResponseParameters__Output) =>
  Effect.as(intervalUs > 0 ? Effect.sleep(intervalUs / 1000) : Effect.void, { payload: payloadOf(size) })

/** The responses to one request. */
const respond = ({ responseParameters, responseStatus }: StreamingOutputCallRequest__Output) =>
  Stream.concat(
    Stream.fromEffectDrain(failIfRequested(responseStatus)),
    // one message a chunk, since they may be large
    Stream.rechunk(Stream.mapEffect(Stream.fromIterable(responseParameters), toResponse), 1)
  )

const handlers = {
  EmptyCall: () => Effect.succeed({}),
  UnaryCall: (request: SimpleRequest__Output) =>
    Effect.gen(function* () {
      yield* echoMetadata
      yield* checkCompression(request)
      yield* failIfRequested(request.responseStatus)
      return { payload: payloadOf(request.responseSize) }
    }),
  StreamingInputCall: (requests: Stream.Stream<StreamingInputCallRequest__Output>) =>
    requests.pipe(
      Stream.tap(checkCompression),
      Stream.runFold(
        () => 0,
        (size, { payload }) => size + (payload?.body.length ?? 0)
      ),
      Effect.map((aggregatedPayloadSize) => ({ aggregatedPayloadSize }))
    ),
  StreamingOutputCall: (request: StreamingOutputCallRequest__Output) =>
    Stream.concat(Stream.fromEffectDrain(echoMetadata), respond(request)),
  FullDuplexCall: (requests: Stream.Stream<StreamingOutputCallRequest__Output>) =>
    Stream.concat(Stream.fromEffectDrain(echoMetadata), Stream.flatMap(requests, respond)),
  HalfDuplexCall: (requests: Stream.Stream<StreamingOutputCallRequest__Output>) =>
    Stream.unwrap(Effect.map(Stream.runCollect(requests), (all) => Stream.flatMap(Stream.fromIterable(all), respond))),
  UnimplementedCall: GrpcServer.unimplemented
}

/** Serves on a free port, with limits above a thousand concurrent calls. */
export const layer = (options: Pick<GrpcServer.Options, "tls"> = {}) =>
  GrpcServer.serve(TestService, Effect.succeed(handlers), {
    StatusRequested: ({ code, text }) => Status.fromCode(code, text),
    WrongCompression: ({ expected }) =>
      Status.invalidArgument([
        {
          field: "expect_compressed",
          description: `is ${expected}, but the message was ${expected ? "not " : ""}compressed`
        }
      ])
  }).pipe(
    NodeGrpcServer.listen({
      ...options,
      host: "127.0.0.1",
      port: 0,
      limits: { maxConcurrency: 2_000, maxQueue: 2_000, maxRequestSize: 1024 * 1024 }
    }),
    Layer.provide(Drain.layerTest())
  )

/** Starts a server with this certificate, or in plaintext. Succeeds with its target. */
export const start = Effect.fnUntraced(function* (identity: Issued | undefined) {
  const tls = identity && { certificates: (yield* Tls.watch(identity)).watched, allowedClients: undefined }
  const context = yield* Layer.build(layer({ tls }))
  return Address.format(yield* Context.get(context, GrpcServer.GrpcServer).address)
})
