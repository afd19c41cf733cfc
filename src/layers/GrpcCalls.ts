/**
 * Where a call of grpc-js becomes a fiber and the fiber's exit becomes the answer; and the calls that are between the two.
 */
import { randomUUID } from "node:crypto"

import {
  type handleUnaryCall,
  type MethodDefinition,
  ResponderBuilder,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder
} from "@grpc/grpc-js"
import { Cause, Effect, Exit, type Fiber } from "effect"

import { RequestInfo } from "./ErrorDetail.ts"
import * as Status from "./Status.ts"
import * as StatusWire from "./StatusWire.ts"

/** How the calls of one method are answered. */
export interface Method<E, R> {
  readonly definition: MethodDefinition<unknown, unknown>
  readonly handler: (request: unknown) => Effect.Effect<unknown, E, R>
  readonly toStatus: (error: E) => Status.Status
  /** Starts a fiber that has what the server's own log lines need. */
  readonly runFork: <A, E>(effect: Effect.Effect<A, E, R>) => Fiber.Fiber<A, E>
}

/** The calls that a server is answering. */
export interface GrpcCalls {
  /** The function that grpc-js calls for a unary method; it answers with the bytes of the response. */
  readonly unary: <E, R>(method: Method<E, R>) => handleUnaryCall<unknown, Buffer>
  /** Sees every call from its headers to its status. */
  readonly interceptor: ServerInterceptor
  /** How many calls have begun and not ended, and how many have ended, since the server is there. */
  readonly counts: () => { readonly inFlight: number; readonly ended: number }
  /** Interrupts the calls in flight, which are answered UNAVAILABLE. */
  readonly cut: () => void
}

export const make = (): GrpcCalls => {
  const waiting = new Set<Fiber.Fiber<unknown, unknown>>()
  let begun = 0
  let ended = 0
  let isCutting = false

  // That there is a listener has an effect too: grpc-js then keeps back a message that comes after its call has ended.
  // Without, it would begin to handle a call that is over, and nothing would interrupt that.
  const interceptor: ServerInterceptor = (_method, call) => {
    let isOver = false
    const end = () => {
      if (isOver) return
      isOver = true
      ended++
    }
    begun++
    return new ServerInterceptingCall(
      call,
      new ResponderBuilder()
        .withStart((next) =>
          next(
            new ServerListenerBuilder()
              .withOnReceiveMetadata((metadata, next) => next(metadata))
              .withOnCancel(end)
              .build()
          )
        )
        .withSendStatus((status, next) => {
          end()
          next(status)
        })
        .build()
    )
  }

  return {
    interceptor,
    counts: () => ({ inFlight: begun - ended, ended }),
    cut: () => {
      isCutting = true
      for (const fiber of waiting) fiber.interruptUnsafe()
    },
    unary: (method) => {
      const { definition, handler, runFork } = method

      /** Tells the log of a bug, and the client where in the log to look. */
      const report = (bug: Cause.Cause<unknown>) => {
        const requestId = randomUUID()
        runFork(
          Effect.logError("A bug in a handler", bug).pipe(
            Effect.annotateLogs({ method: definition.path.slice(1), requestId })
          )
        )
        return Status.internal("Internal error", { details: [RequestInfo({ requestId })] })
      }

      const toStatus = (cause: Cause.Cause<unknown>) => {
        const failure = cause.reasons.find(Cause.isFailReason)
        if (failure !== undefined) return method.toStatus(failure.error as never)
        if (!Cause.hasInterruptsOnly(cause)) return report(cause)
        return isCutting ? Status.unavailable("The server is shutting down") : Status.cancelled("Cancelled")
      }

      const encodeFailure = (cause: Cause.Cause<unknown>) => {
        try {
          return StatusWire.encode(toStatus(cause))
        } catch (bug) {
          // the status table threw, or made a status that cannot be encoded
          return StatusWire.encode(report(Cause.die(bug)))
        }
      }

      // the response is encoded in the fiber, where what cannot be encoded is a defect like any other
      const answered = (request: unknown) =>
        Effect.map(
          Effect.suspend(() => handler(request)),
          definition.responseSerialize
        )

      return (call, callback) => {
        const fiber = runFork(answered(call.request))
        const answer = (exit: Exit.Exit<Buffer, unknown>) => {
          if (Exit.isSuccess(exit)) callback(null, exit.value)
          else callback(encodeFailure(exit.cause))
        }
        // most calls never wait for anything, and are done by now
        const exit = fiber.pollUnsafe()
        if (exit !== undefined) return answer(exit)
        waiting.add(fiber)
        // the client has gone, or grpc-js has answered that the deadline is over: nobody reads a later answer
        call.on("cancelled", () => fiber.interruptUnsafe())
        fiber.addObserver((exit) => {
          waiting.delete(fiber)
          answer(exit)
        })
      }
    }
  }
}
