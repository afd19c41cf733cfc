/**
 * Requests pages of the shop from a pod, as readers do. It runs on the Node of the service's own image, from a ConfigMap.
 *
 * It prints a line of JSON each second (the counts so far), and the figures when it receives SIGTERM.
 *
 * - `RATE`: pages a second, whether or not earlier ones have been answered. Without it, `CONNECTIONS` readers each request one page after
 *   another.
 * - `FRESH`: the share of pages that are requested on a new connection.
 */
import { Agent, get } from "node:http"

const { CONNECTIONS = "16", FRESH = "0", RATE, URL: url } = process.env

/** A page that takes longer than this is late, in milliseconds. */
const maxLatency = 3_000

/** When an unanswered request is given up, in milliseconds. */
const timeout = 10_000

const agent = new Agent({ keepAlive: true, maxFreeSockets: 1_024 })

/** The number of pages by latency in whole milliseconds. */
const latencies = { answered: {}, refused: {} }
const failed = {}
let pages = 0
let refused = 0
let outstanding = 0
let isStopped = false

const count = (counts, key) => (counts[key] = (counts[key] ?? 0) + 1)

const fail = (reason) => count(failed, reason)

const judge = (response, body, latency) => {
  const milliseconds = Math.round(latency)
  if (response.statusCode === 503 && response.headers["retry-after"] !== undefined) {
    refused++
    return count(latencies.refused, milliseconds)
  }
  count(latencies.answered, milliseconds)
  const books = body.match(/<li[ >]/g)?.length ?? 0
  if (response.statusCode !== 200) fail(`status ${response.statusCode}`)
  else if (/We can(?:’|'|&#39;)t fetch suggestions/.test(body) || books < 3) fail("without three books")
  else if (latency > maxLatency) fail("late")
}

/** Requests a page. A request on a used connection that breaks before the response is sent again, as browsers do (RFC 9110, 9.2.2). */
const request = (isFresh, onEnd, startedAt = performance.now()) => {
  let isAnswered = false
  const end = (finish) => {
    if (isAnswered) return
    isAnswered = true
    finish()
    onEnd()
  }
  const sent = get(url, { agent: isFresh ? false : agent }, (response) => {
    let body = ""
    response.setEncoding("utf8")
    response.on("data", (text) => (body += text))
    response.on("end", () => end(() => judge(response, body, performance.now() - startedAt)))
    response.on("error", (error) => end(() => fail(`${error.code ?? error.message} within the response`)))
  })
  sent.setTimeout(timeout, () => sent.destroy(Object.assign(new Error(), { code: "no answer" })))
  sent.on("error", (error) => {
    if (isAnswered) return
    if (!sent.reusedSocket || error.code === "no answer") return end(() => fail(error.code ?? error.message))
    isAnswered = true
    request(true, onEnd, startedAt)
  })
}

const send = () => {
  const isFresh = Math.floor((pages + 1) * Number(FRESH)) > Math.floor(pages * Number(FRESH))
  pages++
  outstanding++
  request(isFresh, () => {
    outstanding--
    if (RATE === undefined && !isStopped) send()
    if (isStopped && outstanding === 0) finish()
  })
}

const began = performance.now()
const timers = [setInterval(() => console.log(JSON.stringify({ pages: pages - outstanding, refused, failed })), 1_000)]
if (RATE === undefined) for (let reader = 0; reader < Number(CONNECTIONS); reader++) send()
else {
  const sendDue = () => {
    const due = Math.floor(((performance.now() - began) * Number(RATE)) / 1_000)
    for (let missing = due - pages; missing > 0; missing--) send()
  }
  timers.push(setInterval(sendDue, 5))
}

const finish = () => {
  const seconds = (performance.now() - began) / 1_000
  console.log(JSON.stringify({ pages, refused, failed, latencies, seconds }))
  process.exit()
}

process.on("SIGTERM", () => {
  isStopped = true
  timers.forEach(clearInterval)
  if (outstanding === 0) finish()
})
