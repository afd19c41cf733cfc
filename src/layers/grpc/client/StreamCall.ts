/**
 * Makes one attempt of a call that has a stream of requests, of responses, or of both, with a Client of grpc-js.
 */
import type { Writable } from "node:stream"

import { NodeStream } from "@effect/platform-node"
import type { CallOptions, Client, ClientReadableStream, Metadata, ServiceError, StatusObject } from "@grpc/grpc-js"
import { Cause, Deferred, Effect, identity, Pull, type Scope, Stream } from "effect"

import type { Call } from "../GrpcChannel.ts"
import type * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"
import type { Attempt, Transport } from "./CallMaker.ts"
import type { Lease } from "./ReplaceableClient.ts"
import * as UnaryCall from "./UnaryCall.ts"

/**
 * Succeeds with the responses once the first one has arrived: until then, the call can be retried without the reader receiving
 * a response twice.
 */
export const serverStream = (context: UnaryCall.TransportContext): Transport["serverStream"] =>
  Effect.fnUntraced(function* (attempt, request) {
    const { call, decode } = attempt
    const started = yield* open(context, attempt, (client, callOptions) =>
      client.makeServerStreamRequest(
        call.definition.path,
        identity<Buffer>,
        decode,
        request,
        call.metadata,
        callOptions
      )
    )
    const pull = yield* Stream.toPull(responsesOf(started))
    let first: typeof pull | undefined = yield* pull.pipe(
      Effect.map((responses) => Effect.succeed(responses)),
      Pull.catchDone(() => Effect.succeed(Cause.done()))
    )
    return Stream.fromPull(
      Effect.succeed(
        Effect.suspend(() => {
          const next = first ?? pull
          first = undefined
          return next
        })
      )
    )
  })

/** Succeeds with the response once the trailers have arrived as well. */
export const clientStream =
  (context: UnaryCall.TransportContext): Transport["clientStream"] =>
  <E, R>(attempt: Attempt, requests: Stream.Stream<object, E, R>) =>
    Effect.gen(function* () {
      const { call, decode } = attempt
      const ended = yield* Deferred.make<object, Status.Status>()
      let outcome: Effect.Effect<object, Status.Status>
      const started = yield* open(context, attempt, (client, callOptions) =>
        client.makeClientStreamRequest(
          call.definition.path,
          identity<Buffer>,
          decode,
          call.metadata,
          { ...callOptions, interceptors: [UnaryCall.readUntilStatus] },
          (error: ServiceError | null, response?: object) => {
            // grpc-js reports an OK without a response as an error
            outcome = error === null ? Effect.succeed(response!) : Effect.fail(StatusCodec.decode(error))
          }
        )
      )
      // after the callback, with the trailers
      started.on(
        "status",
        context.guard("status of a gRPC call", () => Deferred.doneUnsafe(ended, outcome))
      )
      // the server may answer before it has read all requests; a write error does not end the call
      return yield* Effect.raceFirst(
        Deferred.await(ended),
        Effect.andThen(writeRequests(call, started, requests), Effect.never)
      )
    }).pipe(Effect.scoped)

export const bidi =
  (context: UnaryCall.TransportContext): Transport["bidi"] =>
  (attempt, requests) => {
    const { call, decode } = attempt
    return Effect.map(
      open(context, attempt, (client, callOptions) =>
        client.makeBidiStreamRequest(call.definition.path, identity<Buffer>, decode, call.metadata, callOptions)
      ),
      (started) =>
        Stream.merge(responsesOf(started), Stream.fromEffectDrain(writeRequests(call, started, requests)), {
          haltStrategy: "left"
        })
    )
  }

/** The common interface of grpc-js' stream calls. */
interface StreamCall {
  readonly cancel: () => void
  readonly getPeer: () => string
  on(event: "error", listener: (error: Error) => void): unknown
  on(event: "metadata", listener: (metadata: Metadata) => void): unknown
  on(event: "status", listener: (status: StatusObject) => void): unknown
}

/** Starts a call. When the scope closes, it is cancelled unless it has ended, and its lease is released. */
const open = <Started extends StreamCall>(
  { guard, lease }: UnaryCall.TransportContext,
  attempt: Attempt,
  start: (client: Client, options: CallOptions) => Started
): Effect.Effect<Started, Status.Status, Scope.Scope> => {
  const leased = lease()
  if (leased._tag !== "Lease") return Effect.fail(leased)
  return Effect.acquireRelease(
    Effect.sync(() => {
      // an interceptor of the attempt may have taken some of the time
      const timeLeft = Math.min(attempt.timeout, attempt.deadline - performance.now())
      const started = startWith(leased, (client) =>
        // grpc-js expects wall-clock time, and converts it to a timer at once
        start(client, { deadline: Date.now() + timeLeft })
      )
      attempt.started = started
      const { onResponseMetadata } = attempt.call
      if (onResponseMetadata !== undefined) {
        started.on(
          "metadata",
          guard("response headers of a gRPC call", (headers) => onResponseMetadata({ headers }))
        )
        started.on(
          "status",
          guard("status of a gRPC call", ({ metadata }) => onResponseMetadata({ trailers: metadata }))
        )
      }
      // A reader listens for errors only while it reads. A cancelled call emits an error, and without a listener that ends the process.
      started.on("error", () => {})
      return started
    }),
    (started) =>
      Effect.sync(() => {
        UnaryCall.cancel(guard, () => started.cancel())
        leased.release()
      })
  )
}

/** Starts a call with the client of a lease, and releases the lease if that throws. */
const startWith = <Started>({ client, release }: Lease, start: (client: Client) => Started): Started => {
  try {
    return start(client)
  } catch (exception) {
    release()
    throw exception
  }
}

/** Writes a stream of requests at the pace of the server. */
const writeRequests = <E, R>(call: Call, writable: Writable, requests: Stream.Stream<object, E, R>) =>
  requests.pipe(
    Stream.mapEffect((request) => call.definition.encode(request)),
    Stream.runForEachArray((messages) => writeAll(writable, messages)),
    Effect.andThen(Effect.sync(() => void writable.end()))
  )

/** Writes messages in order, and suspends while the buffer of the stream is full. */
const writeAll = (stream: Writable, messages: ReadonlyArray<unknown>): Effect.Effect<void> => {
  let next = 0
  const writeMore = (): Effect.Effect<void> => {
    while (next < messages.length) {
      if (!stream.write(messages[next++])) return Effect.flatMap(drained(stream), writeMore)
    }
    return Effect.void
  }
  return Effect.suspend(writeMore)
}

/** Waits for `drain`. A cancelled call never emits it: its fiber is interrupted. */
const drained = (stream: Writable): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const onDrain = () => resume(Effect.void)
    stream.once("drain", onDrain)
    return Effect.sync(() => stream.off("drain", onDrain))
  })

/** The responses of a server, read with back-pressure. */
const responsesOf = (readable: ClientReadableStream<object>): Stream.Stream<object, Status.Status> =>
  NodeStream.fromReadable<object, Status.Status>({
    evaluate: () => readable,
    onError: (error) => StatusCodec.decode(error as StatusCodec.Received),
    closeOnDone: false
  })
