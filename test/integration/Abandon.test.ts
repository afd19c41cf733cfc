/**
 * Pages that are cancelled: the client disconnects, or the process shuts down.
 */
import { get } from "node:http"
import type { ServerHttp2Stream } from "node:http2"

import { assert, layer } from "@effect/vitest"
import { Effect, Queue } from "effect"

import * as Http2Backend from "../layers/grpc/Http2Backend.ts"
import { Installation } from "./Installation.ts"

/** Starts Marketplace, requests a page with a budget of an hour, and returns the calls made for it. */
const slowPage = Effect.gen(function* () {
  const { start } = yield* Installation
  const received = yield* Queue.unbounded<{ readonly path: string; readonly stream: ServerHttp2Stream }>()
  // never answers
  const backend = yield* Http2Backend.serve((stream, path) => void Queue.offerUnsafe(received, { path, stream }))
  const marketplace = yield* start("marketplace", {
    RECOMMENDATIONS_TARGET: `127.0.0.1:${backend}`,
    MARKETPLACE_PAGE_BUDGET: "1 hour",
    MARKETPLACE_ATTEMPT_TIMEOUT: "1 hour",
    DRAIN_TIMEOUT: "300ms"
  })
  const request = get(`http://localhost:${marketplace.port}/`)
  request.on("error", () => {})
  // one call for the books, one for the menu
  const calls = [yield* Queue.take(received), yield* Queue.take(received)]
  return { calls, marketplace, request }
})

layer(Installation.layer, { excludeTestServices: true })("a page in flight", (it) => {
  it.effect("cancels its calls when the client disconnects", () =>
    Effect.gen(function* () {
      const { calls, request } = yield* slowPage
      assert.sameMembers(
        calls.map(({ path }) => path.split("/").at(-1)),
        ["Recommend", "ListCategories"]
      )
      request.destroy()
      for (const { stream } of calls) {
        yield* Effect.callback<void>((resume) => {
          if (stream.destroyed) resume(Effect.void)
          else stream.once("close", () => resume(Effect.void))
        })
        // the HTTP/2 error code CANCEL
        assert.strictEqual(stream.rstCode, 8)
      }
    })
  )
  it.effect("is interrupted when it takes longer than the drain timeout", () =>
    Effect.gen(function* () {
      const { marketplace } = yield* slowPage
      yield* marketplace.signal("SIGTERM")
      assert.strictEqual(yield* marketplace.exitCode, 0)
      assert.include(yield* marketplace.output, "HTTP server closed: 0 requests in flight finished, 1 aborted")
    })
  )
})
