/**
 * Load on the shop's front page over keep-alive connections, like those of browsers and load balancers.
 *
 * It uses `node:http` directly, since it shares few cores with the services, and has to know whether the connection of a failed request
 * had been used before.
 */
import { Agent, get, type IncomingMessage } from "node:http"
import type { Socket } from "node:net"

import { Effect } from "effect"

import * as Load from "./Load.ts"

/** The address of a Marketplace. */
export interface Backend {
  readonly host: string
  readonly port: number
}

export interface Options {
  /** Pages a second. */
  readonly rate: number
  /** The replicas that new connections go to. Other replicas keep their connections until they close them. */
  readonly backends: () => ReadonlyArray<Backend>
  /**
   * Which requests are retried once on a new connection when their connection breaks before the first byte of a response. "reused",
   * like browsers (RFC 9110, section 9.2.2, and RFC 9112, section 9.3.1): those on a connection that was used before, which the server
   * may have closed meanwhile. "unanswered", like load balancers: those on a new connection too, so that they survive a crash.
   */
  readonly retry: "reused" | "unanswered"
}

export interface PageLoad extends Load.Load {
  /** The number of retries on used and on new connections. */
  readonly retried: Effect.Effect<{ readonly reused: number; readonly fresh: number }>
}

/** The minimum number of connections. More are opened when all are busy. */
const connectionCount = 16

/** The timeout of a page in milliseconds, far above every budget. */
const patience = 10_000

/** A page has failed unless it has books. */
export const start = Effect.fnUntraced(function* ({ backends, rate, retry }: Options) {
  const connections = new Set<Connection>()
  const retried = { reused: 0, fresh: 0 }
  yield* Effect.addFinalizer(() => Effect.sync(() => connections.forEach(({ close }) => close())))

  /** The connection that has been idle for longest, or a new one if there are too few or all are busy. */
  const pick = (): Connection | undefined => {
    const idle = [...connections].find(({ isIdle }) => isIdle())
    return idle !== undefined && connections.size >= connectionCount ? idle : (open() ?? idle)
  }

  /** Opens a connection to the replica with the fewest. */
  const open = (avoided?: Backend): Connection | undefined => {
    const counts = backends()
      .filter((backend) => backend !== avoided)
      .map((backend) => ({
        backend,
        count: [...connections].filter((connection) => connection.backend === backend).length
      }))
    const [least] = counts.toSorted((a, b) => a.count - b.count)
    if (least === undefined) return undefined
    const connection = connect(least.backend, () => connections.delete(connection))
    connections.add(connection)
    return connection
  }

  const ask = (done: (outcome: Load.Outcome) => void, isRetry = false, connection = pick()): void => {
    if (connection === undefined) return done({ failure: "no Marketplace is in the load balancer" })
    // append to the idle queue
    if (connections.delete(connection)) connections.add(connection)
    connection.ask((answer) => {
      if (answer._tag === "Page") return done(judge(answer))
      if (answer.isUnanswered && !isRetry && (answer.isReused || retry === "unanswered")) {
        retried[answer.isReused ? "reused" : "fresh"]++
        // like a load balancer, do not use a crashed replica again
        return ask(done, true, open(retry === "unanswered" ? connection.backend : undefined))
      }
      const which = `${isRetry ? "retried, " : ""}on a ${answer.isReused ? "used" : "new"} connection`
      done({ failure: `${answer.reason}, ${answer.isUnanswered ? "before" : "after"} the first byte, ${which}` })
    })
  }

  const load = yield* Load.start(rate, ask)
  return { ...load, retried: Effect.sync(() => ({ ...retried })) } satisfies PageLoad as PageLoad
})

interface Page {
  readonly _tag: "Page"
  readonly status: number | undefined
  readonly body: string
}

interface Broken {
  readonly _tag: "Broken"
  readonly reason: string
  /** Whether no byte of a response was received. */
  readonly isUnanswered: boolean
  /** Whether the connection had been used before. */
  readonly isReused: boolean
}

interface Connection {
  readonly backend: Backend
  readonly isIdle: () => boolean
  readonly ask: (done: (answer: Page | Broken) => void) => void
  readonly close: () => void
}

/** A connection for one request at a time. `onClosed` is called when it cannot be used any more. */
const connect = (backend: Backend, onClosed: () => void): Connection => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  let known: Socket | undefined
  let isBusy = false
  const close = () => {
    onClosed()
    agent.destroy()
  }

  const ask = (done: (answer: Page | Broken) => void) => {
    isBusy = true
    const isReused = known !== undefined
    let isDone = false
    const finish = (answer: Page | Broken) => {
      if (isDone) return
      isDone = true
      isBusy = false
      if (answer._tag === "Broken") close()
      done(answer)
    }
    let response: IncomingMessage | undefined
    const broken = (reason: string) =>
      finish({ _tag: "Broken", reason, isUnanswered: response === undefined, isReused })
    const request = get({ agent, host: backend.host, port: backend.port, path: "/" }, (answer) => {
      response = answer
      if (answer.headers.connection === "close") onClosed()
      let body = ""
      answer.setEncoding("utf8")
      answer.on("data", (text: string) => (body += text))
      answer.on("end", () => finish({ _tag: "Page", status: answer.statusCode, body }))
      answer.on("error", (error) => broken(describe(error)))
    })
    request.setTimeout(patience, () => request.destroy(new Error(`no answer within ${patience} ms`)))
    request.on("error", (error) => broken(describe(error)))
    request.on("socket", (socket) => {
      if (socket === known) return
      if (isReused) {
        // the agent found its connection closed and opens another, maybe to a replica that was removed from the endpoints
        request.destroy(new Error("closed by the server"))
      } else {
        known = socket
        socket.once("end", onClosed)
        socket.once("close", onClosed)
      }
    })
  }

  return { backend, isIdle: () => !isBusy, ask, close }
}

const describe = (error: Error & { readonly code?: string }): string =>
  error.code === undefined ? error.message : `${error.code} (${error.message})`

/** The front page has three books. The titles of a test catalogue name the replica that served them. */
const judge = ({ body, status }: Page): Load.Outcome => {
  const books = body.match(/<li[ >]/g)?.length ?? 0
  const replica = /Book \d+ of (127\.[\d.]+)/.exec(body)?.[1]
  if (status !== 200) return { failure: `status ${status}`, replica }
  if (/We can(’|'|&#39;)t fetch suggestions/.test(body)) return { failure: "an apology" }
  return books < 3 ? { failure: `${books} books`, replica } : { replica }
}
