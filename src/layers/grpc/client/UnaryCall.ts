/**
 * Makes one attempt of a unary call, directly on a channel of grpc-js.
 *
 * grpc-js' own `Client.makeUnaryRequest` creates an event emitter, a list of interceptors and a stack trace for each call, none of which is
 * needed here. Error messages are the same as those of grpc-js.
 */
import { InterceptingCall, type Interceptor, type Metadata, type StatusObject } from "@grpc/grpc-js"
import { Effect, Exit } from "effect"

import type { Guard } from "../../telemetry/CallbackGuard.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"
import type { StartedCall } from "./CallAttempt.ts"
import * as CallAttempt from "./CallAttempt.ts"
import * as ReplaceableClient from "./ReplaceableClient.ts"
import type { Attempt, Transport, TransportContext } from "./Transport.ts"

/** How many extra response messages are read before the call is cancelled. */
const maxExtraMessages = 8

/** Succeeds with the response once the trailers have arrived as well. */
export const make =
  ({ guard, lease }: TransportContext): Transport["unary"] =>
  (attempt, request) =>
    Effect.callback((resume) => {
      const leased = lease()
      if (leased._tag !== "Lease") return resume(Effect.fail(leased))
      const started = ReplaceableClient.start(leased, (client) =>
        start(client.getChannel(), attempt, request, guard, (outcome) => {
          leased.release()
          resume(outcome)
        })
      )
      attempt.onStarted(started)
      return Effect.sync(() => {
        CallAttempt.cancel(guard, started)
        leased.release()
      })
    })

const start = (
  channel: ReturnType<ReplaceableClient.Lease["client"]["getChannel"]>,
  { call: { metadata, method, onResponseMetadata }, decode, timeout }: Attempt,
  request: Buffer,
  guard: Guard,
  onEnd: (outcome: Exit.Exit<object, Status.Status>) => void
): StartedCall => {
  const call = channel.createCall(method.path, CallAttempt.deadlineIn(timeout), undefined, null, undefined)
  let response: object | undefined
  let extraMessages = 0
  /** The error of a response that does not decode; it takes precedence over the status of the server. */
  let decodeError: Status.Status | undefined
  const fail = (status: Status.Status) => call.cancelWithStatus(status.code, status.message)
  const onBug = {
    annotations: () => ({ method: method.path, peer: call.getPeer() }),
    recover: () => {
      call.cancelWithStatus(Status.codes.Internal, bug)
      onEnd(Exit.fail(Status.internal(bug)))
    }
  }
  call.start(metadata, {
    onReceiveMetadata: guard(
      "response headers of a gRPC call",
      (headers: Metadata) => onResponseMetadata?.({ headers }),
      onBug
    ),
    onReceiveMessage: guard(
      "response of a gRPC call",
      (bytes: Buffer) => {
        // grpc-js delivers the status after the messages, once all of them have been read
        call.startRead()
        if (response !== undefined) {
          if (++extraMessages > maxExtraMessages) fail(tooMany)
          return
        }
        try {
          response = decode(bytes)
        } catch (error) {
          decodeError = Status.internal(`Response message parsing error: ${messageOf(error)}`)
          fail(decodeError)
        }
      },
      onBug
    ),
    onReceiveStatus: guard(
      "status of a gRPC call",
      (status: StatusObject) => {
        onResponseMetadata?.({ trailers: status.metadata })
        onEnd(decodeError === undefined ? exitOf(status, response, extraMessages) : Exit.fail(decodeError))
      },
      onBug
    )
  })
  call.startRead()
  call.sendMessageWithContext({}, request)
  call.halfClose()
  return {
    cancel: () => call.cancelWithStatus(Status.codes.Cancelled, "Cancelled on client"),
    getPeer: () => call.getPeer()
  }
}

const bug = "Internal error of the client"

const tooMany = Status.unimplemented("Too many responses received")

const exitOf = (
  status: StatusObject,
  response: object | undefined,
  extraMessages: number
): Exit.Exit<object, Status.Status> => {
  if (status.code !== 0) return Exit.fail(StatusCodec.decode(status))
  const { metadata } = status
  if (extraMessages > 0) return Exit.fail(Status.unimplemented(tooMany.message, { metadata }))
  return response === undefined
    ? Exit.fail(Status.unimplemented("No message received", { metadata }))
    : Exit.succeed(response)
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/**
 * Interceptor for a client-streaming call of a grpc-js Client: continues reading after the first response message, so that the status is
 * delivered. OK with more than one response message becomes UNIMPLEMENTED.
 */
export const readUntilStatus: Interceptor = (options, nextCall) => {
  const call = nextCall(options)
  let messages = 0
  return new InterceptingCall(call, {
    start: (metadata, listener, next) =>
      // grpc-js waits for a `next` after each message unless all three listeners have one parameter
      next(metadata, {
        onReceiveMetadata: (headers: Metadata) => listener.onReceiveMetadata(headers),
        onReceiveMessage: (message: unknown) => {
          // the call ended without a message
          if (message === null) return listener.onReceiveMessage(message)
          call.startRead()
          if (++messages === 1) listener.onReceiveMessage(message)
          else if (messages > 1 + maxExtraMessages) call.cancelWithStatus(tooMany.code, tooMany.message)
        },
        onReceiveStatus: (status: StatusObject) =>
          listener.onReceiveStatus(
            messages > 1 && status.code === 0 ? { ...status, code: tooMany.code, details: tooMany.message } : status
          )
      })
  })
}
