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
import type { Attempt, Transport } from "./CallMaker.ts"
import type { Lease, Leased } from "./ReplaceableClient.ts"

/** Dependencies of an attempt over HTTP/2. */
export interface TransportContext {
  /** Leases the client for an attempt, or returns the reason why there is none. */
  readonly lease: () => Leased
  /** Wraps callbacks of grpc-js. */
  readonly guard: Guard
}

/** How many extra response messages are read before the call is cancelled. */
const maxExtraMessages = 8

/** Succeeds with the response once the trailers have arrived as well. */
export const make =
  (context: TransportContext): Transport["unary"] =>
  (attempt, request) =>
    Effect.callback((resume) => {
      const lease = context.lease()
      if (lease._tag !== "Lease") return resume(Effect.fail(lease))
      try {
        return start(context, lease, attempt, request, resume)
      } catch (exception) {
        lease.release()
        throw exception
      }
    })

/** Starts an attempt, and returns the Effect that cancels it. */
const start = (
  { guard }: TransportContext,
  lease: Lease,
  attempt: Attempt,
  request: Buffer,
  resume: (outcome: Exit.Exit<object, Status.Status>) => void
): Effect.Effect<void> => {
  const { definition, metadata, onResponseMetadata } = attempt.call
  // an interceptor of the attempt may have taken some of the time
  const timeLeft = attempt.deadline - performance.now()
  // grpc-js expects wall-clock time, and converts it to a timer at once
  const deadline = Date.now() + timeLeft
  const call = lease.client.getChannel().createCall(definition.path, deadline, undefined, null, undefined)
  attempt.started = call
  let response: object | undefined
  let extraMessages = 0
  /** The error of a response that does not decode; it takes precedence over the status of the server. */
  let decodeError: Status.Status | undefined
  const cancelWith = ({ code, message }: Status.Status) => call.cancelWithStatus(code, message)
  const crash = (callback: string, exception: unknown) =>
    guard.onException(callback, exception, {
      annotations: () => ({ method: definition.path, peer: call.getPeer() }),
      recover: () => {
        cancelWith(bug)
        lease.release()
        resume(Exit.fail(bug))
      }
    })
  const onTimeout = () => {
    try {
      // the attempt continues if no other one may follow, unless the call has no deadline that would end it
      if (attempt.deadline === Infinity || attempt.budget?.allows !== false) cancelWith(timedOut)
    } catch (exception) {
      crash("timeout of a gRPC call", exception)
    }
  }
  // After a long turn of the event loop, timers run before sockets are read: a response that has arrived is read before onTimeout.
  const timeout = attempt.timeout < timeLeft ? setTimeout(setImmediate, attempt.timeout, onTimeout) : undefined
  call.start(metadata, {
    onReceiveMetadata: (headers) => {
      try {
        onResponseMetadata?.({ headers })
      } catch (exception) {
        crash("response headers of a gRPC call", exception)
      }
    },
    onReceiveMessage: (bytes: Buffer) => {
      try {
        // grpc-js delivers the status after the messages, once all of them have been read
        call.startRead()
        if (response !== undefined) {
          if (++extraMessages > maxExtraMessages) cancelWith(tooMany)
          return
        }
        try {
          response = attempt.decode(bytes)
        } catch (error) {
          decodeError = undecodable(error)
          cancelWith(decodeError)
        }
      } catch (exception) {
        crash("response of a gRPC call", exception)
      }
    },
    onReceiveStatus: (status) => {
      try {
        clearTimeout(timeout)
        onResponseMetadata?.({ trailers: status.metadata })
        lease.release()
        if (status.code === 0 && response !== undefined && extraMessages === 0) resume(Exit.succeed(response))
        else resume(Exit.fail(decodeError ?? failureOf(status, extraMessages)))
      } catch (exception) {
        crash("status of a gRPC call", exception)
      }
    }
  })
  call.startRead()
  call.sendMessageWithContext({}, request)
  call.halfClose()
  return Effect.sync(() => {
    clearTimeout(timeout)
    cancel(guard, () => cancelWith(cancelled))
    lease.release()
  })
}

/**
 * Cancels a call, and once more in the next turn of the event loop: while a call starts, grpc-js does not check whether it has been
 * cancelled, and would send it to a handler that is never cancelled.
 */
export const cancel = (guard: Guard, cancelOnce: () => void): void => {
  cancelOnce()
  setImmediate(guard("cancellation of a gRPC call", cancelOnce))
}

const bug = Status.internal("Internal error of the client")

const cancelled = Status.cancelled("Cancelled on client")

const timedOut = Status.deadlineExceeded("Attempt timed out")

const tooMany = Status.unimplemented("Too many responses received")

/** Why a call failed: its status, or, if that is OK, that it did not have one response message. */
const failureOf = (status: StatusObject, extraMessages: number): Status.Status => {
  if (status.code !== 0) return StatusCodec.decode(status)
  return Status.unimplemented(extraMessages > 0 ? tooMany.message : "No message received", {
    metadata: status.metadata
  })
}

/** The status of a call whose response does not decode. */
export const undecodable = (error: unknown): Status.Status =>
  Status.internal(`Response message parsing error: ${error instanceof Error ? error.message : String(error)}`)

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
