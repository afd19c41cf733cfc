/**
 * Measures the time from starting a server to its first answer.
 */
import { once } from "node:events"
import { connect, constants } from "node:http2"

import * as Contestants from "./Contestants.ts"
import * as Processes from "./Processes.ts"
import type { Figure } from "./Rounds.ts"

/** Starts a server, calls it until it answers with OK, and returns the milliseconds that this took. The server keeps running. */
export const first = async (
  contestant: Contestants.Contestant,
  situation: Contestants.Situation,
  path: string,
  frame: Buffer
): Promise<number> => {
  const startedAt = performance.now()
  contestant.start(situation)
  const socket = await Contestants.connected(situation.port)
  const session = connect("http://127.0.0.1", { createConnection: () => socket })
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_PATH]: path,
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
    [constants.HTTP2_HEADER_TE]: "trailers"
  })
  let status: unknown
  stream.on("trailers", (trailers) => {
    status = trailers["grpc-status"]
  })
  stream.resume()
  stream.end(frame)
  await once(stream, "close")
  const took = performance.now() - startedAt
  session.destroy()
  if (status !== "0") throw new Error(`${contestant.name} has not answered its first call with OK`)
  return took
}

/** Starts servers in turn, ends each after its first answer, and returns the milliseconds of each. */
export const compare = async (
  starts: ReadonlyArray<() => Promise<number>>,
  rounds: number
): Promise<ReadonlyArray<Figure>> => {
  const took = starts.map((): Array<number> => [])
  const others = Processes.count()
  for (let round = 0; round < rounds; round++) {
    for (const [at, start] of starts.entries()) {
      took[at]!.push(await start())
      Processes.stop(others)
    }
  }
  return took.map((all) => ({ best: Math.min(...all), middle: all.toSorted((a, b) => a - b)[all.length >> 1]! }))
}
