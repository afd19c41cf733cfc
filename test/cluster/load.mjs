/**
 * Requests pages of the shop from a pod, as readers do. It runs on the Node of the service's own image, from a ConfigMap.
 *
 * It prints a line of JSON each second (the counts so far), and the figures when it receives SIGTERM.
 *
 * - `RATE`: pages a second, whether or not earlier ones have been answered, on `CONNECTIONS` connections that are opened before, and on more
 *   if these are busy. Without it, `CONNECTIONS` readers each request one page after another.
 * - `FRESH`: the share of pages that are requested on a new connection.
 *
 * It uses sockets instead of node:http, which would take as much CPU for a page as the shop does.
 */
import { once } from "node:events"
import { connect } from "node:net"

const { CONNECTIONS = "0", FRESH = "0", RATE, URL: url } = process.env

/** A page that takes longer than this is late, in milliseconds. */
const maxLatency = 3_000

/** When an unanswered request is given up, in milliseconds. */
const timeout = 10_000

const { host, hostname, port } = new URL(url)
const head = `GET / HTTP/1.1\r\nhost: ${host}\r\n\r\n`

/** The number of pages by latency in whole milliseconds. */
const latencies = { answered: {}, refused: {} }
const failed = {}
let pages = 0
let refused = 0
let outstanding = 0
let isStopped = false

const count = (counts, key) => (counts[key] = (counts[key] ?? 0) + 1)

const fail = (reason) => count(failed, reason)

const judge = (status, fields, body, latency) => {
  const milliseconds = Math.round(latency)
  if (status === 503 && /^retry-after:/im.test(fields)) {
    refused++
    return count(latencies.refused, milliseconds)
  }
  count(latencies.answered, milliseconds)
  const books = body.match(/<li[ >]/g)?.length ?? 0
  if (status !== 200) fail(`status ${status}`)
  else if (/We can.{1,5}t fetch suggestions/.test(body) || books < 3) fail("without three books")
  else if (latency > maxLatency) fail("late")
}

const idle = new Set()
const busy = new Set()

/** A connection for one request at a time. */
class Connection {
  request = undefined
  isUsed = false
  #received = ""

  constructor() {
    // one character for each byte, as Content-Length counts
    this.socket = connect({ host: hostname, port: Number(port), noDelay: true }).setEncoding("latin1")
    this.socket.on("data", (text) => this.#onData(text))
    this.socket.on("error", ({ code }) => this.#onBroken(code))
    this.socket.on("close", () => this.#onBroken("closed"))
  }

  send(request) {
    this.request = request
    busy.add(this)
    this.socket.write(head)
  }

  #onData(text) {
    this.#received += text
    const end = this.#received.indexOf("\r\n\r\n") + 4
    if (end < 4 || this.request === undefined) return
    const fields = this.#received.slice(0, end)
    const size = Number(/^content-length: *(\d+)/im.exec(fields)?.[1])
    // without Content-Length, the response is broken when the connection ends
    if (!(this.#received.length >= end + size)) return
    const body = this.#received.slice(end)
    const { isFresh, onEnd, startedAt } = this.request
    judge(Number(fields.slice(9, 12)), fields, body, performance.now() - startedAt)
    this.#received = ""
    this.request = undefined
    this.isUsed = true
    busy.delete(this)
    if (isFresh || /^connection: *close/im.test(fields)) this.socket.end()
    else idle.add(this)
    onEnd()
  }

  /** A request on a used connection that breaks before the response is sent again, as browsers do (RFC 9110, section 9.2.2). */
  #onBroken(reason) {
    idle.delete(this)
    busy.delete(this)
    const { request } = this
    if (request === undefined) return
    this.request = undefined
    if (this.isUsed && this.#received === "" && reason !== "no answer") return new Connection().send(request)
    fail(this.#received === "" ? reason : `${reason} within the response`)
    request.onEnd()
  }
}

const send = () => {
  const isFresh = Math.floor((pages + 1) * Number(FRESH)) > Math.floor(pages * Number(FRESH))
  pages++
  outstanding++
  const onEnd = () => {
    outstanding--
    if (RATE === undefined && !isStopped) send()
    if (isStopped && outstanding === 0) finish()
  }
  const [kept] = isFresh ? [] : idle
  idle.delete(kept)
  ;(kept ?? new Connection()).send({ isFresh, onEnd, startedAt: performance.now() })
}

/** When the first page was requested. */
let began = performance.now()
const timers = []

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

setInterval(() => {
  for (const { request, socket } of busy) {
    if (performance.now() - request.startedAt > timeout)
      socket.destroy(Object.assign(new Error(), { code: "no answer" }))
  }
}, 1_000).unref()

/** Connections are opened this many at a time, so that a storm of them is not part of the load. */
const opened = 20

if (RATE !== undefined) {
  for (let opening = 0; opening < Number(CONNECTIONS); opening += opened) {
    const next = Array.from({ length: opened }, () => new Connection())
    await Promise.allSettled(next.map(({ socket }) => once(socket, "connect")))
    for (const connection of next) if (connection.socket.readyState === "open") idle.add(connection)
  }
  began = performance.now()
}

timers.push(setInterval(() => console.log(JSON.stringify({ pages: pages - outstanding, refused, failed })), 1_000))
if (RATE === undefined) for (let reader = 0; reader < Number(CONNECTIONS); reader++) send()
else {
  const sendDue = () => {
    const due = Math.floor(((performance.now() - began) * Number(RATE)) / 1_000)
    for (let missing = due - pages; missing > 0; missing--) send()
  }
  timers.push(setInterval(sendDue, 5))
}
