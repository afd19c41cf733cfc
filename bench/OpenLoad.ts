/**
 * Open-loop load on a gRPC method: a fixed rate of calls that does not wait for answers. It uses node:http2 alone, which costs less
 * than a gRPC client, so that the load generator is not the bottleneck.
 */
import { type ClientHttp2Session, connect, constants, type OutgoingHttpHeaders } from "node:http2"

export interface Options {
  readonly port: number
  readonly path: string
  /** The encoded request, or what makes that of the next call. */
  readonly message: Uint8Array | (() => Uint8Array)
  readonly connections: number
  /** The deadline of a call, in milliseconds. */
  readonly timeout: number
  /** Whether an answer, without the five bytes of its gRPC frame, is right; all are without it. */
  readonly isExpected?: (answer: Buffer) => boolean
}

export interface Outcome {
  /** Calls by their grpc-status; -1 is a call that timed out, -2 one that ended without a status, -3 a wrong answer. */
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
  /** Makes that many calls, one after the other. */
  readonly repeat: (calls: number) => Promise<Outcome>
  readonly close: () => void
}

/** The encoded call of a method. */
export interface Request {
  readonly headers: OutgoingHttpHeaders
  readonly frame: Buffer
  /** In milliseconds. */
  readonly timeout: number
}

const frameOf = (message: Uint8Array): Buffer => {
  const frame = Buffer.concat([Buffer.alloc(5), message])
  frame.writeUInt32BE(message.length, 1)
  return frame
}

export const request = (options: Pick<Options, "path" | "timeout"> & { readonly message: Uint8Array }): Request => {
  const { message, path, timeout } = options
  const headers = {
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_PATH]: path,
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
    [constants.HTTP2_HEADER_TE]: "trailers",
    "grpc-timeout": `${timeout}m`
  }
  return { headers, frame: frameOf(message), timeout }
}

/** Makes one call, and reports its status, as in {@link Outcome}, and its answer with its gRPC frame. */
export const call = (
  session: ClientHttp2Session,
  { frame, headers, timeout }: Request,
  onEnd: (status: number, answer: Buffer) => void
): void => {
  const stream = session.request(headers)
  let status = -2
  const chunks: Array<Buffer> = []
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
  stream.on("data", (bytes: Buffer) => chunks.push(bytes))
  stream.on("close", () => {
    clearTimeout(timer)
    onEnd(status, chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))
  })
  stream.end(frame)
}

export const start = async (options: Options): Promise<OpenLoad> => {
  const { isExpected, message } = options
  const made = request({ ...options, message: typeof message === "function" ? new Uint8Array() : message })
  const nextRequest = typeof message === "function" ? () => ({ ...made, frame: frameOf(message()) }) : () => made
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
          call(sessions[next++ % sessions.length]!, nextRequest(), (received, answer) => {
            const isWrong = received === 0 && isExpected?.(answer.subarray(5)) === false
            const status = isWrong ? -3 : received
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
    repeat: async (calls) => {
      const seen = observe()
      for (let made = 0; made < calls; made++) await seen.call()
      return seen.outcome(seen.time())
    },
    close: () => sessions.forEach((session) => session.destroy())
  }
}
