/**
 * One gRPC call at the level of HTTP/2, which can be held open: its message is sent when the test says so.
 */
import { connect, constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type Settings } from "node:http2"

import { Deferred, Effect } from "effect"

/** A unary call that the server knows of, and that goes on when the test says so. */
export interface HeldCall {
  /** Sends the message, but not that it is the last one. */
  readonly send: Effect.Effect<void>
  /** Says that there are no more messages. */
  readonly end: Effect.Effect<void>
  /** The grpc-status that the call ends with. */
  readonly status: Effect.Effect<string>
  /** All of these in turn. */
  readonly finish: Effect.Effect<string>
}

/** A connection, closed with the scope. */
const open = Effect.fnUntraced(function* (port: number, settings: Settings = {}) {
  const session = yield* Effect.acquireRelease(
    Effect.sync(() => connect(`http://localhost:${port}`, { settings })),
    (session) => Effect.sync(() => session.destroy())
  )
  yield* Effect.callback<void>((resume) => {
    session.once("remoteSettings", () => resume(Effect.void))
    session.once("error", (error) => resume(Effect.die(error)))
  })
  // an error after this ends its calls, which say so
  session.on("error", () => {})
  return session
})

/** A connection on which nothing happens. */
export const idle = (port: number) => open(port)

/** Begins a call with an empty message, such as ListCategories takes; the connection is closed with the scope. */
export const hold = Effect.fnUntraced(function* (
  port: number,
  path: string,
  headers: OutgoingHttpHeaders = {},
  settings: Settings = {}
) {
  const session = yield* open(port, settings)
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_PATH]: path,
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
    [constants.HTTP2_HEADER_TE]: "trailers",
    ...headers
  })
  const status = yield* Deferred.make<string>()
  const onHeaders = (headers: IncomingHttpHeaders) => {
    const value = headers["grpc-status"]
    if (value !== undefined) Deferred.doneUnsafe(status, Effect.succeed(String(value)))
  }
  // a call that fails has its status in its headers
  stream.on("response", onHeaders)
  stream.on("trailers", onHeaders)
  stream.on("error", (error) => Deferred.doneUnsafe(status, Effect.succeed(error.message)))
  stream.on("close", () => Deferred.doneUnsafe(status, Effect.succeed("closed without a status")))
  stream.resume()
  // a ping comes back after all that was sent before it has been read
  yield* Effect.callback<void>((resume) => {
    session.ping((error) => resume(error === null ? Effect.void : Effect.die(error)))
  })
  // a frame of five bytes: not compressed, no bytes long
  const send = Effect.sync(() => void stream.write(Buffer.alloc(5)))
  const end = Effect.sync(() => void stream.end())
  return {
    send,
    end,
    status: Deferred.await(status),
    finish: Effect.andThen(Effect.andThen(send, end), Deferred.await(status))
  } satisfies HeldCall as HeldCall
})

/** Makes a call of which all is said by the test, and gives the grpc-status that it ends with, if there is one. */
export const send = (
  target: string,
  call: { readonly path: string; readonly body: Uint8Array; readonly headers?: OutgoingHttpHeaders | undefined }
) =>
  Effect.callback<string | undefined>((resume) => {
    const session = connect(`http://${target}`)
    session.on("error", (error) => resume(Effect.die(error)))
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: "POST",
      [constants.HTTP2_HEADER_PATH]: call.path,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
      [constants.HTTP2_HEADER_TE]: "trailers",
      ...call.headers
    })
    let status: string | undefined
    const onHeaders = (headers: IncomingHttpHeaders) => {
      status ??= headers["grpc-status"] as string | undefined
    }
    stream.on("response", onHeaders)
    stream.on("trailers", onHeaders)
    // what is answered before all of it has been read is reset
    stream.on("error", () => {})
    stream.on("close", () => {
      session.destroy()
      resume(Effect.succeed(status))
    })
    stream.resume()
    stream.end(call.body)
  })
