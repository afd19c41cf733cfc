// The process of the pods in tests. `/set?livez=500` sets the status of a probe. It exits half a second after the first SIGTERM, and
// its exit code is the number of further SIGTERMs.
import { createServer } from "node:http"

const statuses = { readyz: 200, livez: 200 }
createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost")
  for (const [name, status] of searchParams) statuses[name] = Number(status)
  response.writeHead(statuses[pathname.slice(1)] ?? 200).end()
}).listen(Number(process.env.PORT), process.env.HOST)

let received = 0
process.on("SIGTERM", () => {
  statuses.readyz = 503
  if (received++ === 0) setTimeout(() => process.exit(received - 1), 500)
})
