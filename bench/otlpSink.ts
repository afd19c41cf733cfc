/**
 * A collector of OTLP that takes everything and keeps nothing but how many spans have come, by the first folder of the path that
 * they are sent to: for {@link file://./observability.ts}. It tells its parent its port, and what it has whenever that asks.
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
