/**
 * grpc.reflection v1 and v1alpha, with which tools such as buf curl and grpcurl call a server without its proto files:
 * https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
 *
 * It serves descriptors, which scripts/generate.ts embeds in the program:
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

/** The part of a response that answers the request. */
type Answer = Omit<ServerReflectionResponse__Output, "validHost" | "originalRequest">

const make = Effect.fnUntraced(function* (sets: ReadonlyArray<Uint8Array>) {
  const server = yield* GrpcServer.GrpcServer

  // indexed at the first request, which most processes never get
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
    return { errorResponse: { errorCode: Status.codes.InvalidArgument, errorMessage: "Empty request" } }
  }

  const listed = Effect.map(server.services, (names) => ({
    listServicesResponse: { service: names.toSorted().map((name) => ({ name })) }
  }))

  const respond = (request: ServerReflectionRequest__Output) =>
    Effect.flatMap(read, (descriptors) => {
      const answered = answer(request, descriptors)
      return Effect.isEffect(answered) ? answered : Effect.succeed(answered)
    }).pipe(Effect.map((answer) => ({ ...answer, validHost: request.host, originalRequest: request })))

  // an open call of an interactive tool would delay the drain
  const untilLeaving = Stream.interruptWhen(Effect.andThen(server.awaitLeaving, Effect.fail(new ServerLeaving())))

  return {
    ServerReflectionInfo: (requests: Stream.Stream<ServerReflectionRequest__Output>) =>
      untilLeaving(Stream.mapEffect(requests, respond))
  }
})

const notFound: Answer = { errorResponse: { errorCode: Status.codes.NotFound, errorMessage: "Not found" } }

/**
 * Serves both versions from encoded google.protobuf.FileDescriptorSets, which must include the imports of their files. The descriptors of
 * reflection and of {@link Health} are included already. Only services that the server has are listed.
 */
export const layer = (sets: ReadonlyArray<Uint8Array>): Layer.Layer<never, never, GrpcServer.GrpcServer> => {
  const handlers = make(sets)
  const statuses = { ServerLeaving: () => Status.unavailable("The server is shutting down") }
  return Layer.merge(
    GrpcServer.serve(ServerReflection, handlers, statuses, { isExempt: true }),
    GrpcServer.serve(ServerReflectionAlpha, handlers, statuses, { isExempt: true })
  )
}
