/**
 * A gRPC client over grpc-js: a service becomes functions from a request to an Effect that fails with one
 * {@link GrpcError}. Interrupting the Effect cancels the call. Streams of messages are Streams, in either direction, and are
 * read and written as fast as the other side does.
 *
 * ```ts
 * const recommendations = yield* GrpcClient.make(RecommendationsService)
 * const { books } = yield* recommendations.Recommend({ maxResults: 3 }, { timeout: "800 millis" }).pipe(
 *   Effect.catchReason("GrpcError", "NotFound", (status) => ...)
 * )
 * ```
 *
 * A call has the time that its options give it, and never more than what it is made for: see {@link Deadline}. A method that
 * its proto marks as free of side effects, or idempotent, is called again when that may help: see {@link Retry}. One that
 * answers with a stream is until its first message, with no time-out of an attempt; one with a stream of requests, which cannot
 * be had twice, is not. Calls with streams, which may be silent for long and well, neither heed nor open the channel's circuit.
 */
import type { Writable } from "node:stream"

import { NodeStream } from "@effect/platform-node"
import {
  type Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientWritableStream,
  Metadata,
  type ServiceError,
  type StatusObject
} from "@grpc/grpc-js"
import {
  Cause,
  Context,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Option,
  Pull,
  Random,
  Record,
  type Scope,
  Stream
} from "effect"

import * as CallbackGuard from "../telemetry/CallbackGuard.ts"
import * as RequestValidation from "./client/RequestValidation.ts"
import * as ResponseLimit from "./client/ResponseLimit.ts"
import * as Retry from "./client/Retry.ts"
import * as UnaryCall from "./client/UnaryCall.ts"
import { Deadline } from "./Deadline.ts"
import * as EmbeddedProtos from "./EmbeddedProtos.ts"
import * as Compat from "./grpc-js/compat.ts"
import * as ResponseCompression from "./grpc-js/ResponseCompression.ts"
import { GrpcChannel } from "./GrpcChannel.ts"
import { GrpcError } from "./GrpcError.ts"
import { type ClientAttempt, type ClientCall, clientStatusOf } from "./GrpcInterceptor.ts"
import type * as GrpcService from "./GrpcService.ts"
import * as InterceptorChain from "./InterceptorChain.ts"
import * as MessageCompression from "./MessageCompression.ts"
import * as Status from "./Status.ts"
import * as StatusCodec from "./StatusCodec.ts"
import { writeAll } from "./Writing.ts"

/** What a caller may say about one call. */
export interface CallOptions {
  /** How long the call may take, all attempts together; the server is told. Without it, as long as {@link Deadline} allows. */
  readonly timeout?: Duration.Input | undefined
  readonly metadata?: Metadata | undefined
  /** How much of the response is decoded, for a call of one request and one response: all of it unless it is said. */
  readonly responseLimit?: ResponseLimit.ResponseLimit | undefined
}

/** One function for each method of a service. */
export type GrpcClient<Methods> = {
  readonly [Name in keyof Methods]: Methods[Name] extends GrpcService.AnyMethod ? Caller<Methods[Name]> : never
}

type Caller<Method extends GrpcService.AnyMethod> = {
  readonly unary: (
    request: Method["requestIn"],
    options?: CallOptions
  ) => Effect.Effect<Method["responseOut"], GrpcError>
  readonly serverStream: (
    request: Method["requestIn"],
    options?: CallOptions
  ) => Stream.Stream<Method["responseOut"], GrpcError>
  readonly clientStream: <E, R>(
    requests: Stream.Stream<Method["requestIn"], E, R>,
    options?: CallOptions
  ) => Effect.Effect<Method["responseOut"], GrpcError | E, R>
  readonly bidi: <E, R>(
    requests: Stream.Stream<Method["requestIn"], E, R>,
    options?: CallOptions
  ) => Stream.Stream<Method["responseOut"], GrpcError | E, R>
}[Method["kind"]]

/** Metadata that goes out with every call that is made within an effect. */
export const RequestMetadata = Context.Reference<Metadata>("layers/grpc/GrpcClient/RequestMetadata", {
  defaultValue: () => new Metadata()
})

/** What a server sent besides its response. */
export interface ResponseMetadata {
  /** Ahead of the first message; empty if none came. */
  readonly headers: Metadata
  /** After the last one. */
  readonly trailers: Metadata
}

/** What is told of the metadata of the calls within an effect. */
const ResponseListener = Context.Reference<((metadata: Partial<ResponseMetadata>) => void) | undefined>(
  "layers/grpc/GrpcClient/ResponseListener",
  { defaultValue: () => undefined }
)

/** Gives, with what an effect succeeds with, the metadata that came with the response of the last call in it. */
export const withResponseMetadata = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [A, ResponseMetadata], E, R> =>
  Effect.suspend(() => {
    let latest: ResponseMetadata = { headers: new Metadata(), trailers: new Metadata() }
    return effect.pipe(
      Effect.provideService(ResponseListener, (metadata) => {
        latest = { ...latest, ...metadata }
      }),
      Effect.map((value) => [value, latest] as const)
    )
  })

export interface Options {
  /**
   * Lets {@link MessageCompression.isCompressed} tell whether a response came compressed. It costs a little for each response of the
   * process, and relies on what grpc-js keeps private; without it, no response is reported as compressed.
   */
  readonly observeCompression?: boolean | undefined
}

/** The functions of a service. They fail before anything is sent if a message cannot carry what it is given. */
export const make = Effect.fnUntraced(function* <Methods>(
  service: GrpcService.GrpcService<Methods>,
  options: Options = {}
): Effect.fn.Return<GrpcClient<Methods>, never, GrpcChannel> {
  const channel = yield* GrpcChannel
  const guard = CallbackGuard.make(yield* Effect.context<never>())
  const isObserved = options.observeCompression === true && (yield* Compat.apply(ResponseCompression.patch))
  // one function a method, each of which takes what the service's types say
  return Record.map(EmbeddedProtos.methods(service), (method) => {
    const { decode } = method.response
    return makeCaller(channel, guard, method, isObserved ? MessageCompression.observedDecode(decode) : decode)
  }) as unknown as GrpcClient<Methods>
})

/** What there is to know of a call before it is made. Its deadline is by `performance.now()`. */
interface Plan extends ClientCall {
  readonly listener: ((metadata: Partial<ResponseMetadata>) => void) | undefined
}

/** One attempt, which is told how long it has. */
type Attempt<A, R = never> = (info: AttemptInfo, timeLeft: number) => Effect.Effect<A, Status.Status, R>

/** An attempt, as interceptors see it. */
class AttemptInfo implements ClientAttempt {
  readonly plan: Plan
  readonly attempt: number
  readonly startedAt = performance.now()
  /** What tells who gets it, once it is under way. */
  call: { readonly getPeer: () => string } | undefined

  constructor(plan: Plan, attempt: number) {
    this.plan = plan
    this.attempt = attempt
  }

  get service() {
    return this.plan.service
  }
  get method() {
    return this.plan.method
  }
  get kind() {
    return this.plan.kind
  }
  get target() {
    return this.plan.target
  }
  get deadline() {
    return this.plan.deadline
  }
  get metadata() {
    return this.plan.metadata
  }

  peer = () => this.call?.getPeer()
}

const makeCaller = (
  channel: GrpcChannel["Service"],
  guard: CallbackGuard.Guard,
  { isIdempotent, kind, path, request }: EmbeddedProtos.ServiceMethod,
  deserialize: EmbeddedProtos.Codec["decode"]
) => {
  const serialize = request.encode
  const name = path.slice(1)
  const [, service = "", methodName = ""] = path.split("/")
  const around = InterceptorChain.make(channel.interceptors, clientStatusOf).run
  const aroundAttempt = InterceptorChain.make(channel.attemptInterceptors, clientStatusOf).run
  const check = RequestValidation.of(request.type())
  const validate = (message: object): Effect.Effect<void, GrpcError> => {
    const violations = check(message)
    return violations.length === 0 ? Effect.void : fail(Status.invalidArgument(violations))
  }

  const planIn = (context: Context.Context<never>, options: CallOptions | undefined): Plan => {
    const deadline = Context.get(context, Deadline)
    const own = options?.timeout === undefined ? Infinity : performance.now() + Duration.toMillis(options.timeout)
    const metadata = Context.get(context, RequestMetadata).clone()
    if (options?.metadata !== undefined) {
      metadata.merge(options.metadata)
      metadata.setOptions(options.metadata.getOptions())
    }
    return {
      service,
      method: methodName,
      kind,
      target: channel.target,
      startedAt: performance.now(),
      deadline: Math.min(own, deadline),
      metadata,
      listener: Context.get(context, ResponseListener)
    }
  }

  const plan = (options: CallOptions | undefined): Effect.Effect<Plan> =>
    Effect.withFiber(({ context }) => Effect.succeed(planIn(context, options)))

  const fail = (reason: Status.Status) => Effect.fail(new GrpcError({ method: name, reason }))
  const noTimeLeft = Effect.suspend(() => fail(Status.deadlineExceeded("There was no time left to make the call")))

  /** How long there is for a call, if there is any time left. */
  const timeLeft = ({ deadline }: Plan): Effect.Effect<number, GrpcError> =>
    Effect.suspend(() => {
      const left = deadline - performance.now()
      return left > 0 ? Effect.succeed(left) : noTimeLeft
    })

  /** Makes attempts until one succeeds, or another one would not help. */
  const attempts = <A, R>(
    plan: Plan,
    attemptTimeout: number,
    attempt: Attempt<A, R>
  ): Effect.Effect<A, GrpcError, R> => {
    const { budget, retry } = channel
    const maxAttempts = isIdempotent ? retry.maxAttempts : 1
    const make = (number: number): Effect.Effect<A, GrpcError, R> => {
      const timeLeft = plan.deadline - performance.now()
      // without a limit, a call is not to hang for being one that the budget leaves alone
      const isLast = number >= maxAttempts || (timeLeft < Infinity && !budget.allows())
      // the last one may have all that is left
      const own = isLast ? timeLeft : Math.min(attemptTimeout * 2 ** (number - 1), timeLeft)
      return Effect.matchEffect(attempt(new AttemptInfo(plan, number), own), {
        onSuccess: (response) => {
          budget.onSuccess()
          return Effect.succeed(response)
        },
        onFailure: (status) => {
          if (!isIdempotent || !Retry.isRetryable(status, own < timeLeft)) return fail(status)
          return budget.onFailure() && !isLast ? again(number + 1, status) : fail(status)
        }
      })
    }
    const again = (number: number, status: Status.Status): Effect.Effect<A, GrpcError, R> =>
      Effect.gen(function* () {
        const pushback = Retry.pushbackOf(status)
        if (pushback !== undefined && Option.isNone(pushback)) return yield* fail(status)
        const wait = pushback?.value ?? Retry.backoff(retry, number, yield* Random.next)
        if (performance.now() + Duration.toMillis(wait) >= plan.deadline) return yield* fail(status)
        yield* Effect.sleep(wait)
        plan.metadata.set("grpc-previous-rpc-attempts", String(number - 1))
        return yield* make(number)
      })
    return make(1)
  }

  /** Makes a call with a client that is given back when it has ended, and cancels it if it has not by then. */
  const open = <Call extends { readonly cancel: () => void; readonly getPeer: () => string } & Observable>(
    info: AttemptInfo,
    timeLeft: number,
    start: (client: Client, options: { readonly deadline: number }) => Call
  ): Effect.Effect<Call, Status.Status, Scope.Scope> =>
    Effect.map(
      Effect.acquireRelease(
        Effect.suspend(() => {
          const lease = channel.lease()
          if (lease._tag !== "Lease") return Effect.fail<Status.Status>(lease)
          const { client, release } = lease
          const call = releasedIfThrown(release, () => start(client, toDeadline(timeLeft)))
          observe(guard, call, info.plan.listener)
          info.call = call
          // Whoever reads the call hears of its error. Once nobody does, the error comes all the same (that it was cancelled,
          // most often), and Node ends a process for an error that nobody listens for.
          call.on("error", () => {})
          return Effect.succeed({ call, release })
        }),
        ({ call, release }) =>
          Effect.sync(() => {
            cancel(guard, call)
            release()
          })
      ),
      ({ call }) => call
    )

  const unaryAttempt = (request: object, limit: ResponseLimit.ResponseLimit | undefined): Attempt<object> => {
    const method = {
      path,
      requestSerialize: serialize,
      responseDeserialize:
        limit === undefined ? deserialize : (bytes: Buffer) => deserialize(ResponseLimit.apply(bytes, limit))
    }
    return (info, timeLeft) =>
      Effect.callback<object, Status.Status>((resume) => {
        const { listener, metadata } = info.plan
        const lease = channel.lease()
        if (lease._tag !== "Lease") return resume(Effect.fail(lease))
        const { client, release } = lease
        const call = releasedIfThrown(release, () =>
          UnaryCall.start({
            channel: client.getChannel(),
            method,
            request,
            metadata,
            ...toDeadline(timeLeft),
            listener,
            guard,
            onEnd: (outcome) => {
              release()
              resume(outcome)
            }
          })
        )
        info.call = call
        return Effect.sync(() => {
          cancel(guard, call)
          release()
        })
      })
  }

  const attemptTimeout = Duration.toMillis(channel.retry.attemptTimeout)

  // what nearly all calls do is few steps here, since a page waits for it
  const unary = (request: object, options?: CallOptions) =>
    Effect.withFiber<object, GrpcError>(({ context }) => {
      const planned = planIn(context, options)
      const violations = check(request)
      const attempt = unaryAttempt(request, options?.responseLimit)
      return around(planned, context, (within) => {
        if (violations.length > 0) return fail(Status.invalidArgument(violations))
        if (planned.deadline <= performance.now()) return noTimeLeft
        const made = attempts(planned, attemptTimeout, (info, timeLeft) =>
          aroundAttempt(info, within, () => attempt(info, timeLeft))
        )
        return channel.guard(name, made)
      })
    })

  // until its first message, a call can be made again without anybody having seen the one before
  const serverStreamAttempt =
    (request: object): Attempt<Stream.Stream<object, Status.Status>, Scope.Scope> =>
    (info, timeLeft) =>
      Effect.gen(function* () {
        const call = yield* open(info, timeLeft, (client, options) =>
          client.makeServerStreamRequest(path, serialize, deserialize, request, info.metadata, options)
        )
        const pull = yield* Stream.toPull(messagesOf(call))
        let first: typeof pull | undefined = yield* pull.pipe(
          Effect.map((messages) => Effect.succeed(messages)),
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

  const serverStream = (request: object, options?: CallOptions) =>
    Stream.unwrap(
      Effect.map(plan(options), (planned) => {
        const attempt = serverStreamAttempt(request)
        const call = Effect.gen(function* () {
          yield* validate(request)
          yield* timeLeft(planned)
          const stream = yield* attempts(planned, Infinity, (info, timeLeft) =>
            lasting((held) => holding(aroundAttempt, info, held), attempt(info, timeLeft))
          )
          return Stream.mapError(stream, (reason) => new GrpcError({ method: name, reason }))
        })
        return Stream.unwrap(lasting((held) => holding(around, planned, held), call))
      })
    )

  const write = <E, R>(call: Writable, requests: Stream.Stream<object, E, R>) =>
    requests.pipe(
      Stream.tap(validate),
      Stream.runForEachArray((messages) => writeAll(call, messages)),
      Effect.andThen(Effect.sync(() => void call.end()))
    )

  const clientStream = Effect.fnUntraced(function* <E, R>(
    requests: Stream.Stream<object, E, R>,
    options?: CallOptions
  ) {
    const planned = yield* plan(options)
    const info = new AttemptInfo(planned, 1)
    const attempt = Effect.fnUntraced(function* (timeLeft: number) {
      const ended = yield* Deferred.make<object, Status.Status>()
      const onEnd = oneResponse(guard, (outcome) => Deferred.doneUnsafe(ended, outcome))
      const call = yield* open(info, timeLeft, (client, options): ClientWritableStream<object> =>
        client.makeClientStreamRequest(
          path,
          serialize,
          deserialize,
          info.metadata,
          { ...options, interceptors: [UnaryCall.readOn] },
          onEnd.callback
        )
      )
      call.on("status", onEnd.onStatus)
      // the server may answer before it has read all; what cannot be written is no answer
      return yield* Effect.raceFirst(Deferred.await(ended), Effect.andThen(write(call, requests), Effect.never))
    }, Effect.scoped)
    const call = Effect.flatMap(timeLeft(planned), (timeLeft) =>
      Effect.mapError(holding(aroundAttempt, info, attempt(timeLeft)), toGrpcError)
    )
    return yield* holding(around, planned, call)
  })

  const bidi = <E, R>(requests: Stream.Stream<object, E, R>, options?: CallOptions) =>
    Stream.unwrap(
      Effect.map(plan(options), (planned) => {
        const info = new AttemptInfo(planned, 1)
        const attempt = Effect.fnUntraced(function* (
          timeLeft: number
        ): Effect.fn.Return<Stream.Stream<object, E | GrpcError | Status.Status, R>, Status.Status, Scope.Scope> {
          const call = yield* open(info, timeLeft, (client, options): ClientDuplexStream<object, object> =>
            client.makeBidiStreamRequest(path, serialize, deserialize, info.metadata, options)
          )
          return Stream.merge(messagesOf(call), Stream.fromEffectDrain(write(call, requests)), {
            haltStrategy: "left"
          })
        })
        const call = Effect.flatMap(timeLeft(planned), (timeLeft) =>
          lasting((held) => holding(aroundAttempt, info, held), attempt(timeLeft)).pipe(
            Effect.map(Stream.mapError(toGrpcError)),
            Effect.mapError(toGrpcError)
          )
        )
        return Stream.unwrap(lasting((held) => holding(around, planned, held), call))
      })
    )

  /** The errors of a stream of requests are the caller's own. */
  const toGrpcError = <E>(error: E | Status.Status): Exclude<E, Status.Status> | GrpcError =>
    Status.isStatus(error) ? new GrpcError({ method: name, reason: error }) : (error as Exclude<E, Status.Status>)

  return { unary, serverStream, clientStream, bidi }[kind]
}

/** What is around an effect that is made already, whatever its context. */
const holding = <Info, A, E, R>(
  around: InterceptorChain.InterceptorChain<Info, unknown, unknown>["run"],
  info: Info,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => Effect.withFiber(({ context }) => around(info, context, () => effect))

/**
 * Begins a stream within what is around it: an effect that goes on for as long as the stream does, and ends as it ends. It runs
 * beside the stream, since nobody knows who will read that, and when.
 */
const lasting = <A, E, F, R, R2>(
  around: (held: Effect.Effect<void, E>) => Effect.Effect<void, E>,
  begin: Effect.Effect<Stream.Stream<A, F, R2>, E, R>
): Effect.Effect<Stream.Stream<A, F, R2>, E, R | Scope.Scope> =>
  Effect.gen(function* () {
    const inside = yield* Deferred.make<Context.Context<never>, E>()
    const ended = yield* Deferred.make<void, E>()
    const held = yield* around(
      Effect.flatMap(Effect.context<never>(), (context) =>
        Effect.andThen(Deferred.succeed(inside, context), Deferred.await(ended))
      )
    ).pipe(
      // what lets nothing begin fails instead of it
      Effect.onExit((exit) =>
        Exit.isFailure(exit) ? Deferred.failCause(inside, exit.cause) : Deferred.interrupt(inside)
      ),
      Effect.forkScoped({ startImmediately: true })
    )
    const context = yield* Deferred.await(inside)
    let isOver = false
    const end = (exit: Exit.Exit<unknown, unknown>) =>
      Effect.andThen(
        // a reader who has had enough, or has failed by himself, has cancelled it
        isOver || isOwnFailure(exit)
          ? Deferred.done(ended, Exit.asVoid(exit as Exit.Exit<unknown, E>))
          : Deferred.interrupt(ended),
        Fiber.await(held)
      )
    const stream = yield* begin.pipe(
      Effect.updateContext((current: Context.Context<R>) => Context.merge(current, context)),
      Effect.onError((cause) => end(Exit.failCause(cause)))
    )
    return stream.pipe(
      Stream.onEnd(Effect.sync(() => (isOver = true))),
      Stream.onExit((exit) => Effect.suspend(() => end(exit)))
    )
  })

/**
 * Cancels a call, and once more when grpc-js has come to do what it puts off at the start of a call: it does not look whether
 * the call has been cancelled by then, and sends it, to a handler that nobody would ever tell.
 */
const cancel = (guard: CallbackGuard.Guard, call: { readonly cancel: () => void }): void => {
  call.cancel()
  setImmediate(guard("cancellation of a gRPC call", () => call.cancel()))
}

/** Gives a lease back if no call comes of it. */
const releasedIfThrown = <A>(release: () => void, start: () => A): A => {
  try {
    return start()
  } catch (bug) {
    release()
    throw bug
  }
}

/** By the wall clock, as grpc-js takes deadlines. It makes a timer of it at once, so that the clock may be set after that. */
const toDeadline = (timeLeft: number) => ({ deadline: Date.now() + timeLeft })

/** Whether a stream has failed by itself, or died, or was interrupted. */
const isOwnFailure = (exit: Exit.Exit<unknown, unknown>): boolean => {
  if (Exit.isSuccess(exit)) return false
  const failure = exit.cause.reasons.find(Cause.isFailReason)?.error
  return failure === undefined || failure instanceof GrpcError || Status.isStatus(failure)
}

/** What tells of the metadata of a response. */
interface Observable {
  on(event: "error", listener: (error: Error) => void): unknown
  on(event: "metadata", listener: (metadata: Metadata) => void): unknown
  on(event: "status", listener: (status: StatusObject) => void): unknown
}

/**
 * Takes the response of a call that has one. grpc-js gives it, or the error, to its callback, and tells of the trailers after
 * that: whoever waits for the response goes on when both are there.
 */
const oneResponse = (guard: CallbackGuard.Guard, end: (outcome: Effect.Effect<object, Status.Status>) => void) => {
  let outcome: Effect.Effect<object, Status.Status>
  return {
    callback: (error: ServiceError | null, response?: object) => {
      // grpc-js fails a call that ends with OK and without a response
      outcome = error === null ? Effect.succeed(response!) : Effect.fail(StatusCodec.decode(error))
    },
    onStatus: guard("status of a gRPC call", () => end(outcome))
  }
}

const observe = (guard: CallbackGuard.Guard, call: Observable, listener: Plan["listener"]): void => {
  if (listener === undefined) return
  call.on(
    "metadata",
    guard("response headers of a gRPC call", (headers) => listener({ headers }))
  )
  call.on(
    "status",
    guard("status of a gRPC call", ({ metadata }) => listener({ trailers: metadata }))
  )
}

/** The messages that a server sends; no more of them are taken from the connection than are read here. */
const messagesOf = (call: ClientReadableStream<object>): Stream.Stream<object, Status.Status> =>
  NodeStream.fromReadable<object, Status.Status>({
    evaluate: () => call,
    onError: (error) => StatusCodec.decode(error as StatusCodec.Received),
    closeOnDone: false
  })
