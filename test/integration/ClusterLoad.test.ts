/**
 * The readers of `npm run test:cluster` (test/cluster/load.mjs) count each kind of page as what it is.
 */
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

const script = fileURLToPath(new URL("../cluster/load.mjs", import.meta.url))

const books = "<li>".repeat(3)

/** Responses in turn, and how the reader counts each. */
const responses: ReadonlyArray<readonly [counted: string, respond: (response: ServerResponse) => void]> = [
  ["answered", (response) => response.end(books)],
  ["refused", (response) => response.writeHead(503, { "content-length": 0, "retry-after": "1" }).end()],
  ["status 503", (response) => response.writeHead(503, { "content-length": 0 }).end()],
  ["without three books", (response) => response.end("<li><li>")],
  ["without three books", (response) => response.end(`We can’t fetch suggestions just now${books}`)],
  ["late", (response) => setTimeout(() => response.end(books), 3_100)],
  ["closed within the response", (response) => response.write("<", () => response.destroy())]
]

const server = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; readonly connections: () => number; readonly close: () => void }>(
    (resume) => {
      let requests = 0
      let connections = 0
      const http = createServer((_, response) => responses[requests++ % responses.length]![1](response))
      http.on("connection", () => connections++)
      http.listen(0, "127.0.0.1", () => {
        const { port } = http.address() as AddressInfo
        resume(Effect.succeed({ port, connections: () => connections, close: () => void http.close() }))
      })
    }
  ),
  ({ close }) => Effect.sync(close)
)

const Result = Schema.fromJsonString(
  Schema.Struct({
    pages: Schema.Int,
    refused: Schema.Int,
    failed: Schema.Record(Schema.String, Schema.Int),
    latencies: Schema.Struct({
      answered: Schema.Record(Schema.String, Schema.Int),
      refused: Schema.Record(Schema.String, Schema.Int)
    })
  })
)

layer(NodeServices.layer, { excludeTestServices: true })("the readers of a rehearsal", (it) => {
  it.effect("count pages that are refused, late, without books, or broken", () =>
    Effect.gen(function* () {
      const { connections, port } = yield* server
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const readers = yield* spawner.spawn(
        ChildProcess.make(process.execPath, [script], {
          env: { URL: `http://127.0.0.1:${port}/`, RATE: "70", FRESH: "1" }
        })
      )
      const lines = yield* Stream.splitLines(Stream.decodeText(readers.stdout)).pipe(
        Stream.tap((line) => (/"pages":[1-9]\d\d/.test(line) ? Effect.ignore(readers.kill()) : Effect.void)),
        Stream.runCollect
      )
      const { failed, latencies, pages, refused } = yield* Schema.decodeEffect(Result)(lines.at(-1) ?? "")
      const answered = Object.values(latencies.answered).reduce((sum, count) => sum + count, 0)
      const broken = failed["closed within the response"] ?? 0
      assert.strictEqual(answered + refused + broken, pages)
      assert.strictEqual(connections(), pages)
      const counts: Record<string, number> = { ...failed, refused }
      const turns = Math.floor(pages / responses.length)
      for (const kind of new Set(responses.slice(1).map(([counted]) => counted))) {
        const expected = turns * responses.filter(([counted]) => counted === kind).length
        assert.approximately(counts[kind] ?? 0, expected, 2, kind)
        delete counts[kind]
      }
      assert.deepStrictEqual(counts, {})
    }).pipe(Effect.scoped)
  )
})
