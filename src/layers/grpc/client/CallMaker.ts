/**
 * Makes the calls of a channel, of each kind: within the interceptors, in attempts that are retried. A {@link Transport} makes each
 * attempt: over HTTP/2 by grpc-js (`UnaryCall`, `StreamCall`), or in memory (`layers/testing`).
 *
 * Unary calls go through the circuit breaker of their service. Streaming calls may be idle for long, so they bypass the circuit breaker.
 * A server-streaming call is retried until its first response; a call with a stream of requests is not retried, since the requests cannot
 * be read twice.
 */
import { Cause, Context, Deferred, Effect, Exit, Fiber, type Scope, Stream } from "effect"

import type { Call, GrpcChannel } from "../GrpcChannel.ts"
import { GrpcError } from "../GrpcError.ts"
import { type ClientAttempt, type ClientCall, clientStatusOf } from "../GrpcInterceptor.ts"
import { InterceptorChain } from "../InterceptorChain.ts"
import * as DefaultObservers from "../interceptors/DefaultObservers.ts"
import * as MessageCodec from "../MessageCodec.ts"
import * as MessageCompression from "../MessageCompression.ts"
import * as Status from "../Status.ts"
import type { ChannelInterceptors } from "./ChannelOptions.ts"
import type { CircuitBreaker } from "./CircuitBreaker.ts"
import * as Retry from "./Retry.ts"

/** An attempt of a call. */
export interface Attempt extends ClientAttempt {
  readonly call: Call
  /** Timeout of the attempt, in milliseconds. */
  readonly timeout: number
  /** Whether another attempt may still follow this one when its timeout expires; undefined for the only attempt of a call. */
  readonly budget: { readonly allows: boolean } | undefined
  /** Decodes a response; throws if decoding fails. */
  readonly decode: (bytes: Buffer) => object
  /** The call of grpc-js, set by the transport when it creates it. */
  started: { readonly getPeer: () => string } | undefined
}

/** One function for each kind of method. Each makes one attempt, and cancels it when it is interrupted or its scope closes. */
export interface Transport {
  readonly unary: (attempt: Attempt, request: Buffer) => Effect.Effect<object, Status.Status>
  readonly serverStream: (
    attempt: Attempt,
    request: Buffer
  ) => Effect.Effect<Stream.Stream<object, Status.Status>, Status.Status, Scope.Scope>
  readonly clientStream: <E, R>(
    attempt: Attempt,
    requests: Stream.Stream<object, E, R>
  ) => Effect.Effect<object, Status.Status | E, R>
  readonly bidi: <E, R>(
    attempt: Attempt,
    requests: Stream.Stream<object, E, R>
  ) => Effect.Effect<Stream.Stream<object, Status.Status | E, R>, Status.Status, Scope.Scope>
}

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
  /** Creates the state of a service, at its first call. */
  readonly makeServiceState: (service: string) => ServiceState
  readonly interceptors: ChannelInterceptors
  readonly observeCompression: boolean
}

export const make = (options: Options): GrpcChannel["Service"] => {
  const { makeServiceState, observeCompression, target, transport } = options
  const { attemptInterceptors = [], interceptors = [] } = options.interceptors
  const { attemptObservers = DefaultObservers.clientAttempt, observers = DefaultObservers.client } =
    options.interceptors
  const calls = new InterceptorChain<ClientCall, unknown>([...observers, ...interceptors], clientStatusOf)
  const attempts = new InterceptorChain<ClientAttempt, unknown>(
    [...attemptObservers, ...attemptInterceptors],
    clientStatusOf
  )

  const states = new Map<string, ServiceState>()
  const addState = (service: string): ServiceState => {
    const state = makeServiceState(service)
    states.set(service, state)
    return state
  }

  const attemptOf = (call: Call, attempt: number, timeout: number, budget?: Retry.RetryBudget): Attempt => {
    const { deadline, definition, kind, metadata, method, responseLimit, service, target } = call
    const made: Attempt = {
      service,
      method,
      kind,
      target,
      deadline,
      metadata,
      attempt,
      startedAt: performance.now(),
      peer: () => made.started?.getPeer(),
      call,
      timeout,
      budget,
      decode:
        responseLimit === undefined && !observeCompression
          ? definition.decode
          : (bytes) => {
              const kept = responseLimit === undefined ? bytes : MessageCodec.limit(bytes, responseLimit)
              const response = definition.decode(kept)
              if (observeCompression && MessageCompression.isCompressed(bytes)) {
                MessageCompression.markCompressed(response)
              }
              return response
            },
      started: undefined
    }
    return made
  }

  const unary = (call: Call, request: object): Effect.Effect<object, GrpcError> => {
    const { circuit, retry } = states.get(call.service) ?? addState(call.service)
    const made = Effect.withFiber<object, GrpcError>(({ context }) => {
      const encoded = call.definition.encode(request)
      if (Exit.isFailure(encoded)) return Effect.mapError(encoded, (status) => errorOf(call, status))
      if (call.deadline <= performance.now()) return Effect.fail(errorOf(call, deadlineExceeded))
      return circuit(call, () =>
        retried(call, retry, (number, timeout) => {
          const attempt = attemptOf(call, number, timeout, retry.budget)
          return attempts.run(attempt, context, transport.unary(attempt, encoded.value))
        })
      )
    })
    return calls.run(call, call.context, made)
  }

  const serverStream = (call: Call, request: object): Stream.Stream<object, GrpcError> => {
    const made = Effect.gen(function* () {
      const encoded = yield* Effect.mapError(call.definition.encode(request), (status) => errorOf(call, status))
      yield* failIfLate(call)
      const { streamRetry } = states.get(call.service) ?? addState(call.service)
      const responses = yield* retried(call, streamRetry, (number, timeout) => {
        const attempt = attemptOf(call, number, timeout)
        return openStream(
          attempts,
          attempt,
          Effect.suspend(() => transport.serverStream(attempt, encoded))
        )
      })
      return Stream.mapError(responses, (status) => errorOf(call, status))
    })
    return Stream.unwrap(openStream(calls, call, made))
  }

  const clientStream = <E, R>(
    call: Call,
    requests: Stream.Stream<object, E, R>
  ): Effect.Effect<object, GrpcError | E, R> => {
    const made = Effect.withFiber<object, Status.Status | E, R>(({ context }) => {
      const attempt = attemptOf(call, 1, timeLeft(call))
      return attempts.run(
        attempt,
        context,
        Effect.suspend(() => transport.clientStream(attempt, requests))
      )
    })
    return calls.run(
      call,
      call.context,
      Effect.andThen(
        failIfLate(call),
        Effect.mapError(made, (error) => toGrpcError(call, error))
      )
    )
  }

  const bidi = <E, R>(call: Call, requests: Stream.Stream<object, E, R>): Stream.Stream<object, GrpcError | E, R> => {
    const made = Effect.gen(function* () {
      yield* failIfLate(call)
      const attempt = attemptOf(call, 1, timeLeft(call))
      const begin = Effect.suspend(() => transport.bidi(attempt, requests))
      const responses = yield* Effect.mapError(openStream(attempts, attempt, begin), (status) => errorOf(call, status))
      return Stream.mapError(responses, (error) => toGrpcError(call, error))
    })
    return Stream.unwrap(openStream(calls, call, made))
  }

  return { target, unary, serverStream, clientStream, bidi }
}

/** Makes an attempt, and the next one after a retryable failure. The timeout of an attempt is in milliseconds. */
const retried = <A, R>(
  call: Call,
  state: Retry.RetryState,
  make: (attempt: number, timeout: number) => Effect.Effect<A, Status.Status, R>,
  attempt = 1
): Effect.Effect<A, GrpcError, R> => {
  const { attemptTimeout, budget, policy } = state
  const left = call.deadline - performance.now()
  const isLast =
    !call.definition.isIdempotent ||
    attempt >= policy.maxAttempts ||
    // without a deadline the attempt timeout is kept: nothing else ends a call to a server that hangs
    (left < Infinity && !budget.allows)
  const timeout = isLast ? left : Math.min(attemptTimeout * 2 ** (attempt - 1), left)
  return Effect.matchEffect(make(attempt, timeout), {
    onSuccess: (response) => {
      if (!budget.isFull) budget.onSuccess()
      return Effect.succeed(response)
    },
    onFailure: (status) =>
      Effect.flatMap(Retry.decide(call, state, { attempt, isLast, isLimited: timeout < left, status }), (wait) => {
        if (wait === undefined) return Effect.fail(errorOf(call, status))
        call.metadata.set("grpc-previous-rpc-attempts", String(attempt))
        return Effect.andThen(
          Effect.sleep(wait),
          Effect.suspend(() => retried(call, state, make, attempt + 1))
        )
      })
  })
}

/** The error of a call that ended with a status. */
const errorOf = ({ definition }: Call, reason: Status.Status): GrpcError =>
  new GrpcError({ method: definition.path.slice(1), reason })

const timeLeft = ({ deadline }: Call): number => deadline - performance.now()

const failIfLate = (call: Call): Effect.Effect<void, GrpcError> =>
  Effect.suspend(() => (timeLeft(call) > 0 ? Effect.void : Effect.fail(errorOf(call, deadlineExceeded))))

const deadlineExceeded = Status.deadlineExceeded("Deadline exceeded before the call was sent")

/** Errors of the request Stream are passed through. */
const toGrpcError = <E>(call: Call, error: E | Status.Status): Exclude<E, Status.Status> | GrpcError =>
  Status.isStatus(error) ? errorOf(call, error) : (error as Exclude<E, Status.Status>)

/**
 * Begins a Stream of responses within the interceptors of a call. They wrap an Effect that has the lifetime and exit of the Stream. That
 * Effect runs in a separate fiber, since the Stream is consumed elsewhere. `begin` runs in the context that the interceptors provide.
 */
const openStream = <Info, A, E, F, R, R2>(
  chain: InterceptorChain<Info, unknown>,
  info: Info,
  begin: Effect.Effect<Stream.Stream<A, F, R2>, E, R>
): Effect.Effect<Stream.Stream<A, F, R2>, E, R | Scope.Scope> =>
  Effect.gen(function* () {
    const inner = yield* Deferred.make<Context.Context<never>, E>()
    const ended = yield* Deferred.make<void, E>()
    const untilEnd = Effect.flatMap(Effect.context<never>(), (context) =>
      Effect.andThen(Deferred.succeed(inner, context), Deferred.await(ended))
    )
    const intercepted = yield* Effect.withFiber<void, E>(({ context }) => chain.run(info, context, untilEnd)).pipe(
      // an interceptor that fails first prevents the Stream from starting
      Effect.onExit((exit) =>
        Exit.isFailure(exit) ? Deferred.failCause(inner, exit.cause) : Deferred.interrupt(inner)
      ),
      Effect.forkScoped({ startImmediately: true })
    )
    const context = yield* Deferred.await(inner)
    let isComplete = false
    const end = (exit: Exit.Exit<unknown, unknown>) =>
      Effect.andThen(
        // a reader that stops early, or fails, cancels the call
        isComplete || isCallFailure(exit)
          ? Deferred.done(ended, Exit.asVoid(exit as Exit.Exit<unknown, E>))
          : Deferred.interrupt(ended),
        Fiber.await(intercepted)
      )
    const stream = yield* begin.pipe(
      Effect.updateContext((current: Context.Context<R>) => Context.merge(current, context)),
      Effect.onError((cause) => end(Exit.failCause(cause)))
    )
    return stream.pipe(
      Stream.onEnd(Effect.sync(() => (isComplete = true))),
      Stream.onExit((exit) => Effect.suspend(() => end(exit)))
    )
  })

/** Whether the call failed, died, or was interrupted, in contrast to the Stream of its requests. */
const isCallFailure = (exit: Exit.Exit<unknown, unknown>): boolean => {
  if (Exit.isSuccess(exit)) return false
  const failure = exit.cause.reasons.find(Cause.isFailReason)?.error
  return failure === undefined || failure instanceof GrpcError || Status.isStatus(failure)
}
