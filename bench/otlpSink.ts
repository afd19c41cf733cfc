/**
 * An OTLP collector that accepts everything and only counts spans, by the first segment of the request path. It sends its port to the
 * parent at the start, and its counts on every message from the parent.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

interface Traces {
  readonly resourceSpans?: ReadonlyArray<{
    readonly scopeSpans: ReadonlyArray<{ readonly spans: ReadonlyArray<unknown> }>
  }>
}

const spans: { [folder: string]: number } = {}

const server = createServer((request, response) => {
  const chunks: Array<Buffer> = []
  request.on("data", (chunk: Buffer) => chunks.push(chunk))
  request.on("end", () => {
    const [, folder = ""] = request.url?.split("/") ?? []
    const { resourceSpans = [] } = JSON.parse(Buffer.concat(chunks).toString()) as Traces
    for (const { scopeSpans } of resourceSpans) {
      for (const scope of scopeSpans) spans[folder] = (spans[folder] ?? 0) + scope.spans.length
    }
    response.writeHead(200, { "content-type": "application/json" }).end("{}")
  })
})

process.on("message", () => process.send?.(spans))
server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port))
