/**
 * A server survives invalid calls, answers them with the right status, and still answers valid calls. The seed is logged:
 * GARBAGE_SEED repeats the same run. GARBAGE_TOTAL sets the number of invalid messages; `npm run test:all` sends 100,000.
 */
import { execFile } from "node:child_process"
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2"

import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"

import * as Garbage from "./Garbage.ts"
import { Installation } from "./Installation.ts"
import * as RawCall from "./RawCall.ts"

/** The number of invalid calls. */
const total = Number(process.env["GARBAGE_TOTAL"] ?? 20_000)
/** A valid call is made after this many of them. */
const batch = 1_000
const sessionCount = 8
const seed = Number(process.env["GARBAGE_SEED"] ?? Math.floor(Math.random() * 2 ** 31))

/** The result of a call: its grpc-status and message, an HTTP status, or no answer. */
interface Answer {
  readonly status: string
  readonly message: string
}

const fire = (session: ClientHttp2Session, shot: Garbage.Shot) =>
  Effect.callback<Answer>((resume) => {
    let answer: Answer = { status: "none", message: "" }
    const onHeaders = (headers: IncomingHttpHeaders) => {
      const status = headers["grpc-status"]
      if (status !== undefined) answer = { status: String(status), message: String(headers["grpc-message"] ?? "") }
      else if (headers[":status"] !== undefined && String(headers[":status"]) !== "200") {
        answer = { status: `HTTP ${headers[":status"]}`, message: "" }
      }
    }
    if (session.destroyed || session.closed) return resume(Effect.succeed(answer))
    const stream = session.request(shot.headers)
    stream.on("response", onHeaders)
    stream.on("trailers", onHeaders)
    stream.on("error", () => {})
    stream.once("close", () => resume(Effect.succeed(answer)))
    stream.resume()
    for (const piece of shot.body) stream.write(piece)
    if (shot.resets === undefined) stream.end()
    else stream.close(shot.resets)
  })

/** The resident memory of a process in MiB. */
const memoryOf = (pid: number) =>
  Effect.callback<number>((resume) => {
    execFile("ps", ["-o", "rss=", "-p", String(pid)], (_, stdout) => resume(Effect.succeed(Number(stdout) / 1_024)))
  })

/** A connection on which SETTINGS have been exchanged, so that the limits of the server are in effect. */
const session = Effect.fnUntraced(function* (port: number) {
  const session = yield* Effect.acquireRelease(
    Effect.sync(() => connect(`http://localhost:${port}`)),
    (session) => Effect.sync(() => session.destroy())
  )
  yield* Effect.callback<void>((resume) => {
    session.once("error", (error) => resume(Effect.die(error)))
    session.once("remoteSettings", () => session.ping(() => resume(Effect.void)))
  })
  session.on("error", () => {})
  return session
})

layer(Installation.layer, { excludeTestServices: true })("Recommendations", (it) => {
  it.effect(
    "rejects 100,000 invalid messages with the right status, and keeps serving",
    () =>
      Effect.gen(function* () {
        yield* Effect.logInfo(`GARBAGE_SEED=${seed}`)
        const chance = Garbage.chanceOf(seed)
        const { start } = yield* Installation
        // high limits, so that calls are rejected for their content and not shed
        const { output, pid, port } = yield* start("recommendations", {
          RECOMMENDATIONS_MAX_CONCURRENCY: "2000",
          RECOMMENDATIONS_MAX_QUEUE: "0",
          RECOMMENDATIONS_MAX_CONCURRENT_STREAMS: "1000"
        })
        const counts = new Map<string, number>()
        const wrong = new Map<string, number>()
        /** The number of calls that should be answered and of those that were, by kind. */
        const answered = new Map<string, { shots: number; answers: number }>()
        const judge = ({ answers, kind }: Garbage.Shot, { message, status }: Answer, isCut: boolean) => {
          const key = `${kind}: ${status}`
          counts.set(key, (counts.get(key) ?? 0) + 1)
          if (!answers.includes("none")) {
            const { answers, shots } = answered.get(kind) ?? { shots: 0, answers: 0 }
            answered.set(kind, { shots: shots + 1, answers: answers + (status === "none" ? 0 : 1) })
          }
          // INTERNAL is only expected for a request that does not parse, not for a bug in a handler
          const isOwn =
            /^(Error deserializing request|Failed to decompress message|Invalid grpc-timeout value|Received a message whose|The request ended within)/.test(
              decodeURI(message)
            )
          // a call is not answered if another one breaks its connection
          // clients must not see a stack trace
          const isRight =
            (answers.includes(status) || (status === "none" && isCut)) && !/\n|\.js:\d/.test(decodeURI(message))
          if (isRight && (status !== "13" || isOwn)) return
          const what = `${key} (${decodeURI(message)})`
          wrong.set(what, (wrong.get(what) ?? 0) + 1)
        }

        let peak = 0
        let early = 0
        for (let sent = batch; sent < total + batch; sent += batch) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              const sessions = yield* Effect.replicateEffect(session(port), sessionCount)
              const firing = Array.from({ length: batch }, () => {
                const shot = Garbage.shot(chance)
                const session = sessions[chance.below(sessionCount)]!
                return Effect.map(fire(session, shot), (answer) =>
                  judge(shot, answer, session.destroyed || session.closed)
                )
              })
              yield* Effect.all(firing, { concurrency: "unbounded", discard: true })
              // a valid call, with an empty message
              const call = yield* RawCall.hold(
                port,
                "/onlinebooks.recommendations.v1.RecommendationsService/ListCategories"
              )
              assert.strictEqual(yield* call.finish, "0")
              peak = Math.max(peak, yield* memoryOf(pid))
              if (early === 0 && sent > total / 5) early = peak
            })
          )
        }
        yield* Effect.logInfo(`${early.toFixed(0)} MiB after a fifth, ${peak.toFixed(0)} MiB at most`)
        yield* Effect.logInfo(
          Array.from(counts, ([key, count]) => `${count} x ${key}`)
            .toSorted()
            .join("\n")
        )
        assert.deepStrictEqual(
          Array.from(wrong, ([what, count]) => `${count} x ${what}`),
          []
        )
        // few calls share a connection with one that breaks it
        for (const [kind, { answers, shots }] of answered) assert.isAbove(answers, 0.8 * shots, kind)
        assert.notInclude(yield* output, "Unexpected error in a gRPC handler")
        // a valid request with a timeout of a nanosecond can expire while the history of its reader is read
        const errors = (yield* output)
          .split("\n")
          .filter((line) => /"level":"(ERROR|FATAL)"/i.test(line) && !line.includes('"code":"DeadlineExceeded"'))
        assert.deepStrictEqual(errors.slice(0, 3), [])
        assert.isAtMost(peak, early + 100)
      }).pipe(
        Effect.tapCause(() => Effect.logError(`GARBAGE_SEED=${seed} reproduces this run`)),
        Effect.scoped
      ),
    180_000
  )
})
