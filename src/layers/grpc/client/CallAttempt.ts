/**
 * One attempt of a call as interceptors see it, and helpers for attempts of all kinds of calls.
 */
import type { Guard } from "../../telemetry/CallbackGuard.ts"
import type { ClientAttempt, ClientCall } from "../GrpcInterceptor.ts"

/** A call of grpc-js that has started. */
export interface StartedCall {
  readonly cancel: () => void
  readonly getPeer: () => string
}

export interface CallAttempt extends ClientAttempt {
  /** Undefined until the attempt has started. */
  started: StartedCall | undefined
}

/** `attempt` is counted from 1. */
export const make = (call: ClientCall, attempt: number): CallAttempt => {
  const { deadline, kind, metadata, method, service, target } = call
  const made: CallAttempt = {
    service,
    method,
    kind,
    target,
    deadline,
    metadata,
    attempt,
    startedAt: performance.now(),
    started: undefined,
    peer: () => made.started?.getPeer()
  }
  return made
}

/**
 * Cancels a call, and once more in the next turn of the event loop: while a call starts, grpc-js does not check whether it has been
 * cancelled, and would send it to a handler that is never cancelled.
 */
export const cancel = (guard: Guard, call: StartedCall): void => {
  call.cancel()
  setImmediate(guard("cancellation of a gRPC call", () => call.cancel()))
}

/** The deadline of an attempt in wall-clock time, which grpc-js expects and immediately converts to a timer. */
export const deadlineIn = (timeout: number): number => Date.now() + timeout
