/**
 * Makes the calls of a channel, of each kind: within the interceptors, in attempts that are retried, each made by a {@link Transport}.
 *
 * Unary calls go through the circuit breaker of their service. Streaming calls may be idle for long, so they bypass the circuit breaker.
 * A server-streaming call is retried until its first response; a call with a stream of requests is not retried, since the requests cannot
 * be read twice.
 */
import { Effect, Exit, Stream } from "effect"

import type { Call, GrpcChannel } from "../GrpcChannel.ts"
import { GrpcError } from "../GrpcError.ts"
import type { ClientAttempt, ClientCall } from "../GrpcInterceptor.ts"
import type { InterceptorChain } from "../InterceptorChain.ts"
import * as MessageCompression from "../MessageCompression.ts"
import * as ResponseLimit from "../ResponseLimit.ts"
import * as Status from "../Status.ts"
import * as CallAttempt from "./CallAttempt.ts"
import type { CircuitBreaker } from "./CircuitBreaker.ts"
import * as InterceptedStream from "./InterceptedStream.ts"
import * as Retry from "./Retry.ts"
import type { Attempt, Transport } from "./Transport.ts"

/** The state that a channel keeps for each gRPC service. */
export interface ServiceState {
  readonly circuit: CircuitBreaker
  readonly retry: Retry.RetryState
  /** With the same budget, and without a time limit for attempts. */
  readonly streamRetry: Retry.RetryState
}

export interface Options {
  readonly target: string
  readonly transport: Transport
  readonly serviceState: (service: string) => ServiceState
  readonly calls: InterceptorChain<ClientCall, unknown, unknown>
  readonly attempts: InterceptorChain<ClientAttempt, unknown, unknown>
  readonly observeCompression: boolean
}

export const make = (options: Options): GrpcChannel["Service"] => {
  const { attempts, calls, serviceState, target, transport } = options

  const describe = ({ deadline, metadata, method }: Call): ClientCall => ({
    service: method.service,
    method: method.name,
    kind: method.kind,
    target,
    startedAt: performance.now(),
    deadline,
    metadata
  })

  const attemptOf = (call: Call, timeout: number, attempt: CallAttempt.CallAttempt): Attempt => ({
    call,
    timeout,
    decode:
      call.responseLimit === undefined && !options.observeCompression
        ? call.method.decode
        : decoder(call, options.observeCompression),
    onStarted: (started: CallAttempt.StartedCall) => {
      attempt.started = started
    }
  })

  const unary = (call: Call, request: object): Effect.Effect<object, GrpcError> =>
    Effect.withFiber(({ context }) => {
      const info = describe(call)
      const { circuit, retry } = serviceState(info.service)
      return calls.run(info, context, (inner) => {
        const encoded = call.method.encode(request)
        if (Exit.isFailure(encoded)) return Effect.mapError(encoded, (status) => Retry.errorOf(call, status))
        if (call.deadline <= performance.now()) return Effect.fail(Retry.errorOf(call, deadlineExceeded))
        const made = Retry.run(call, retry, (number, timeout) => {
          const attempt = CallAttempt.make(info, number)
          return attempts.run(attempt, inner, () => transport.unary(attemptOf(call, timeout, attempt), encoded.value))
        })
        return circuit(call.method.path.slice(1), made)
      })
    })

  const serverStream = (call: Call, request: object): Stream.Stream<object, GrpcError> => {
    const info = describe(call)
    const made = Effect.gen(function* () {
      const encoded = yield* Effect.mapError(call.method.encode(request), (status) => Retry.errorOf(call, status))
      yield* failIfLate(call)
      const { streamRetry } = serviceState(info.service)
      const responses = yield* Retry.run(call, streamRetry, (number, timeout) => {
        const attempt = CallAttempt.make(info, number)
        const begin = Effect.suspend(() => transport.serverStream(attemptOf(call, timeout, attempt), encoded))
        return InterceptedStream.open(attempts, attempt, begin)
      })
      return Stream.mapError(responses, (status) => Retry.errorOf(call, status))
    })
    return Stream.unwrap(InterceptedStream.open(calls, info, made))
  }

  const clientStream = <E, R>(
    call: Call,
    requests: Stream.Stream<object, E, R>
  ): Effect.Effect<object, GrpcError | E, R> =>
    Effect.withFiber(({ context }) => {
      const info = describe(call)
      return calls.run(info, context, () => {
        const attempt = CallAttempt.make(info, 1)
        const made = Effect.withFiber<object, Status.Status | E, R>(({ context }) =>
          attempts.run(attempt, context, () =>
            Effect.suspend(() => transport.clientStream(attemptOf(call, timeLeft(call), attempt), requests))
          )
        )
        return Effect.andThen(
          failIfLate(call),
          Effect.mapError(made, (error) => toGrpcError(call, error))
        )
      })
    })

  const bidi = <E, R>(call: Call, requests: Stream.Stream<object, E, R>): Stream.Stream<object, GrpcError | E, R> => {
    const info = describe(call)
    const made = Effect.gen(function* () {
      yield* failIfLate(call)
      const attempt = CallAttempt.make(info, 1)
      const begin = Effect.suspend(() => transport.bidi(attemptOf(call, timeLeft(call), attempt), requests))
      const responses = yield* Effect.mapError(InterceptedStream.open(attempts, attempt, begin), (status) =>
        Retry.errorOf(call, status)
      )
      return Stream.mapError(responses, (error) => toGrpcError(call, error))
    })
    return Stream.unwrap(InterceptedStream.open(calls, info, made))
  }

  return { target, unary, serverStream, clientStream, bidi }
}

const timeLeft = ({ deadline }: Call): number => deadline - performance.now()

const failIfLate = (call: Call): Effect.Effect<void, GrpcError> =>
  Effect.suspend(() => (timeLeft(call) > 0 ? Effect.void : Effect.fail(Retry.errorOf(call, deadlineExceeded))))

const deadlineExceeded = Status.deadlineExceeded("Deadline exceeded before the call was sent")

/** Errors of the request Stream are passed through. */
const toGrpcError = <E>(call: Call, error: E | Status.Status): Exclude<E, Status.Status> | GrpcError =>
  Status.isStatus(error) ? Retry.errorOf(call, error) : (error as Exclude<E, Status.Status>)

const decoder =
  ({ method, responseLimit }: Call, observeCompression: boolean) =>
  (bytes: Buffer): object => {
    const response = method.decode(responseLimit === undefined ? bytes : ResponseLimit.apply(bytes, responseLimit))
    if (observeCompression && MessageCompression.isCompressed(bytes)) MessageCompression.markCompressed(response)
    return response
  }
