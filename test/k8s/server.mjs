// What a pod of the tests runs: it answers probes as it is told to by `/set?livez=500`, and ends with the number of times that it
// has been told to leave beyond the first, half a second after that.
import { createServer } from "node:http"

const answers = { readyz: 200, livez: 200 }
createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost")
  for (const [name, status] of searchParams) answers[name] = Number(status)
  response.writeHead(answers[pathname.slice(1)] ?? 200).end()
}).listen(Number(process.env.PORT), process.env.HOST)

let told = 0
process.on("SIGTERM", () => {
  answers.readyz = 503
  if (told++ === 0) setTimeout(() => process.exit(told - 1), 500)
})
