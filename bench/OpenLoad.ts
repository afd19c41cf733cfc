/**
 * Calls of one gRPC method at a rate that does not wait for answers, as readers do not: over node:http2 alone, which costs
 * less than any gRPC client, so that the load is not what is measured.
 */
import { type ClientHttp2Session, connect, constants } from "node:http2"

export interface Options {
  readonly port: number
  readonly path: string
  /** The encoded request. */
  readonly message: Uint8Array
  readonly connections: number
  /** When a caller gives up, in milliseconds. */
  readonly timeout: number
}

export interface Outcome {
  /** Calls by their grpc-status; those that were given up are -1, those that ended without a status -2. */
  readonly statuses: ReadonlyMap<number, number>
  /** Of the calls that were answered with OK, in milliseconds, sorted. */
  readonly latencies: ReadonlyArray<number>
  /** How long it took, in milliseconds. */
  readonly elapsed: number
}

export interface OpenLoad {
  /** Makes that many calls a second for that many milliseconds, and waits until the last has ended. */
  readonly run: (rate: number, duration: number) => Promise<Outcome>
  /** Keeps that many calls in flight for that many milliseconds. */
  readonly saturate: (inFlight: number, duration: number) => Promise<Outcome>
  readonly close: () => void
}

export const start = async (options: Options): Promise<OpenLoad> => {
  const frame = Buffer.concat([Buffer.alloc(5), options.message])
  frame.writeUInt32BE(options.message.length, 1)
  const sessions = await Promise.all(
    Array.from(
      { length: options.connections },
      () =>
        new Promise<ClientHttp2Session>((resolve, reject) => {
          const session = connect(`http://127.0.0.1:${options.port}`)
          session.once("error", reject)
          session.once("remoteSettings", () => {
            session.off("error", reject)
            session.on("error", () => {})
            resolve(session)
          })
        })
    )
  )
  const headers = {
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_PATH]: options.path,
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
    [constants.HTTP2_HEADER_TE]: "trailers",
    "grpc-timeout": `${options.timeout}m`
  }
  let next = 0

  /** One call, which says when and how it has ended. */
  const call = (onEnd: (status: number) => void) => {
    const stream = sessions[next++ % sessions.length]!.request(headers)
    let status = -2
    const timer = setTimeout(() => {
      status = -1
      stream.close(constants.NGHTTP2_CANCEL)
    }, options.timeout)
    const read = (received: { readonly [name: string]: unknown }) => {
      if (received["grpc-status"] !== undefined) status = Number(received["grpc-status"])
    }
    stream.on("response", read)
    stream.on("trailers", read)
    stream.on("error", () => {})
    stream.on("close", () => {
      clearTimeout(timer)
      onEnd(status)
    })
    stream.resume()
    stream.end(frame)
  }

  const measured = async (begin: (one: () => void, time: () => number) => Promise<void>): Promise<Outcome> => {
    const statuses = new Map<number, number>()
    const latencies: Array<number> = []
    let pending = 0
    let onIdle = () => {}
    const startedAt = performance.now()
    const one = () => {
      pending++
      const calledAt = performance.now()
      call((status) => {
        pending--
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
        if (status === 0) latencies.push(performance.now() - calledAt)
        onEnd()
        if (pending === 0) onIdle()
      })
    }
    let onEnd = () => {}
    await begin(
      () => one(),
      () => performance.now() - startedAt
    )
    const elapsed = performance.now() - startedAt
    onEnd = () => {}
    await new Promise<void>((resolve) => {
      onIdle = resolve
      if (pending === 0) resolve()
    })
    return { statuses, latencies: latencies.toSorted((a, b) => a - b), elapsed }
  }

  return {
    run: (rate, duration) =>
      measured(async (one, time) => {
        let sent = 0
        while (time() < duration) {
          for (const due = Math.floor((time() / 1000) * rate); sent < due; sent++) one()
          await new Promise((resolve) => setTimeout(resolve, 1))
        }
      }),
    saturate: async (inFlight, duration) => {
      const statuses = new Map<number, number>()
      const latencies: Array<number> = []
      const startedAt = performance.now()
      await Promise.all(
        Array.from({ length: inFlight }, async () => {
          while (performance.now() - startedAt < duration) {
            const calledAt = performance.now()
            const status = await new Promise<number>(call)
            statuses.set(status, (statuses.get(status) ?? 0) + 1)
            if (status === 0) latencies.push(performance.now() - calledAt)
          }
        })
      )
      return { statuses, latencies: latencies.toSorted((a, b) => a - b), elapsed: performance.now() - startedAt }
    },
    close: () => sessions.forEach((session) => session.destroy())
  }
}
