/**
 * grpc.reflection, v1 and the older v1alpha, by which tools such as buf curl and grpcurl call a server whose protos they do
 * not have: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
 *
 * A program has no proto files to show, so it is given descriptors, which its build embeds (scripts/generate.ts):
 *
 * ```ts
 * Layer.mergeAll(Api.layer, Reflection.layer([descriptors])).pipe(NodeGrpcServer.listenConfig("API"))
 * ```
 */
import { Effect, Layer, Schema, Stream } from "effect"

import ownDescriptors from "../generated/descriptors.ts"
import type { ServerReflectionRequest__Output } from "../generated/reflection/grpc/reflection/v1/ServerReflectionRequest.ts"
import type { ServerReflectionResponse__Output } from "../generated/reflection/grpc/reflection/v1/ServerReflectionResponse.ts"
import { ServerReflection } from "../generated/reflection/services.ts"
import { ServerReflection as ServerReflectionAlpha } from "../generated/reflectionAlpha/services.ts"
import * as GrpcServer from "../GrpcServer.ts"
import * as Status from "../Status.ts"
import type { File } from "./Descriptors.ts"

/** The server is about to close. */
class ServerLeaving extends Schema.TaggedError<ServerLeaving>()("ServerLeaving", {}) {}

/** What of a response is the answer to the question. */
type Answer = Omit<ServerReflectionResponse__Output, "validHost" | "originalRequest">

const make = Effect.fnUntraced(function* (sets: ReadonlyArray<Uint8Array>) {
  const server = yield* GrpcServer.GrpcServer

  // read when somebody asks, which most processes never see
  const read = yield* Effect.cached(
    Effect.map(
      Effect.promise(() => import("./Descriptors.ts")),
      ({ closure, fromSets }) => {
        const descriptors = fromSets([...sets, ownDescriptors])
        return { ...descriptors, closure: (file: File) => closure(descriptors, file) }
      }
    )
  )

  const answer = (
    request: ServerReflectionRequest__Output,
    { closure, extensions, files, symbols }: Effect.Success<typeof read>
  ): Answer | Effect.Effect<Answer> => {
    const { allExtensionNumbersOfType, fileByFilename, fileContainingExtension, fileContainingSymbol, listServices } =
      request
    const containing = (file: File | undefined): Answer =>
      file === undefined
        ? notFound
        : { fileDescriptorResponse: { fileDescriptorProto: closure(file).map(({ bytes }) => Buffer.from(bytes)) } }
    if (listServices !== undefined) return listed
    if (fileByFilename !== undefined) return containing(files.get(fileByFilename))
    if (fileContainingSymbol !== undefined) return containing(symbols.get(fileContainingSymbol))
    if (fileContainingExtension !== undefined && fileContainingExtension !== null) {
      const { containingType, extensionNumber } = fileContainingExtension
      return containing(extensions.get(containingType)?.get(extensionNumber))
    }
    if (allExtensionNumbersOfType !== undefined) {
      const numbers = extensions.get(allExtensionNumbersOfType)
      if (numbers === undefined) return notFound
      return {
        allExtensionNumbersResponse: {
          baseTypeName: allExtensionNumbersOfType,
          extensionNumber: [...numbers.keys()].toSorted((a, b) => a - b)
        }
      }
    }
    return { errorResponse: { errorCode: Status.codes.InvalidArgument, errorMessage: "The request asks for nothing" } }
  }

  const listed = Effect.map(server.services, (names) => ({
    listServicesResponse: { service: names.toSorted().map((name) => ({ name })) }
  }))

  const respond = (request: ServerReflectionRequest__Output) =>
    Effect.flatMap(read, (descriptors) => {
      const answered = answer(request, descriptors)
      return Effect.isEffect(answered) ? answered : Effect.succeed(answered)
    }).pipe(Effect.map((answer) => ({ ...answer, validHost: request.host, originalRequest: request })))

  // tools with a window keep their call open, which would hold up the server that closes
  const untilLeaving = Stream.interruptWhen(Effect.andThen(server.awaitLeaving, Effect.fail(new ServerLeaving())))

  return {
    ServerReflectionInfo: (requests: Stream.Stream<ServerReflectionRequest__Output>) =>
      untilLeaving(Stream.mapEffect(requests, respond))
  }
})

const notFound: Answer = { errorResponse: { errorCode: Status.codes.NotFound, errorMessage: "There is no such thing" } }

/**
 * Serves both versions, from encoded google.protobuf.FileDescriptorSets, each with all that its files import. Those of
 * reflection itself and of {@link Health} need not be given. The services that are listed are those of the server, whatever
 * else is in the sets.
 */
export const layer = (sets: ReadonlyArray<Uint8Array>): Layer.Layer<never, never, GrpcServer.GrpcServer> => {
  const handlers = make(sets)
  const statuses = { ServerLeaving: () => Status.unavailable("The server is shutting down") }
  return Layer.merge(
    GrpcServer.serve(ServerReflection, handlers, statuses, { isExempt: true }),
    GrpcServer.serve(ServerReflectionAlpha, handlers, statuses, { isExempt: true })
  )
}
