/**
 * The built Marketplace with a hostile backend, within the memory limit of its Kubernetes manifest.
 */
import { readFile } from "node:fs/promises"
import type { ServerHttp2Stream } from "node:http2"

import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { HttpClient } from "effect/http"

import * as Http2Backend from "../layers/grpc/Http2Backend.ts"
import { Installation } from "./Installation.ts"

const times = (count: number, bytes: Buffer) => Buffer.concat(Array.from({ length: count }, () => bytes))

/** A book with the title "Title", as field 1 of a response. */
const book = Buffer.from([0x0a, 7, 0x12, 5, ...Buffer.from("Title")])

const ok = { "grpc-status": "0" }

const good = (stream: ServerHttp2Stream) => Http2Backend.respond(stream, Http2Backend.frame(times(3, book)), ok)

const large = Http2Backend.frame(times(433_000, book))
const many = Http2Backend.frame(times(20_000, book))
const empty = Http2Backend.frame(times(131_000, Buffer.from([0x0a, 0])))
const commas = ",".repeat(15_000)

const attacks: { readonly [name: string]: (stream: ServerHttp2Stream) => void } = {
  "3.9 MB of books": (stream) => Http2Backend.respond(stream, large, ok),
  "20,000 books": (stream) => Http2Backend.respond(stream, many, ok),
  "131,000 empty books": (stream) => Http2Backend.respond(stream, empty, ok),
  "headers of commas": (stream) =>
    Http2Backend.respond(stream, Http2Backend.frame(times(3, book)), ok, { "a-bin": commas }),
  "trailers of commas": (stream) =>
    Http2Backend.respond(stream, Http2Backend.frame(times(3, book)), { ...ok, "a-bin": commas }),
  "messages without an end": (stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" })
    stream.write(times(1000, Http2Backend.frame(book)))
  },
  "half a message": (stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" })
    stream.write(many.subarray(0, -1))
  }
}

/** The peak resident memory of a process, in MiB. */
const peakOf = (pid: number) =>
  Effect.promise(async () => Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024)

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })(
  "a backend that responds with",
  (it) => {
    it.effect.each(Object.keys(attacks))("%s neither crashes Marketplace nor exhausts its memory", (name) =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        let respond = attacks[name]!
        const port = yield* Http2Backend.serve((stream) => respond(stream))
        const marketplace = yield* start("marketplace", {
          RECOMMENDATIONS_TARGET: `127.0.0.1:${port}`,
          // long enough to receive the responses
          MARKETPLACE_PAGE_BUDGET: "5 seconds",
          MARKETPLACE_ATTEMPT_TIMEOUT: "5 seconds",
          NODE_OPTIONS: "--max-old-space-size=250"
        })
        const page = HttpClient.get(`http://127.0.0.1:${marketplace.port}/`).pipe(
          Effect.flatMap((response) => Effect.map(response.text, (text) => ({ status: response.status, text })))
        )
        const pages = yield* Effect.forEach(Array.from({ length: 200 }), () => page, { concurrency: 50 })
        for (const { status } of pages) assert.oneOf(status, [200, 503])
        respond = good
        yield* Effect.repeat(page, { until: ({ text }) => text.includes("Title") }).pipe(Effect.timeout("10 seconds"))
        assert.isBelow(yield* peakOf(marketplace.pid), 384)
        assert.notInclude(yield* marketplace.output, "Exception in a callback")
        yield* marketplace.signal("SIGTERM")
        assert.strictEqual(yield* marketplace.exitCode, 0)
      })
    )
  }
)
