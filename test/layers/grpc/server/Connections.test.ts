/**
 * The limits that a server puts on hostile connections, and that it serves well-behaved clients meanwhile.
 */
import { createServer, type Http2Server, type Http2Session } from "node:http2"

import { assert, describe, it, vi } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import { Context, Duration, Effect, Exit, Fiber, Layer, Metric, Predicate, Queue, Scope } from "effect"

import * as GrpcServer from "../../../../src/layers/grpc/GrpcServer.ts"
import * as ConnectionRefusal from "../../../../src/layers/grpc/server/ConnectionRefusal.ts"
import * as NodeGrpcServer from "../../../../src/layers/grpc/server/NodeGrpcServer.ts"
import * as ServerConnections from "../../../../src/layers/grpc/server/ServerConnections.ts"
import * as StreamGate from "../../../../src/layers/grpc/server/StreamGate.ts"
import * as Status from "../../../../src/layers/grpc/Status.ts"
import { Drain } from "../../../../src/layers/process/Drain.ts"
import * as CallbackGuard from "../../../../src/layers/telemetry/CallbackGuard.ts"
import * as Logs from "../../telemetry/Logs.ts"
import * as Tls from "../../tls/Tls.ts"
import * as Echo from "../Echo.ts"
import * as RawHttp2 from "../RawHttp2.ts"
import * as Refusals from "./Refusals.ts"

const path = `/${Echo.EchoService.name}/Echo`

type ServeOptions = Parameters<typeof Echo.serve>[1]

const serving = Effect.fnUntraced(function* (options?: ServeOptions) {
  const logs = Logs.recorder()
  const registry: Metric.MetricRegistry = new Map()
  const { load, port } = yield* Echo.start({}, options).pipe(
    Effect.provide(logs.layer),
    Effect.provideService(Metric.MetricRegistry, registry)
  )
  const textOf = ({ annotations, message }: Logs.Line) =>
    [message, annotations["address"], annotations["detail"]].filter(Predicate.isNotUndefined).join(" ")
  return {
    port,
    load,
    logs,
    metrics: Effect.provideService(Metric.snapshot, Metric.MetricRegistry, registry),
    /** The number of refused connections by reason, without those that are 0. */
    refused: Effect.provideService(Refusals.counts, Metric.MetricRegistry, registry),
    /** Waits for a log line that matches, and succeeds with it: its message, and the address and detail of a refused connection. */
    line: (pattern: RegExp) =>
      Effect.sync(() =>
        logs
          .lines()
          .map(textOf)
          .find((text) => pattern.test(text))
      ).pipe(
        Effect.tap(() => Effect.yieldNow),
        Effect.repeat({ until: (text) => text !== undefined }),
        Effect.map(String)
      )
  }
})

type Serving = Effect.Success<ReturnType<typeof serving>>

const assertServed = (port: number, papers: Tls.Papers = {}) =>
  Effect.map(Tls.call(port, papers), ({ code, details }) => assert.deepStrictEqual([code, details], [0, ""]))

describe("the headers of a call", () => {
  it.live("with too many binary values are rejected before grpc-js decodes them, with one access log line", () =>
    Effect.gen(function* () {
      const { line, logs, port } = yield* serving()
      const { socket } = yield* RawHttp2.connect(port)
      socket.write(Buffer.concat([RawHttp2.begin, RawHttp2.call(1, path, [["x-bin", ",".repeat(12_000)]])]))
      yield* line(/^gRPC call failed: Number of values of "-bin" headers \(12001\) exceeds the limit of 64$/)
      assert.strictEqual(logs.access().length, 1)
      assert.strictEqual(logs.access()[0]?.annotations["code"], "ResourceExhausted")
      // the connection still serves calls with fewer values
      socket.write(RawHttp2.call(3, "/nobody/Knows", [["x-bin", ",".repeat(60)]]))
      yield* line(/nobody/)
      yield* assertServed(port)
    })
  )

  it.live("that are too many are rejected with a status and an access log line", () =>
    Effect.gen(function* () {
      const { line, logs, port } = yield* serving()
      const { socket } = yield* RawHttp2.connect(port)
      const headers = Array.from({ length: 150 }, (_, index) => [`x-${index}`, ""] as const)
      socket.write(Buffer.concat([RawHttp2.begin, RawHttp2.call(1, path, headers)]))
      yield* line(/^gRPC call failed: Number of headers \(156\) exceeds the limit of 128$/)
      assert.strictEqual(logs.access().length, 1)
      yield* assertServed(port)
    })
  )

  it.live("that are too large are rejected even before the client has acknowledged the limit", () =>
    Effect.gen(function* () {
      const { line, logs, port } = yield* serving()
      const { socket } = yield* RawHttp2.connect(port)
      socket.write(Buffer.concat([RawHttp2.begin, RawHttp2.call(1, path, [["x-large", "a".repeat(40_000)]])]))
      yield* line(/^gRPC call failed: Headers of 40\d\d\d bytes exceed the limit of 16384$/)
      assert.strictEqual(logs.access().length, 1)
      yield* assertServed(port)
    })
  )
})

describe("an exception in the listener of streams", () => {
  /** Installs the gate on a server whose own listener, in the place of grpc-js', throws. */
  const withGate = (http2: Http2Server, guard: CallbackGuard.Guard) => {
    http2.on("stream", () => {
      throw new Error("a bug of grpc-js")
    })
    const connections = new Map<Http2Session, StreamGate.Connection>()
    http2.on("session", (session) =>
      connections.set(session, {
        peer: { address: "someone", names: [] },
        client: "someone",
        whyNotAllowed: undefined,
        tracked: { phase: "unused", openCalls: 0, since: 0 },
        onIdle: undefined
      })
    )
    StreamGate.install(http2, {
      maxHeaderSize: 16_384,
      guard,
      calls: { entering: undefined, onRejectedStream: () => {} },
      connections,
      onUsed: () => {},
      onNotAllowed: () => {}
    })
  }

  it.live("resets only its stream, and is logged with the method and the peer", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const http2 = createServer()
      withGate(http2, CallbackGuard.make(yield* Effect.context<never>()))
      yield* Effect.callback<void>((resume) => void http2.listen(0, "127.0.0.1", () => resume(Effect.void)))
      const address = http2.address()
      const { socket, received } = yield* RawHttp2.connect(typeof address === "object" ? address!.port : 0)
      socket.write(Buffer.concat([RawHttp2.begin, RawHttp2.call(1, path), RawHttp2.call(3, path)]))
      const reset = (stream: number) => RawHttp2.frame(3, 0, stream, Buffer.from([0, 0, 0, 2]))
      yield* Effect.repeat(Effect.yieldNow, {
        until: () => Effect.sync(() => received().includes(reset(1)) && received().includes(reset(3)))
      })
      assert.deepStrictEqual(
        logs.lines().map(({ annotations, message }) => [message, annotations["method"], annotations["peer"]]),
        Array.from({ length: 2 }, () => ["Exception in a callback: stream listener", path.slice(1), "someone"])
      )
      http2.close()
    }).pipe(Effect.scoped, Effect.provide(logs.layer), Effect.timeout("10 seconds"))
  })
})

describe("a client that sends GOAWAY during calls", () => {
  it.live("is disconnected within seconds after a protocol error", () =>
    Effect.gen(function* () {
      const { load, port } = yield* serving()
      const { closed, socket } = yield* RawHttp2.connect(port)
      socket.write(RawHttp2.begin)
      for (let stream = 1; stream < 20; stream += 2) socket.write(RawHttp2.call(stream, path, [], false))
      socket.write(Buffer.concat([RawHttp2.goAway, RawHttp2.frame(0, 0, 0, Buffer.from("DATA"))]))
      const [waited] = yield* Effect.timed(closed)
      assert.isBelow(Duration.toMillis(waited), 5_000)
      yield* Effect.repeat(load, { until: ({ answering }) => answering === 0 })
      yield* assertServed(port)
    })
  )
})

describe("a client whose connection has reached maxConnectionAge", () => {
  it.live("does not delay a closing server by a call that it never ends", () =>
    Effect.gen(function* () {
      const serving = yield* Scope.make()
      const options = {
        limits: { maxConnectionAge: Duration.millis(50) },
        drain: Drain.layerTest(Duration.seconds(15))
      }
      const context = yield* Scope.provide(Layer.build(Echo.serve({}, options)), serving)
      const { port } = yield* Context.get(context, GrpcServer.GrpcServer).address
      const { closed, received, socket } = yield* RawHttp2.connect(port)
      socket.write(Buffer.concat([RawHttp2.begin, RawHttp2.call(1, path, [], false)]))
      // the second GOAWAY names the last stream
      const last = RawHttp2.frame(7, 0, 0, Buffer.from([0, 0, 0, 1, 0, 0, 0, 0]))
      yield* Effect.repeat(Effect.yieldNow, { until: () => received().includes(last) })
      const [waited] = yield* Effect.timed(Scope.close(serving, Exit.void))
      assert.isBelow(Duration.toMillis(waited), 10_000)
      yield* closed
    }).pipe(Effect.scoped)
  )
})

describe("a client that sends no HTTP/2 SETTINGS", () => {
  it.live("is disconnected after a timeout, unlike an idle client that has sent them", () =>
    Effect.gen(function* () {
      const { line, port, refused } = yield* serving()
      const silent = yield* RawHttp2.connect(port)
      silent.socket.write(RawHttp2.preface)
      const idle = yield* RawHttp2.connect(port)
      idle.socket.write(RawHttp2.begin)
      const settingsAck = RawHttp2.frame(4, 1, 0)
      yield* Effect.repeat(Effect.yieldNow, { until: () => idle.received().includes(settingsAck) })
      const { now } = performance
      const later = vi.spyOn(performance, "now").mockImplementation(() => now.call(performance) + 10_000)
      yield* Effect.addFinalizer(() => Effect.sync(() => later.mockRestore()))
      yield* silent.closed
      yield* line(/^Connection refused 127\.0\.0\.1:\d+ no HTTP\/2 SETTINGS received in time$/)
      assert.deepStrictEqual(yield* refused, { not_http2: 1 })
      assert.isFalse(idle.socket.destroyed)
      yield* assertServed(port)
    })
  )
})

/** Whether a frame is a GOAWAY with this last stream. */
const isGoAway = (last: number) => (frame: RawHttp2.Frame) => frame.type === 7 && frame.payload.readUInt32BE(0) === last

describe("a connection older than maxConnectionAge", () => {
  const aged = { limits: { maxConnectionAge: Duration.millis(10) } }

  it.live("does not start a call that arrives after its first GOAWAY, and excludes it in the second", () =>
    Effect.gen(function* () {
      const { logs, port } = yield* serving(aged)
      const { closed, frame, received, socket } = yield* RawHttp2.connect(port)
      socket.write(RawHttp2.begin)
      assert.isDefined(yield* frame(isGoAway(2 ** 31 - 1)))
      socket.write(RawHttp2.call(1, path))
      assert.isDefined(yield* frame(isGoAway(0)))
      yield* closed
      assert.isFalse(RawHttp2.framesOf(received()).some(({ stream }) => stream === 1))
      assert.deepStrictEqual(logs.access(), [])
    })
  )
})

describe("a flood of frames", () => {
  const ping = RawHttp2.frame(6, 0, 0, Buffer.alloc(8))
  const settings = RawHttp2.frame(4, 0, 0, Buffer.from([0, 4, 0, 0, 255, 255]))
  const open = RawHttp2.call(1, path, [], false)
  const floods = [
    ["of PING whose acknowledgements are not read", ping, Buffer.alloc(0)],
    ["of SETTINGS whose acknowledgements are not read", settings, Buffer.alloc(0)],
    ["of empty DATA", RawHttp2.frame(0, 0, 1), open],
    // the first frame is HEADERS without END_HEADERS
    [
      "of CONTINUATION",
      RawHttp2.frame(9, 0, 1),
      Buffer.concat([open.subarray(0, 4), Buffer.from([0]), open.subarray(5)])
    ]
  ] as const

  it.live.each(floods)("%s closes only its connection, with a log line and a metric", ([, frame, first]) =>
    Effect.gen(function* () {
      const { line, port, refused } = yield* serving()
      const { closed, socket } = yield* RawHttp2.connect(port, "127.0.0.2")
      socket.pause()
      socket.write(Buffer.concat([RawHttp2.begin, first]))
      const many = Buffer.concat(Array.from({ length: 2_000 }, () => frame))
      const flood = () => {
        while (!socket.destroyed && socket.write(many));
      }
      socket.on("drain", flood)
      flood()
      yield* Effect.raceFirst(closed, Effect.asVoid(line(/HTTP\/2 protocol error or flood/)))
      yield* assertServed(port)
      yield* line(/^Connection refused 127\.0\.0\.2:\d+ HTTP\/2 protocol error or flood: /)
      assert.deepStrictEqual(yield* refused, { protocol_error: 1 })
    })
  )
})

describe("the counters of a server", () => {
  it.live("start with a series at 0 for each reason", () =>
    Effect.gen(function* () {
      const snapshots = yield* (yield* serving()).metrics
      const values = (name: string, label: string) =>
        Object.fromEntries(
          snapshots.flatMap(({ attributes, id, state }) =>
            id === name && "count" in state ? [[attributes?.[label], state.count]] : []
          )
        )
      assert.deepStrictEqual(
        values("grpc_server_connections_refused_total", "reason"),
        Object.fromEntries(ConnectionRefusal.reasons.map((reason) => [reason, 0]))
      )
      assert.deepStrictEqual(values("grpc_server_accept_errors_total", "error"), {
        EMFILE: 0,
        ENFILE: 0,
        ENOBUFS: 0,
        ENOMEM: 0
      })
    })
  )
})

describe("connections", () => {
  it.live("above maxConnectionsPerAddress are evicted in favour of a new one if they have no calls", () =>
    Effect.gen(function* () {
      const { line, port, refused } = yield* serving({ limits: { maxConnectionsPerAddress: 5 } })
      const idle = yield* Effect.replicateEffect(RawHttp2.connect(port), 20)
      for (const { socket } of idle) socket.write(RawHttp2.begin)
      yield* assertServed(port)
      yield* Effect.forEach(idle.slice(0, 16), ({ closed }) => closed)
      assert.isFalse(idle.at(-1)!.socket.destroyed)
      assert.deepStrictEqual(yield* refused, { too_many_connections_of_address: 16 })
      yield* line(
        /^Connection refused 127\.0\.0\.1:\d+ connection limit per address of 5 exceeded; evicted before the first call$/
      )
    })
  )

  it.live("above maxConnections are evicted from the address that holds most", () =>
    Effect.gen(function* () {
      const { port, refused } = yield* serving({ limits: { maxConnections: 10, maxConnectionsPerAddress: 9 } })
      const others = yield* Effect.replicateEffect(RawHttp2.connect(port, "127.0.0.3"), 2)
      const many = yield* Effect.replicateEffect(RawHttp2.connect(port, "127.0.0.2"), 200)
      yield* assertServed(port)
      yield* Effect.forEach(many.slice(0, 190), ({ closed }) => closed)
      for (const { socket } of others) assert.isFalse(socket.destroyed)
      const { too_many_connections: ofAll = 0, too_many_connections_of_address: ofAddress = 0 } = yield* refused
      assert.isAbove(ofAll, 0)
      assert.isAtMost(ofAll + ofAddress, 193)
    })
  )

  it.live("above maxHandshakesPerAddress are evicted, while a well-behaved client is served", () =>
    Effect.gen(function* () {
      const authority = yield* Tls.makeAuthority()
      const { watched } = yield* Tls.watch(yield* Tls.serverCertificate(authority))
      const limits = { maxConnections: 20, maxConnectionsPerAddress: 10 }
      const { port, refused } = yield* serving({ limits, tls: { certificates: watched } })
      const half = yield* Effect.replicateEffect(RawHttp2.connect(port, "127.0.0.2"), 100)
      for (const { socket } of half) socket.write(Buffer.from("16030102000100", "hex"))
      assert.strictEqual((yield* Tls.call(port, { ca: authority.cert })).code, 0)
      yield* Effect.forEach(half.slice(0, 95), ({ closed }) => closed)
      assert.deepStrictEqual(yield* refused, { too_many_handshakes_of_address: 95 })
    })
  )
})

describe("connections from many addresses below the limit of each", () => {
  /** Opens such connections, while a well-behaved client makes calls on new connections, which have to succeed. */
  const withAttack = <E>(
    { call, port, refused }: Pick<Serving, "port" | "refused"> & { readonly call: Effect.Effect<void, E> },
    bytes: Uint8Array,
    reason: ConnectionRefusal.Refusal["reason"]
  ) =>
    Effect.gen(function* () {
      let isOver = false
      let calls = 0
      const calling = call.pipe(
        Effect.tap(() => Effect.sync(() => void calls++)),
        Effect.repeat({ until: () => isOver && calls >= 5 }),
        Effect.forkChild
      )
      const fiber = yield* calling
      const addresses = Array.from(
        { length: 400 },
        (_, index) => `127.0.${1 + Math.floor(index / 200)}.${1 + (index % 200)}`
      )
      const attack = yield* Effect.forEach(addresses, (address) =>
        Effect.tap(RawHttp2.connect(port, address), ({ socket }) => Effect.sync(() => socket.write(bytes)))
      )
      isOver = true
      yield* Fiber.join(fiber)
      // the oldest connections are evicted first
      yield* Effect.forEach(attack.slice(0, 350), ({ closed }) => closed)
      const reasons = yield* refused
      assert.deepStrictEqual(Object.keys(reasons), [reason])
      assert.isAtLeast(reasons[reason] ?? 0, 350)
    })

  it.live("are evicted in favour of a well-behaved client if they are idle", () =>
    Effect.gen(function* () {
      const { port, refused } = yield* serving({ limits: { maxConnections: 40, maxConnectionsPerAddress: 20 } })
      yield* withAttack({ call: assertServed(port), port, refused }, RawHttp2.begin, "too_many_connections")
    })
  )

  it.live("are evicted in favour of a well-behaved client if they are in their TLS handshake", () =>
    Effect.gen(function* () {
      const authority = yield* Tls.makeAuthority()
      const { watched } = yield* Tls.watch(yield* Tls.serverCertificate(authority))
      const limits = { maxConnections: 80, maxConnectionsPerAddress: 40 }
      const { port, refused } = yield* serving({ limits, tls: { certificates: watched } })
      const call = assertServed(port, { ca: authority.cert })
      yield* withAttack({ call, port, refused }, Buffer.from("16030102000100", "hex"), "too_many_handshakes")
    })
  )
})

describe("a client that is not in allowedClients", () => {
  it.live("gets PERMISSION_DENIED on its first call before grpc-js parses the headers, and is disconnected", () =>
    Effect.gen(function* () {
      const authority = yield* Tls.makeAuthority()
      const { watched } = yield* Tls.watch(yield* Tls.serverCertificate(authority), authority.cert)
      const tls = { certificates: watched, allowedClients: new Set(["frontend"]) }
      const { line, logs, port } = yield* serving({ tls })
      const identity = yield* Tls.clientCertificate(authority, { names: ["DNS:stranger"] })
      const { socket } = yield* Tls.handshake(port, { ca: authority.cert, ...identity })
      const headers = [["x-bin", ",".repeat(12_000)]] as const
      socket.write(Buffer.concat([RawHttp2.begin, RawHttp2.call(1, path, headers, false)]))
      yield* Tls.closed(socket)
      yield* line(/^gRPC call failed: This client may not call this server$/)
      assert.strictEqual(logs.access().length, 1)
      assert.strictEqual(logs.access()[0]?.annotations["code"], "PermissionDenied")
      // the line has the identity of the client
      assert.strictEqual(logs.access()[0]?.annotations["peerNames"], "DNS:stranger")
    })
  )
})

describe("a plaintext server", () => {
  const warned = (host: string) =>
    Effect.gen(function* () {
      const logs = Logs.recorder()
      yield* Effect.scoped(
        Layer.build(
          GrpcServer.serve(Echo.EchoService, Effect.succeed(Echo.handlers), {
            Refused: () => Status.internal("refused"),
            Unavailable: () => Status.internal("unavailable")
          }).pipe(
            NodeGrpcServer.listen({ host, port: 0 }),
            Layer.provide(Drain.layerTest()),
            Layer.provideMerge(logs.layer)
          )
        )
      )
      return logs.lines().filter(({ level }) => level === "WARN").length
    })

  it.live("warns once that its traffic is not encrypted, except on loopback", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* warned("0.0.0.0"), 1)
      assert.strictEqual(yield* warned("127.0.0.1"), 0)
    })
  )
})

describe("the certificate of a client", () => {
  it.live("is verified on each connection: TLS sessions are not resumed", () =>
    Effect.gen(function* () {
      const authority = yield* Tls.makeAuthority()
      const { replace, watched } = yield* Tls.watch(yield* Tls.serverCertificate(authority), authority.cert)
      const { port } = yield* serving({ tls: { certificates: watched } })
      const identity = yield* Tls.clientCertificate(authority)
      for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
        const options = { ca: authority.cert, ...identity, maxVersion }
        const first = yield* Tls.handshake(port, options)
        const sessions = yield* Queue.unbounded<Buffer>()
        const offer = () => {
          const session = first.socket.getSession()
          if (session !== undefined) Queue.offerUnsafe(sessions, session)
        }
        first.socket.once("data", offer)
        const session = yield* Queue.take(sessions)
        const second = yield* Tls.handshake(port, { ...options, session })
        assert.isFalse(second.socket.isSessionReused(), maxVersion)
        // the same after a reload of the certificate
        yield* replace(yield* Tls.serverCertificate(authority), authority.cert)
      }
    })
  )

  it.live("that expires while a connection is open ends the connection", () =>
    Effect.gen(function* () {
      const authority = yield* Tls.makeAuthority()
      const { watched } = yield* Tls.watch(yield* Tls.serverCertificate(authority), authority.cert)
      const { port } = yield* serving({ tls: { certificates: watched } })
      const identity = yield* Tls.clientCertificate(authority, { notAfter: new Date(Date.now() + 2_000) })
      const { socket } = yield* Tls.handshake(port, { ca: authority.cert, ...identity })
      socket.write(Buffer.concat([RawHttp2.begin, RawHttp2.call(1, path)]))
      const { frame, received } = RawHttp2.watch(socket)
      assert.isDefined(yield* frame(isGoAway(2 ** 31 - 1)))
      socket.write(RawHttp2.call(3, path))
      const [waited] = yield* Effect.timed(Tls.closed(socket))
      assert.isBelow(Duration.toMillis(waited), 8_000)
      // the GOAWAY tells the client that its second call was not processed
      const frames = RawHttp2.framesOf(received())
      assert.isTrue(frames.some(isGoAway(1)))
      assert.isFalse(frames.some(({ stream }) => stream === 3))
      assert.strictEqual((yield* Tls.call(port, { ca: authority.cert, identity })).code, status.UNAVAILABLE)
    })
  )

  it.live("that has expired fails calls with UNAUTHENTICATED before the server's next check of its connections", () =>
    Effect.gen(function* () {
      const authority = yield* Tls.makeAuthority()
      const { watched } = yield* Tls.watch(yield* Tls.serverCertificate(authority), authority.cert)
      // with fake timers, the periodic check of connections never runs
      vi.useFakeTimers({ toFake: ["setInterval", "Date"] })
      const { line, logs, port } = yield* serving({ tls: { certificates: watched } })
      const notAfter = new Date(Date.now() + 60 * 60 * 1000)
      const identity = yield* Tls.clientCertificate(authority, { notAfter })
      const { socket } = yield* Tls.handshake(port, { ca: authority.cert, ...identity })
      socket.write(RawHttp2.begin)
      yield* Tls.served(socket)
      vi.setSystemTime(notAfter.getTime() + 1_000)
      socket.write(RawHttp2.call(1, path))
      yield* line(/^gRPC call failed: The certificate of this client has expired$/)
      assert.deepStrictEqual(
        logs.access().map(({ annotations }) => annotations["code"]),
        ["Unauthenticated"]
      )
    }).pipe(Effect.ensuring(Effect.sync(() => vi.useRealTimers())))
  )
})

describe("a client whose certificate is revoked", () => {
  it.live("is disconnected and refused once the revocation list names it, unlike other clients", () =>
    Effect.gen(function* () {
      const authority = yield* Tls.makeAuthority()
      const identity = yield* Tls.serverCertificate(authority)
      const none = yield* Tls.revoke(authority, [])
      const { replace, watched } = yield* Tls.watch(identity, authority.cert, none)
      const { port, refused } = yield* serving({ tls: { certificates: watched } })
      const clients = [yield* Tls.clientCertificate(authority), yield* Tls.clientCertificate(authority)] as const
      const [bad, other] = yield* Effect.forEach(clients, (client) =>
        Effect.map(Tls.handshake(port, { ca: authority.cert, ...client }), ({ socket }) => socket)
      )
      for (const socket of [bad!, other!]) {
        // with a call in flight
        socket.write(Buffer.concat([RawHttp2.begin, RawHttp2.call(1, path, [], false)]))
        yield* Tls.served(socket)
      }
      yield* replace(identity, authority.cert, yield* Tls.revoke(authority, [clients[0]]))
      yield* Tls.closed(bad!)
      assert.isFalse(other!.destroyed)
      const papers = { ca: authority.cert }
      assert.strictEqual((yield* Tls.call(port, { ...papers, identity: clients[0] })).code, status.UNAVAILABLE)
      assert.strictEqual((yield* Tls.call(port, { ...papers, identity: clients[1] })).code, 0)
      assert.strictEqual((yield* refused)["certificate_revoked"], 2)
      // the client is accepted again once it is no longer revoked
      yield* replace(identity, authority.cert, none)
      yield* Effect.repeat(Tls.call(port, { ...papers, identity: clients[0] }), { until: ({ code }) => code === 0 })
    })
  )
})

describe("the client of a call for fairness", () => {
  it("is identified by its sorted certificate names and its network", () => {
    const names = [
      { type: "URI", value: "spiffe://a/b" },
      { type: "DNS", value: "b" },
      { type: "DNS", value: "a b" }
    ]
    assert.strictEqual(ServerConnections.clientOf(names, "10.0.0.1"), 'DNS:"a b", DNS:b, URI:spiffe://a/b 10.0.0.1')
    assert.strictEqual(ServerConnections.clientOf([], "2001:db8:1:2::/64"), "2001:db8:1:2::/64")
  })
})
