/**
 * A call of one request and one response, straight on a channel of grpc-js.
 *
 * Its Client makes such a call with an event emitter, a list of interceptors and a stack that is noted for the case of an error, of
 * which nothing is used here and which was a twelfth of a page (npm run bench). What fails is worded as it does.
 */
import type { Client, Metadata, StatusObject } from "@grpc/grpc-js"
import type { MethodDefinition } from "@grpc/proto-loader"
import { Exit } from "effect"

import * as Status from "./Status.ts"
import * as StatusWire from "./StatusWire.ts"

export interface Options {
  readonly channel: ReturnType<Client["getChannel"]>
  readonly method: Pick<MethodDefinition<object, object>, "path" | "requestSerialize" | "responseDeserialize">
  readonly request: object
  /** What goes out ahead of the request; it is copied. */
  readonly metadata: Metadata
  /** When it must be over, by the clock of the machine, in milliseconds since 1970. */
  readonly deadline: number
  /** Told of what a server sends besides its response. */
  readonly listener: ((metadata: { readonly headers: Metadata } | { readonly trailers: Metadata }) => void) | undefined
  /** Called once, when the response and the trailers are there, or the status that the call has failed with. */
  readonly onEnd: (outcome: Exit.Exit<object, Status.Status>) => void
}

/** A call that is under way. */
export interface UnaryCall {
  readonly cancel: () => void
  readonly getPeer: () => string
}

export const start = ({ channel, deadline, listener, metadata, method, onEnd, request }: Options): UnaryCall => {
  const call = channel.createCall(method.path, deadline, undefined, null, undefined)
  let response: object | undefined
  /** What is wrong with the response, whatever its status says. */
  let unreadable: Status.Status | undefined
  const fail = (status: Status.Status) => call.cancelWithStatus(status.code, status.message)
  call.start(metadata, {
    onReceiveMetadata: (headers) => listener?.({ headers }),
    onReceiveMessage: (bytes: Buffer) => {
      if (response !== undefined) return fail(Status.unimplemented("Too many responses received"))
      try {
        response = method.responseDeserialize(bytes)
      } catch (error) {
        unreadable = Status.internal(`Response message parsing error: ${messageOf(error)}`)
        fail(unreadable)
      }
    },
    onReceiveStatus: (status) => {
      listener?.({ trailers: status.metadata })
      onEnd(unreadable === undefined ? exitOf(status, response) : Exit.fail(unreadable))
    }
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

const exitOf = (status: StatusObject, response: object | undefined): Exit.Exit<object, Status.Status> => {
  if (status.code !== 0) return Exit.fail(StatusWire.decode(status))
  return response === undefined ? Exit.fail(Status.unimplemented("No message received")) : Exit.succeed(response)
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
