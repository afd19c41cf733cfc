/**
 * One gRPC call at the level of HTTP/2, which can be held open: its message is sent when the test says so.
 */
import { connect, constants } from "node:http2"

import { Deferred, Effect } from "effect"

/** A unary call that the server has begun, and that waits for its message. */
export interface HeldCall {
  /** Sends the message and gives the grpc-status that the call ends with. */
  readonly finish: Effect.Effect<string>
}

/** Begins a call with an empty message, such as ListCategories takes; the connection is closed with the scope. */
export const hold = Effect.fnUntraced(function* (port: number, path: string) {
  const session = yield* Effect.acquireRelease(
    Effect.sync(() => connect(`http://localhost:${port}`)),
    (session) => Effect.sync(() => session.destroy())
  )
  session.on("error", () => {})
  yield* Effect.callback<void>((resume) => {
    session.once("connect", () => resume(Effect.void))
  })
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_PATH]: path,
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
    [constants.HTTP2_HEADER_TE]: "trailers"
  })
  const status = yield* Deferred.make<string>()
  stream.on("trailers", (trailers) => Deferred.doneUnsafe(status, Effect.succeed(String(trailers["grpc-status"]))))
  stream.on("error", (error) => Deferred.doneUnsafe(status, Effect.succeed(error.message)))
  stream.on("close", () => Deferred.doneUnsafe(status, Effect.succeed("closed without a status")))
  stream.resume()
  // a ping comes back after all that was sent before it has been read
  yield* Effect.callback<void>((resume) => {
    session.ping((error) => resume(error === null ? Effect.void : Effect.die(error)))
  })
  const finish = Effect.andThen(
    // a frame of five bytes: not compressed, no bytes long
    Effect.sync(() => stream.end(Buffer.alloc(5))),
    Deferred.await(status)
  )
  return { finish } satisfies HeldCall as HeldCall
})
