/**
 * Makes gRPC calls over node:http2, among them calls whose message is sent later.
 */
import { connect, constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type Settings } from "node:http2"

import { Deferred, Effect } from "effect"

/** A unary call whose headers the server has received and whose message is not sent yet. */
export interface HeldCall {
  /** Sends the message without half-closing the stream. */
  readonly send: Effect.Effect<void>
  /** Half-closes the stream. */
  readonly end: Effect.Effect<void>
  /** Waits for the grpc-status of the call. */
  readonly status: Effect.Effect<string>
  /** Sends the message, half-closes the stream and waits for the status. */
  readonly finish: Effect.Effect<string>
}

/** Opens a connection; the scope closes it. */
const open = Effect.fnUntraced(function* (port: number, settings: Settings = {}) {
  const session = yield* Effect.acquireRelease(
    Effect.sync(() => connect(`http://localhost:${port}`, { settings })),
    (session) => Effect.sync(() => session.destroy())
  )
  yield* Effect.callback<void>((resume) => {
    session.once("remoteSettings", () => resume(Effect.void))
    session.once("error", (error) => resume(Effect.die(error)))
  })
  // later errors end the calls of the connection, which report them
  session.on("error", () => {})
  return session
})

/** Starts a call with an empty message, such as ListCategories; the scope closes its connection. */
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
  // a trailers-only response has its status in the headers
  stream.on("response", onHeaders)
  stream.on("trailers", onHeaders)
  stream.on("error", (error) => Deferred.doneUnsafe(status, Effect.succeed(error.message)))
  stream.on("close", () => Deferred.doneUnsafe(status, Effect.succeed("closed without a status")))
  stream.resume()
  // the ping is acknowledged after the server has read everything before it
  yield* Effect.callback<void>((resume) => {
    session.ping((error) => resume(error === null ? Effect.void : Effect.die(error)))
  })
  // the length prefix of an uncompressed empty message
  const send = Effect.sync(() => void stream.write(Buffer.alloc(5)))
  const end = Effect.sync(() => void stream.end())
  return {
    send,
    end,
    status: Deferred.await(status),
    finish: Effect.andThen(Effect.andThen(send, end), Deferred.await(status))
  } satisfies HeldCall as HeldCall
})

/** Makes a call with given path, headers and body, and returns its grpc-status, if any. */
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
    // the server resets a stream to which it responds before it has read it completely
    stream.on("error", () => {})
    stream.on("close", () => {
      session.destroy()
      resume(Effect.succeed(status))
    })
    stream.resume()
    stream.end(call.body)
  })
