/**
 * The server and the client of gRPC's interoperability tests with grpc-js alone.
 */
import assert from "node:assert"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

import {
  type ChannelCredentials,
  type ChannelOptions,
  type Client,
  compressionAlgorithms,
  type GrpcObject,
  loadPackageDefinition,
  Metadata,
  type sendUnaryData,
  Server,
  type ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceClientConstructor,
  type ServiceError,
  status,
  type StatusObject
} from "@grpc/grpc-js"
import { loadSync } from "@grpc/proto-loader"

import type { EchoStatus__Output } from "../../src/layers/testing/generated/grpc/testing/EchoStatus.ts"
import type { Empty } from "../../src/layers/testing/generated/grpc/testing/Empty.ts"
import type { SimpleRequest__Output } from "../../src/layers/testing/generated/grpc/testing/SimpleRequest.ts"
import type {
  SimpleResponse,
  SimpleResponse__Output
} from "../../src/layers/testing/generated/grpc/testing/SimpleResponse.ts"
import type { StreamingInputCallRequest__Output } from "../../src/layers/testing/generated/grpc/testing/StreamingInputCallRequest.ts"
import type { StreamingInputCallResponse } from "../../src/layers/testing/generated/grpc/testing/StreamingInputCallResponse.ts"
import type { StreamingOutputCallRequest__Output } from "../../src/layers/testing/generated/grpc/testing/StreamingOutputCallRequest.ts"
import type {
  StreamingOutputCallResponse,
  StreamingOutputCallResponse__Output
} from "../../src/layers/testing/generated/grpc/testing/StreamingOutputCallResponse.ts"
import type { TestServiceClient } from "../../src/layers/testing/generated/grpc/testing/TestService.ts"
import type { UnimplementedServiceClient } from "../../src/layers/testing/generated/grpc/testing/UnimplementedService.ts"
import {
  concurrency,
  file,
  initialKey,
  iterations,
  large,
  payloadOf,
  percentMessages,
  specialMessage,
  streamed,
  trailingKey
} from "./InteropService.ts"

const definition = loadPackageDefinition(
  loadSync(file, {
    defaults: true,
    longs: String,
    includeDirs: [fileURLToPath(new URL("../../src/layers/testing", import.meta.url))]
  })
)
const { testing } = definition["grpc"] as unknown as { readonly testing: GrpcObject }
const TestService = testing["TestService"] as ServiceClientConstructor
const UnimplementedService = testing["UnimplementedService"] as ServiceClientConstructor

const only = (metadata: Metadata, key: string) => {
  const kept = new Metadata()
  for (const value of metadata.get(key)) kept.add(key, value)
  return kept
}

const toError = ({ code, message }: EchoStatus__Output, metadata: Metadata) => ({ code, details: message, metadata })

interface Echoing {
  readonly metadata: Metadata
  readonly sendMetadata: (metadata: Metadata) => void
}

const echoInitial = (call: Echoing) => {
  if (call.metadata.get(initialKey).length > 0) call.sendMetadata(only(call.metadata, initialKey))
}

/** Serves on a free port. */
export const serve = async (credentials: ServerCredentials) => {
  const server = new Server()
  type Output = StreamingOutputCallResponse
  type Writable = Pick<ServerWritableStream<StreamingOutputCallRequest__Output, Output>, "write" | "emit">

  const respond = (call: Writable, { responseParameters, responseStatus }: StreamingOutputCallRequest__Output) => {
    if (responseStatus !== null && responseStatus.code !== 0) {
      call.emit("error", toError(responseStatus, new Metadata()))
      return
    }
    for (const { size } of responseParameters) call.write({ payload: payloadOf(size) })
  }
  server.addService(TestService.service, {
    EmptyCall: (_: ServerUnaryCall<Empty, Empty>, callback: sendUnaryData<Empty>) => callback(null, {}),
    UnaryCall: (
      call: ServerUnaryCall<SimpleRequest__Output, SimpleResponse>,
      callback: sendUnaryData<SimpleResponse>
    ) => {
      echoInitial(call)
      const { responseSize, responseStatus } = call.request
      const trailers = only(call.metadata, trailingKey)
      if (responseStatus !== null && responseStatus.code !== 0) callback(toError(responseStatus, trailers))
      else callback(null, { payload: payloadOf(responseSize) }, trailers)
    },
    StreamingInputCall: (
      call: ServerReadableStream<StreamingInputCallRequest__Output, StreamingInputCallResponse>,
      callback: sendUnaryData<StreamingInputCallResponse>
    ) => {
      let aggregatedPayloadSize = 0
      call.on("data", ({ payload }: StreamingInputCallRequest__Output) => {
        aggregatedPayloadSize += payload?.body.length ?? 0
      })
      call.on("end", () => callback(null, { aggregatedPayloadSize }))
    },
    StreamingOutputCall: (call: ServerWritableStream<StreamingOutputCallRequest__Output, Output>) => {
      echoInitial(call)
      respond(call, call.request)
      call.end(only(call.metadata, trailingKey))
    },
    FullDuplexCall: (call: ServerDuplexStream<StreamingOutputCallRequest__Output, Output>) => {
      echoInitial(call)
      call.on("data", (request: StreamingOutputCallRequest__Output) => respond(call, request))
      call.on("end", () => call.end(only(call.metadata, trailingKey)))
    },
    HalfDuplexCall: (call: ServerDuplexStream<StreamingOutputCallRequest__Output, Output>) => {
      const requests: Array<StreamingOutputCallRequest__Output> = []
      call.on("data", (request: StreamingOutputCallRequest__Output) => requests.push(request))
      call.on("end", () => {
        for (const request of requests) respond(call, request)
        call.end()
      })
    }
  })
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", credentials, (error, port) => (error === null ? resolve(port) : reject(error)))
  )
  return { target: `127.0.0.1:${port}`, close: () => server.forceShutdown() }
}

export interface Connection {
  readonly target: string
  readonly credentials: ChannelCredentials
  readonly options?: ChannelOptions
}

const connect = ({ credentials, options = {}, target }: Connection, more: ChannelOptions = {}) =>
  new TestService(target, credentials, {
    "grpc.use_local_subchannel_pool": 1,
    ...options,
    ...more
  }) as unknown as TestServiceClient

/** The result of a call. */
interface Ended<A> {
  readonly responses: ReadonlyArray<A>
  readonly headers: Metadata
  readonly status: StatusObject
}

/** The common interface of grpc-js' four kinds of calls. */
interface Call {
  on(event: "metadata", listener: (headers: Metadata) => void): unknown
  on(event: "status", listener: (status: StatusObject) => void): unknown
  on(event: "error", listener: (error: Error) => void): unknown
}

/** Waits for the end of a call. `responses` collects the responses meanwhile. */
const ended = <A>(call: Call, responses: ReadonlyArray<A> = []) =>
  new Promise<Ended<A>>((resolve) => {
    let headers = new Metadata()
    call.on("metadata", (received) => {
      headers = received
    })
    // the status has the same error
    call.on("error", () => {})
    call.on("status", (status) => setImmediate(() => resolve({ responses, headers, status })))
  })

/** Waits for the end of a call with a stream of responses. */
const collected = <A>(call: Call & { on(event: "data", listener: (response: A) => void): unknown }) => {
  const responses: Array<A> = []
  call.on("data", (response: A) => void responses.push(response))
  return ended(call, responses)
}

/** Makes a call with a single response. */
const one = <A>(start: (callback: (error: ServiceError | null, response?: A) => void) => Call) => {
  const responses: Array<A> = []
  return ended(
    start((_, response) => {
      if (response !== undefined) responses.push(response)
    }),
    responses
  )
}

const ok = async <A>(pending: Promise<Ended<A>>) => {
  const call = await pending
  assert.strictEqual(call.status.code, status.OK, call.status.details)
  return call
}

const fails = async (pending: Promise<Ended<unknown>>, code: number) => {
  const call = await pending
  assert.strictEqual(call.status.code, code, call.status.details)
  return call.status.details
}

const largeRequest = { responseSize: large.response, payload: payloadOf(large.request) }

const assertSizes = (
  responses: ReadonlyArray<SimpleResponse__Output | StreamingOutputCallResponse__Output>,
  sizes: ReadonlyArray<number>
) =>
  assert.deepStrictEqual(
    responses.map(({ payload }) => payload?.body.length),
    sizes
  )

const unary = (
  client: TestServiceClient,
  request: Parameters<TestServiceClient["UnaryCall"]>[0],
  metadata = new Metadata(),
  deadline = Infinity
) => one<SimpleResponse__Output>((callback) => client.UnaryCall(request, metadata, { deadline }, callback))

const largeUnary = async (client: TestServiceClient, deadline = Infinity) =>
  assertSizes((await ok(unary(client, largeRequest, new Metadata(), deadline))).responses, [large.response])

const responsesOf = (...sizes: ReadonlyArray<number>) => ({ responseParameters: sizes.map((size) => ({ size })) })

/** Requests a status by a unary call and by a stream. */
const assertStatus = async (client: TestServiceClient, message: string) => {
  const responseStatus = { code: 2, message }
  assert.strictEqual(await fails(unary(client, { responseStatus }), status.UNKNOWN), message)
  const call = client.FullDuplexCall()
  call.write({ responseStatus })
  assert.strictEqual(await fails(collected(call), status.UNKNOWN), message)
}

const assertEchoed = async (
  client: TestServiceClient,
  initial: ReadonlyArray<string>,
  trailing: ReadonlyArray<Buffer>
) => {
  const metadata = new Metadata()
  for (const value of initial) metadata.add(initialKey, value)
  for (const value of trailing) metadata.add(trailingKey, value)
  const fullDuplex = () => {
    const call = client.FullDuplexCall(metadata)
    call.end({ ...responsesOf(large.response), payload: payloadOf(large.request) })
    return collected<StreamingOutputCallResponse__Output>(call)
  }
  for (const { headers, status } of [await ok(unary(client, largeRequest, metadata)), await ok(fullDuplex())]) {
    assert.deepStrictEqual(
      headers.get(initialKey).flatMap((value) => String(value).split(", ")),
      initial
    )
    assert.deepStrictEqual(status.metadata.get(trailingKey), trailing)
  }
}

const streamingInput = (
  client: TestServiceClient,
  requests: ReadonlyArray<readonly [Parameters<typeof payloadOf>[0], boolean | undefined, number]>
) =>
  one<{ readonly aggregatedPayloadSize: number }>((callback) => {
    const call = client.StreamingInputCall(callback as never)
    for (const [size, compressed, flags] of requests) {
      const expected = compressed === undefined ? {} : { expectCompressed: { value: compressed } }
      call.write({ payload: payloadOf(size), ...expected }, flags as never)
    }
    call.end()
    return call
  })

const sleeping = (client: TestServiceClient, timeout: number) => {
  const call = client.FullDuplexCall({ deadline: Date.now() + timeout })
  call.write({ payload: payloadOf(27_182) })
  return fails(collected(call), status.DEADLINE_EXCEEDED)
}

const all = (count: number, call: () => Promise<unknown>) => Promise.all(Array.from({ length: count }, call))

/** The write flag of gRPC's core, which grpc-js accepts but does not export. */
const noCompress = 2

const hour = 3_600_000

type Case = (client: TestServiceClient, connection: Connection) => Promise<unknown>

/** Runs a test on a channel that compresses its requests. */
const withCompression = async (connection: Connection, use: (client: TestServiceClient) => Promise<unknown>) => {
  const client = connect(connection, { "grpc.default_compression_algorithm": compressionAlgorithms.gzip })
  try {
    await use(client)
  } finally {
    client.close()
  }
}

/** The cases by name. The test skips those that cannot run against a server. */
export const cases = {
  empty_unary: async (client) => {
    const { responses } = await ok(one<Empty>((callback) => client.EmptyCall({}, callback as never)))
    assert.deepStrictEqual(responses, [{}])
  },
  large_unary: (client) => largeUnary(client),
  client_compressed_unary: async (client, connection) => {
    const expecting = (value: boolean) => ({ ...largeRequest, expectCompressed: { value } })
    await fails(unary(client, expecting(true)), status.INVALID_ARGUMENT)
    await withCompression(connection, async (compressing) =>
      assertSizes((await ok(unary(compressing, expecting(true)))).responses, [large.response])
    )
    assertSizes((await ok(unary(client, expecting(false)))).responses, [large.response])
  },
  client_streaming: async (client) => {
    const { responses } = await ok(
      streamingInput(
        client,
        streamed.requests.map((size) => [size, undefined, 0])
      )
    )
    assert.deepStrictEqual(responses, [{ aggregatedPayloadSize: 74_922 }])
  },
  client_compressed_streaming: async (client, connection) => {
    await fails(streamingInput(client, [[27_182, true, 0]]), status.INVALID_ARGUMENT)
    await withCompression(connection, async (compressing) => {
      const { responses } = await ok(
        streamingInput(compressing, [
          [27_182, true, 0],
          [45_904, false, noCompress]
        ])
      )
      assert.deepStrictEqual(responses, [{ aggregatedPayloadSize: 73_086 }])
    })
  },
  server_streaming: async (client) =>
    assertSizes((await ok(collected(client.StreamingOutputCall(responsesOf(...streamed.responses))))).responses, [
      ...streamed.responses
    ]),
  ping_pong: async (client) => {
    const call = client.FullDuplexCall()
    let next = 0
    const send = () => {
      if (next === streamed.requests.length) return void call.end()
      const request = { ...responsesOf(streamed.responses[next]!), payload: payloadOf(streamed.requests[next]!) }
      next++
      call.write(request)
    }
    call.on("data", send)
    send()
    assertSizes((await ok(collected(call))).responses, streamed.responses)
  },
  half_duplex: async (client) => {
    const call = client.HalfDuplexCall()
    for (const size of streamed.responses) call.write(responsesOf(size))
    call.end()
    assertSizes((await ok(collected(call))).responses, streamed.responses)
  },
  empty_stream: async (client) => {
    const call = client.FullDuplexCall()
    call.end()
    assert.deepStrictEqual((await ok(collected(call))).responses, [])
  },
  custom_metadata: (client) => assertEchoed(client, ["test_initial_metadata_value"], [Buffer.from("ababab", "hex")]),
  binary_metadata: (client) =>
    assertEchoed(
      client,
      ["one", "two"],
      ["000102", "00010203", "0001020304", "ff"].map((hex) => Buffer.from(hex, "hex"))
    ),
  status_code_and_message: (client) => assertStatus(client, "test status message"),
  special_status_message: (client) => assertStatus(client, specialMessage),
  percent_status_messages: async (client) => {
    for (const message of percentMessages) await assertStatus(client, message)
  },
  unimplemented_method: (client) =>
    fails(
      one((callback) => client.UnimplementedCall({}, callback as never)),
      status.UNIMPLEMENTED
    ),
  unimplemented_service: async (_, { credentials, options, target }) => {
    const client = new UnimplementedService(target, credentials, options) as unknown as UnimplementedServiceClient
    await fails(
      one((callback) => client.UnimplementedCall({}, callback as never)),
      status.UNIMPLEMENTED
    )
    client.close()
  },
  cancel_after_begin: (client) =>
    fails(
      one((callback) => {
        const call = client.StreamingInputCall(callback as never)
        call.cancel()
        return call
      }),
      status.CANCELLED
    ),
  cancel_after_first_message: (client) =>
    fails(
      one((callback) => {
        const call = client.StreamingInputCall(callback as never)
        call.write({ payload: payloadOf(8) }, () => call.cancel())
        return call
      }),
      status.CANCELLED
    ),
  cancel_after_headers: async (client) => {
    const metadata = new Metadata()
    metadata.set(initialKey, "headers")
    const call = client.FullDuplexCall(metadata)
    call.write({ payload: payloadOf(8) })
    call.on("metadata", () => call.cancel())
    await fails(collected(call), status.CANCELLED)
  },
  cancel_after_first_response: async (client) => {
    const call = client.FullDuplexCall()
    const outcome = collected<StreamingOutputCallResponse__Output>(call)
    call.write({ ...responsesOf(31_415), payload: payloadOf(27_182) })
    await once(call, "data")
    call.cancel()
    await fails(outcome, status.CANCELLED)
    assertSizes((await outcome).responses, [31_415])
  },
  timeout_on_sleeping_server: (client) => sleeping(client, 1),
  timeout_before_expiry: (client) => largeUnary(client, Date.now() + 10_000),
  many_timeouts: (client) => all(1_000, () => sleeping(client, 50)),
  long_timeouts: async (client) => {
    // grpc-js sends at most 8 digits, so the last timeout is about the longest possible
    for (const hours of [25 * 24, 40 * 24, 50 * 24, 90 * 24, 99_999_999]) {
      await largeUnary(client, Date.now() + hours * hour)
    }
  },
  concurrent_large_unary: (client) => all(concurrency, () => largeUnary(client)),
  rpc_soak: async (client) => {
    for (let count = 0; count < iterations.rpcSoak; count++) await largeUnary(client)
  },
  channel_soak: async (_, connection) => {
    for (let count = 0; count < iterations.channelSoak; count++) {
      const client = connect(connection)
      await largeUnary(client)
      client.close()
    }
  }
} satisfies { readonly [name: string]: Case }

export type CaseName = keyof typeof cases

/** Runs a case on a channel of its own. */
export const run = async (name: CaseName, connection: Connection) => {
  const client = connect(connection)
  try {
    const test: Case = cases[name]
    await test(client, connection)
  } finally {
    ;(client as Client).close()
  }
}
