/**
 * Graceful shutdown of the services.
 */
import { connect, type Socket } from "node:net"

import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Schedule } from "effect"
import { HttpClient } from "effect/http"

import * as Tls from "../layers/tls/Tls.ts"
import * as CertificateFolder from "./CertificateFolder.ts"
import { Installation } from "./Installation.ts"
import { manyBooks } from "./ManyBooks.ts"
import * as RawCall from "./RawCall.ts"

/** Succeeds if the port is closed. */
const refusedBy = (port: number) =>
  Effect.callback<void, string>((resume) => {
    const socket = connect(port, "localhost")
    socket.on("connect", () => {
      socket.destroy()
      resume(Effect.fail("it is open"))
    })
    socket.on("error", () => resume(Effect.void))
  })

/** Opens a connection that sends a text and nothing more. */
const silent = (port: number, text: string) =>
  Effect.acquireRelease(
    Effect.callback<Socket>((resume) => {
      const socket = connect(port, "127.0.0.1", () => {
        socket.write(Buffer.from(text, "latin1"), () => resume(Effect.succeed(socket)))
      })
      socket.on("error", () => {})
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

const listCategories = "/onlinebooks.recommendations.v1.RecommendationsService/ListCategories"

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })(
  "the shutdown of a process",
  (it) => {
    it.effect.each(["SIGTERM", "SIGINT"] as const)("answers the gRPC call in flight on %s and exits with 0", (signal) =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const recommendations = yield* start("recommendations")
        const call = yield* RawCall.hold(recommendations.port, listCategories)
        yield* recommendations.signal(signal)
        yield* recommendations.written(`${signal} received: draining`)
        assert.strictEqual(yield* call.finish, "0")
        assert.strictEqual(yield* recommendations.exitCode, 0)
        assert.include(yield* recommendations.output, "gRPC server closed: 1 calls in flight finished, 0 aborted")
      })
    )

    it.effect("answers the page in flight on SIGTERM and exits with 0", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const recommendations = yield* start("recommendations")
        const marketplace = yield* start("marketplace", {
          RECOMMENDATIONS_TARGET: `localhost:${recommendations.port}`,
          MARKETPLACE_PAGE_BUDGET: "2 seconds"
        })
        // the page takes its whole budget
        yield* recommendations.signal("SIGSTOP")
        const page = yield* Effect.forkChild(HttpClient.get(`http://localhost:${marketplace.port}/`), {
          startImmediately: true
        })
        // connections are served in order, so once a later request is answered the first one has been read
        yield* HttpClient.get(`http://localhost:${marketplace.port}/favicon.ico`)
        yield* marketplace.signal("SIGTERM")
        const response = yield* Fiber.join(page)
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers["connection"], "close")
        assert.strictEqual(yield* marketplace.exitCode, 0)
        assert.include(yield* marketplace.output, "HTTP server closed: 1 requests in flight finished, 0 aborted")
        yield* recommendations.signal("SIGCONT")
      })
    )

    it.effect("serves calls during the delay and refuses connections after it", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const recommendations = yield* start("recommendations", { DRAIN_DELAY: "2s" })
        const before = yield* RawCall.hold(recommendations.port, listCategories)
        yield* recommendations.signal("SIGTERM")
        yield* recommendations.written("SIGTERM received: draining")
        const during = yield* RawCall.hold(recommendations.port, listCategories)
        assert.strictEqual(yield* during.finish, "0")
        // after the delay the port is closed while the first call is in flight
        yield* Effect.retry(refusedBy(recommendations.port), Schedule.spaced("20 millis"))
        assert.strictEqual(yield* before.finish, "0")
        assert.strictEqual(yield* recommendations.exitCode, 0)
        assert.include(yield* recommendations.output, "gRPC server closed: 1 calls in flight finished, 0 aborted")
      })
    )

    // connections that send half of the first bytes of the protocol, and that send nothing
    it.effect.each([
      ["plaintext", "PRI * HTTP/2.0"],
      ["mutual TLS", "\x16\x03\x01\x02\x00\x01\x00"]
    ] as const)("does not wait for silent connections over %s", ([over, half]) =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const tls = yield* CertificateFolder.makeBoth(`drain-${half.length}`)
        const { exitCode, output, port, signal } = yield* start(
          "recommendations",
          over === "plaintext" ? {} : tls.environment.recommendations
        )
        yield* silent(port, "")
        yield* silent(port, half)
        // connections are accepted in order: once a later one is served, these two are accepted
        if (over === "plaintext") yield* Effect.flatMap(RawCall.hold(port, listCategories), ({ finish }) => finish)
        else {
          const { socket } = yield* Tls.handshake(port, {
            servername: CertificateFolder.serverName,
            ca: tls.authority.cert,
            ...tls.identity
          })
          yield* Tls.served(socket)
        }
        yield* signal("SIGTERM")
        const [elapsed, code] = yield* Effect.timed(exitCode)
        assert.strictEqual(code, 0)
        // less than the drain timeout of 25 seconds and the handshake timeout of 10 seconds
        assert.isBelow(Duration.toMillis(elapsed), 8_000)
        assert.include(yield* output, "0 aborted")
        // handshakes that the server interrupted are not logged as refused
        assert.notInclude(yield* output, "Connection refused")
      })
    )

    it.effect("interrupts calls that take longer than the timeout, also of a client that never reads", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const recommendations = yield* start("recommendations", { DRAIN_TIMEOUT: "300ms" })
        yield* RawCall.hold(recommendations.port, listCategories)
        // a flow control window of 0 lets no byte of the response through
        const unread = yield* RawCall.hold(recommendations.port, listCategories, {}, { initialWindowSize: 0 })
        yield* unread.send
        yield* unread.end
        yield* recommendations.signal("SIGTERM")
        const [elapsed, exitCode] = yield* Effect.timed(recommendations.exitCode)
        assert.strictEqual(exitCode, 0)
        assert.include(yield* recommendations.output, "gRPC server closed: 0 calls in flight finished, 2 aborted")
        // less than the default timeout of 25 seconds
        assert.isBelow(Duration.toMillis(elapsed), 15_000)
      })
    )

    it.effect("exits at a signal during startup", () =>
      Effect.gen(function* () {
        const { begin, write } = yield* Installation
        yield* write("many.csv", manyBooks(300_000))
        const recommendations = yield* begin("recommendations", { CATALOG_FILE: "many.csv" })
        yield* recommendations.signal("SIGTERM")
        assert.strictEqual(yield* recommendations.exitCode, 0)
        assert.include(yield* recommendations.output, "SIGTERM received during startup: exiting")
      })
    )

    it.effect("exits at once at a second signal, at least a second after the first", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const recommendations = yield* start("recommendations", { DRAIN_DELAY: "1 hour" })
        yield* recommendations.signal("SIGTERM")
        yield* recommendations.written("SIGTERM received: draining")
        yield* Effect.forkScoped(
          Effect.repeat(recommendations.signal("SIGTERM"), Schedule.spaced("100 millis")).pipe(Effect.ignoreCause)
        )
        const [elapsed, exitCode] = yield* Effect.timed(recommendations.exitCode)
        assert.strictEqual(exitCode, 143)
        // signals within the first second count as the first one
        assert.isAbove(Duration.toMillis(elapsed), 700)
      })
    )

    it.effect.each([
      { origin: "uncaughtException", bug: 'throw new Error("planted")' },
      { origin: "unhandledRejection", bug: 'Promise.reject(new Error("planted"))' }
    ])("logs an $origin and exits with 1", ({ bug, origin }) =>
      Effect.gen(function* () {
        const { folder, start, write } = yield* Installation
        // a bug in a timer
        yield* write(`${origin}.cjs`, `process.on("SIGHUP", () => setTimeout(() => { ${bug} }))`)
        const recommendations = yield* start("recommendations", { NODE_OPTIONS: `--require ${folder}/${origin}.cjs` })
        process.kill(recommendations.pid, "SIGHUP")
        assert.strictEqual(yield* recommendations.exitCode, 1)
        const lines = (yield* recommendations.output).trim().split("\n")
        const { annotations, cause, level, message } = JSON.parse(lines.at(-1) ?? "") as {
          readonly [key: string]: unknown
        }
        assert.deepStrictEqual([level, message], ["FATAL", "Uncaught exception: the process exits"])
        assert.match(String(cause), /^Error: planted\n +at .*\.cjs:1:/)
        assert.include(annotations, { service: "recommendations", origin })
      })
    )

    it.effect("toggles Debug logging at SIGUSR2", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const recommendations = yield* start("recommendations")
        yield* recommendations.signal("SIGUSR2")
        yield* recommendations.written("Debug logging is on")
        yield* recommendations.signal("SIGUSR2")
        yield* recommendations.written("Debug logging is off")
      })
    )
  }
)
