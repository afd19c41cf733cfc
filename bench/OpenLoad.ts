/**
 * Open-loop load on a gRPC method: a fixed rate of calls that does not wait for answers. It uses node:http2 alone, which costs less
 * than a gRPC client, so that the load generator is not the bottleneck.
 */
import { type ClientHttp2Session, connect, constants, type OutgoingHttpHeaders } from "node:http2"

export interface Options {
  readonly port: number
  readonly path: string
  /** The encoded request. */
  readonly message: Uint8Array
  readonly connections: number
  /** The deadline of a call, in milliseconds. */
  readonly timeout: number
}

export interface Outcome {
  /** Calls by their grpc-status; -1 is a call that timed out, -2 one that ended without a status. */
  readonly statuses: ReadonlyMap<number, number>
  /** The latencies of the calls that were answered with OK, in milliseconds, sorted. */
  readonly latencies: ReadonlyArray<number>
  /** The duration, in milliseconds. */
  readonly elapsed: number
}

export interface OpenLoad {
  /** Makes that many calls a second for that many milliseconds, and waits until the last has ended. */
  readonly run: (rate: number, duration: number) => Promise<Outcome>
  /** Keeps that many calls in flight for that many milliseconds. */
  readonly saturate: (inFlight: number, duration: number) => Promise<Outcome>
  readonly close: () => void
}

/** The encoded call of a method. */
export interface Request {
  readonly headers: OutgoingHttpHeaders
  readonly frame: Buffer
  /** In milliseconds. */
  readonly timeout: number
}

export const request = ({ message, path, timeout }: Pick<Options, "message" | "path" | "timeout">): Request => {
  const frame = Buffer.concat([Buffer.alloc(5), message])
  frame.writeUInt32BE(message.length, 1)
  const headers = {
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_PATH]: path,
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
    [constants.HTTP2_HEADER_TE]: "trailers",
    "grpc-timeout": `${timeout}m`
  }
  return { headers, frame, timeout }
}

/** Makes one call, and reports its status, as in {@link Outcome}, and the bytes of its answer. */
export const call = (
  session: ClientHttp2Session,
  { frame, headers, timeout }: Request,
  onEnd: (status: number, size: number) => void
): void => {
  const stream = session.request(headers)
  let status = -2
  let size = 0
  const timer = setTimeout(() => {
    status = -1
    stream.close(constants.NGHTTP2_CANCEL)
  }, timeout)
  const read = (received: { readonly [name: string]: unknown }) => {
    if (received["grpc-status"] !== undefined) status = Number(received["grpc-status"])
  }
  stream.on("response", read)
  stream.on("trailers", read)
  stream.on("error", () => {})
  stream.on("data", (bytes: Buffer) => (size += bytes.length))
  stream.on("close", () => {
    clearTimeout(timer)
    onEnd(status, size)
  })
  stream.end(frame)
}

export const start = async (options: Options): Promise<OpenLoad> => {
  const made = request(options)
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
  let next = 0

  /** Collects the outcomes of calls from now on. */
  const observe = () => {
    const statuses = new Map<number, number>()
    const latencies: Array<number> = []
    const startedAt = performance.now()
    return {
      time: () => performance.now() - startedAt,
      call: () => {
        const calledAt = performance.now()
        return new Promise<void>((resolve) => {
          call(sessions[next++ % sessions.length]!, made, (status) => {
            statuses.set(status, (statuses.get(status) ?? 0) + 1)
            if (status === 0) latencies.push(performance.now() - calledAt)
            resolve()
          })
        })
      },
      outcome: (elapsed: number): Outcome => ({ statuses, latencies: latencies.toSorted((a, b) => a - b), elapsed })
    }
  }

  return {
    run: async (rate, duration) => {
      const seen = observe()
      const calls: Array<Promise<void>> = []
      while (seen.time() < duration) {
        const due = Math.floor((seen.time() / 1000) * rate)
        while (calls.length < due) calls.push(seen.call())
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      const elapsed = seen.time()
      await Promise.all(calls)
      return seen.outcome(elapsed)
    },
    saturate: async (inFlight, duration) => {
      const seen = observe()
      await Promise.all(
        Array.from({ length: inFlight }, async () => {
          while (seen.time() < duration) await seen.call()
        })
      )
      return seen.outcome(seen.time())
    },
    close: () => sessions.forEach((session) => session.destroy())
  }
}
