/**
 * A call of one request and one response, straight on a channel of grpc-js.
 *
 * Its Client makes such a call with an event emitter, a list of interceptors and a stack that is noted for the case of an error, of
 * which nothing is used here and which was a twelfth of a page (npm run bench). What fails is worded as it does.
 */
import { type Client, InterceptingCall, type Interceptor, type Metadata, type StatusObject } from "@grpc/grpc-js"
import { Exit } from "effect"

import type * as CallbackGuard from "../../telemetry/CallbackGuard.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"

export interface Options {
  readonly channel: ReturnType<Client["getChannel"]>
  readonly method: {
    readonly path: string
    readonly requestSerialize: (message: object) => Buffer
    readonly responseDeserialize: (bytes: Buffer) => object
  }
  readonly request: object
  /** What goes out ahead of the request; it is copied. */
  readonly metadata: Metadata
  /** When it must be over, by the clock of the machine, in milliseconds since 1970. */
  readonly deadline: number
  /** Told of what a server sends besides its response. */
  readonly listener: ((metadata: { readonly headers: Metadata } | { readonly trailers: Metadata }) => void) | undefined
  /** For what grpc-js calls back. */
  readonly guard: CallbackGuard.Guard
  /** Called once, when the response and the trailers are there, or the status that the call has failed with. */
  readonly onEnd: (outcome: Exit.Exit<object, Status.Status>) => void
}

/** A call that is under way. */
export interface UnaryCall {
  readonly cancel: () => void
  readonly getPeer: () => string
}

/** So many messages after the first are read on the way to the status, which may be that of an error. Then the call is cancelled. */
const maxExtraMessages = 8

export const start = (options: Options): UnaryCall => {
  const { channel, deadline, guard, listener, metadata, method, onEnd, request } = options
  const call = channel.createCall(method.path, deadline, undefined, null, undefined)
  let response: object | undefined
  let extraMessages = 0
  /** What is wrong with the response, whatever its status says. */
  let unreadable: Status.Status | undefined
  let hasEnded = false
  const fail = (status: Status.Status) => call.cancelWithStatus(status.code, status.message)
  const end = (outcome: Exit.Exit<object, Status.Status>) => {
    if (hasEnded) return
    hasEnded = true
    onEnd(outcome)
  }
  const onBug = {
    annotations: () => ({ method: method.path, peer: call.getPeer() }),
    recover: () => {
      call.cancelWithStatus(Status.codes.Internal, bug)
      end(Exit.fail(Status.internal(bug)))
    }
  }
  call.start(metadata, {
    onReceiveMetadata: guard("response headers of a gRPC call", (headers: Metadata) => listener?.({ headers }), onBug),
    onReceiveMessage: guard(
      "response of a gRPC call",
      (bytes: Buffer) => {
        // the status comes after the messages, and only if they are all read
        call.startRead()
        if (response !== undefined) {
          if (++extraMessages > maxExtraMessages) fail(tooMany)
          return
        }
        try {
          response = method.responseDeserialize(bytes)
        } catch (error) {
          unreadable = Status.internal(`Response message parsing error: ${messageOf(error)}`)
          fail(unreadable)
        }
      },
      onBug
    ),
    onReceiveStatus: guard(
      "status of a gRPC call",
      (status: StatusObject) => {
        listener?.({ trailers: status.metadata })
        end(unreadable === undefined ? exitOf(status, response, extraMessages) : Exit.fail(unreadable))
      },
      onBug
    )
  })
  call.startRead()
  try {
    call.sendMessageWithContext({}, method.requestSerialize(request))
    call.halfClose()
  } catch (error) {
    fail(Status.internal(`Request message serialization failure: ${messageOf(error)}`))
  }
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
 * Does the same for a call that is made by a Client of grpc-js and answered once: it reads on after the first message, and gives the
 * status that follows, which is UNIMPLEMENTED if there were more of them and it says OK.
 */
export const readOn: Interceptor = (options, nextCall) => {
  const call = nextCall(options)
  let messages = 0
  return new InterceptingCall(call, {
    start: (metadata, listener, next) =>
      // with three listeners of one parameter, grpc-js waits for no `next` of a message that is left out
      next(metadata, {
        onReceiveMetadata: (headers: Metadata) => listener.onReceiveMetadata(headers),
        onReceiveMessage: (message: unknown) => {
          // what grpc-js says at the end of a call without one
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
