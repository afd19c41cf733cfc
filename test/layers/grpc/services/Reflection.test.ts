import { assert, describe, it } from "@effect/vitest"
import { Client, credentials } from "@grpc/grpc-js"
import { loadFileDescriptorSetFromObject, type ServiceDefinition } from "@grpc/proto-loader"
import { Duration, Effect, Exit, Fiber, Layer, Queue, Result, Scope, Stream } from "effect"
import descriptor from "protobufjs/ext/descriptor/index.js"

import type { ServerReflectionRequest } from "../../../../src/layers/grpc/generated/reflection/grpc/reflection/v1/ServerReflectionRequest.ts"
import type { ServerReflectionResponse__Output } from "../../../../src/layers/grpc/generated/reflection/grpc/reflection/v1/ServerReflectionResponse.ts"
import { ServerReflection } from "../../../../src/layers/grpc/generated/reflection/services.ts"
import { ServerReflection as ServerReflectionAlpha } from "../../../../src/layers/grpc/generated/reflectionAlpha/services.ts"
import { Health } from "../../../../src/layers/grpc/services/Health.ts"
import * as Reflection from "../../../../src/layers/grpc/services/Reflection.ts"
import echoDescriptors from "../../../../src/layers/testing/generated/descriptors.ts"
import * as Echo from "../Echo.ts"

/** Two files, one of which extends a message of the other. */
const extensions = descriptor.FileDescriptorSet.encode({
  file: [
    { name: "base.proto", package: "a", syntax: "proto2", messageType: [{ name: "Base" }] },
    {
      name: "extending.proto",
      dependency: ["base.proto"],
      extension: [{ name: "late", extendee: ".a.Base", number: 200 }],
      messageType: [{ name: "M", extension: [{ name: "early", extendee: ".a.Base", number: 100 }] }]
    }
  ]
}).finish()

const services = Layer.merge(Health.layer, Reflection.layer([echoDescriptors, extensions]))

const server = Echo.serve({}, { beside: services })

const client = Echo.clientOf(ServerReflection)

/** Puts questions in one call. */
const ask = Effect.fnUntraced(function* (...requests: ReadonlyArray<ServerReflectionRequest>) {
  const { ServerReflectionInfo } = yield* client
  return yield* Stream.runCollect(ServerReflectionInfo(Stream.fromIterable(requests)))
})

interface File {
  readonly name: string
  readonly dependency: ReadonlyArray<string>
}

const filesOf = ({ fileDescriptorResponse }: ServerReflectionResponse__Output): ReadonlyArray<File> =>
  (fileDescriptorResponse?.fileDescriptorProto ?? []).map(
    (bytes) => descriptor.FileDescriptorProto.decode(bytes) as unknown as File
  )

/** The names of the files, or the number of the error. */
const outcome = (response: ServerReflectionResponse__Output) =>
  response.errorResponse?.errorCode ?? filesOf(response).map(({ name }) => name)

const notFound = 5
const invalidArgument = 3

describe("reflection", () => {
  it.live.each([ServerReflection, ServerReflectionAlpha])(
    "by $name lists the services of the server, no more and no less",
    (service) =>
      Effect.gen(function* () {
        const { ServerReflectionInfo } = yield* Echo.clientOf(service)
        const request = { host: "example.org", listServices: "*" }
        const responses = yield* Stream.runCollect(ServerReflectionInfo(Stream.make(request)))
        assert.deepStrictEqual(responses, [
          {
            validHost: "example.org",
            originalRequest: request,
            listServicesResponse: {
              service: [
                { name: "grpc.health.v1.Health" },
                { name: "grpc.reflection.v1.ServerReflection" },
                { name: "grpc.reflection.v1alpha.ServerReflection" },
                { name: "onlinebooks.layers.testing.EchoService" }
              ]
            }
          }
        ])
      }).pipe(Effect.provide(server))
  )

  it.live("finds the file of every kind of symbol", () =>
    Effect.gen(function* () {
      const symbols = [
        "EchoService",
        "EchoService.Chat",
        "EchoRequest",
        "EchoRequest.text",
        "EchoRequest.choice",
        "EchoRequest.CountsEntry",
        "Color",
        "COLOR_RED"
      ]
      const echo = yield* ask(
        ...symbols.map((symbol) => ({ fileContainingSymbol: `onlinebooks.layers.testing.${symbol}` })),
        { fileByFilename: "echo.proto" }
      )
      assert.lengthOf(echo, symbols.length + 1)
      for (const response of echo) assert.deepStrictEqual(outcome(response), ["echo.proto"])

      const gRPCs = yield* ask(
        { fileContainingSymbol: "grpc.health.v1.Health" },
        { fileContainingSymbol: "grpc.reflection.v1.ServerReflection" },
        { fileContainingSymbol: "grpc.reflection.v1alpha.ServerReflection" }
      )
      assert.deepStrictEqual(gRPCs.map(outcome), [
        ["grpc/health/v1/health.proto"],
        ["grpc/reflection/v1/reflection.proto"],
        ["grpc/reflection/v1alpha/reflection.proto"]
      ])
    }).pipe(Effect.provide(server))
  )

  it.live("gives a file with what it imports, and finds extensions", () =>
    Effect.gen(function* () {
      const responses = yield* ask(
        { fileByFilename: "extending.proto" },
        { fileContainingExtension: { containingType: "a.Base", extensionNumber: 100 } },
        { fileContainingExtension: { containingType: "a.Base", extensionNumber: 101 } },
        { fileContainingExtension: { containingType: "a.None", extensionNumber: 100 } },
        { allExtensionNumbersOfType: "a.Base" },
        { allExtensionNumbersOfType: "onlinebooks.layers.testing.Item" },
        { allExtensionNumbersOfType: "a.None" }
      )
      assert.deepStrictEqual(responses.slice(0, 4).map(outcome), [
        ["extending.proto", "base.proto"],
        ["extending.proto", "base.proto"],
        notFound,
        notFound
      ])
      assert.deepStrictEqual(
        responses.slice(4, 6).map(({ allExtensionNumbersResponse }) => allExtensionNumbersResponse),
        [
          { baseTypeName: "a.Base", extensionNumber: [100, 200] },
          { baseTypeName: "onlinebooks.layers.testing.Item", extensionNumber: [] }
        ]
      )
      assert.strictEqual(outcome(responses[6]!), notFound)
    }).pipe(Effect.provide(server))
  )

  it.live("says what it does not find, and answers the next question", () =>
    Effect.gen(function* () {
      const requests = [
        { fileByFilename: "no.proto" },
        { host: "here", fileContainingSymbol: "" },
        { fileContainingSymbol: "onlinebooks.layers.testing" },
        { fileContainingSymbol: ".onlinebooks.layers.testing.Item" },
        {},
        { listServices: "" }
      ]
      const responses = yield* ask(...requests)
      assert.deepStrictEqual(
        responses.map(({ originalRequest, validHost }) => ({ originalRequest, validHost })),
        requests.map(({ host = "", ...question }) => ({ originalRequest: { host, ...question }, validHost: host }))
      )
      assert.deepStrictEqual(responses.slice(0, 5).map(outcome), [
        notFound,
        notFound,
        notFound,
        notFound,
        invalidArgument
      ])
      assert.lengthOf(responses[5]!.listServicesResponse!.service, 4)
    }).pipe(Effect.provide(server))
  )

  it.live("is all that grpc-js needs to call a service", () =>
    Effect.gen(function* () {
      const name = Echo.EchoService.name
      const [response] = yield* ask({ fileContainingSymbol: name })
      const definition = loadFileDescriptorSetFromObject({ file: filesOf(response!) })[name] as ServiceDefinition
      const { path, requestSerialize, responseDeserialize } = definition["Echo"]!
      const target = yield* Echo.target
      const answer = yield* Effect.callback<unknown, Error>((resume) => {
        const client = new Client(target, credentials.createInsecure())
        client.makeUnaryRequest(path, requestSerialize, responseDeserialize, { text: "hi" }, (error, response) => {
          client.close()
          resume(error === null ? Effect.succeed(response) : Effect.fail(error))
        })
      })
      assert.deepStrictEqual(answer, { text: "hi" })
    }).pipe(Effect.provide(server))
  )

  it.live("does not keep a server that leaves", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(server, scope)
      const { ServerReflectionInfo } = yield* Effect.provideContext(client, context)
      const answered = yield* Queue.unbounded<unknown>()
      // a tool that asks once, and keeps its call open
      const requests = Stream.concat(Stream.make({ listServices: "" }), Stream.never)
      const tool = yield* Effect.forkScoped(
        Effect.result(Stream.runForEach(ServerReflectionInfo(requests), (answer) => Queue.offer(answered, answer)))
      )
      yield* Queue.take(answered)
      const [elapsed] = yield* Effect.timed(Scope.close(scope, Exit.void))
      const result = yield* Fiber.join(tool)
      assert.strictEqual(Result.isFailure(result) && result.failure.reason._tag, "Unavailable")
      // a call that keeps it does so for 25 seconds
      assert.isBelow(Duration.toMillis(elapsed), 15_000)
    })
  )
})
