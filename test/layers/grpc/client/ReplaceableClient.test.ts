/**
 * The successive grpc-js clients of a channel. Each is closed once it is no longer used.
 */
import { connect } from "node:net"

import { assert, describe, it, vi } from "@effect/vitest"
import { type ChannelCredentials, Client, connectivityState, credentials } from "@grpc/grpc-js"
import { Effect, Exit, Queue, Scope, Stream } from "effect"

import * as ReplaceableClient from "../../../../src/layers/grpc/client/ReplaceableClient.ts"
import * as TcpPort from "../../../integration/TcpPort.ts"
import * as Logs from "../../telemetry/Logs.ts"
import * as Http2Backend from "../Http2Backend.ts"

interface Options {
  readonly maxCalls?: number
  readonly connectTimeout?: number
  /** The credentials of the n-th client. Plaintext by default. */
  readonly credentials?: (count: number) => ChannelCredentials
}

/** A ReplaceableClient of a port, and the numbers of clients that it has created and closed. */
const make = Effect.fnUntraced(function* (port: number, options: Options = {}) {
  const counts = { made: 0, closed: 0 }
  const { close } = Client.prototype
  const closing = vi.spyOn(Client.prototype, "close").mockImplementation(function (this: Client) {
    counts.closed++
    close.call(this)
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => closing.mockRestore()))
  const changes = yield* Queue.unbounded<void>()
  const scope = yield* Scope.fork(yield* Effect.scope)
  const lease = yield* ReplaceableClient.make({
    target: `127.0.0.1:${port}`,
    credentials: () => (options.credentials ?? credentials.createInsecure)(++counts.made),
    channelOptions: { "grpc.ssl_target_name_override": "localhost" },
    connectTimeout: options.connectTimeout ?? 60_000,
    changes: Stream.fromQueue(changes),
    maxCalls: options.maxCalls ?? 10
  }).pipe(Scope.provide(scope))
  const granted = () => {
    const leased = lease()
    assert(leased._tag === "Lease")
    return leased
  }
  return {
    counts,
    /** Takes a lease. Asserts that it is granted. */
    lease: granted,
    /** The client of the next call. */
    current: () => {
      const { client, release } = granted()
      release()
      return client
    },
    refusal: () => lease()._tag,
    /** Changes the credentials, and waits until a client is created with them. */
    change: Effect.suspend(() => {
      const before = counts.made
      return Effect.andThen(
        Queue.offer(changes, undefined),
        until(() => counts.made > before)
      )
    }),
    close: Scope.close(scope, Exit.void)
  }
})

const until = (condition: () => boolean) => Effect.asVoid(Effect.repeat(Effect.yieldNow, { until: condition }))

const isClosed = (client: Client) => client.getChannel().getConnectivityState(false) === connectivityState.SHUTDOWN

const connected = (client: Client) =>
  Effect.callback<void, Error>((resume) => {
    client.waitForReady(Date.now() + 10_000, (error) => resume(error === undefined ? Effect.void : Effect.fail(error)))
  })

const backend = Http2Backend.serve((stream) => stream.close())

const silent = TcpPort.accept()

/** A port that forwards plaintext connections to another port, and does not answer TLS connections. */
const withoutTls = (port: number) =>
  TcpPort.accept((socket) => {
    socket.once("data", (first: Buffer) => {
      if (first[0] === 0x16) return
      const other = connect(port, "127.0.0.1").on("error", () => {})
      other.write(first)
      socket.pipe(other)
      other.pipe(socket)
    })
  })

describe("leases", () => {
  it.live("are limited by maxCalls, and each is released only once", () =>
    Effect.gen(function* () {
      const { change, lease, refusal } = yield* make(yield* backend, { maxCalls: 2 })
      const [first] = [lease(), lease()]
      assert.strictEqual(refusal(), "ResourceExhausted")
      // calls of replaced clients count as well
      yield* change
      assert.strictEqual(refusal(), "ResourceExhausted")
      first!.release()
      first!.release()
      lease()
      assert.strictEqual(refusal(), "ResourceExhausted")
    })
  )
})

describe("a client whose credentials have been replaced", () => {
  it.live("is closed at once if it has no calls", () =>
    Effect.gen(function* () {
      const { change, close, counts, current } = yield* make(yield* backend)
      const client = current()
      yield* change
      assert.isTrue(isClosed(client))
      assert.isFalse(isClosed(current()))
      yield* close
      assert.deepStrictEqual(counts, { made: 2, closed: 2 })
    })
  )

  it.live("is closed when its last call has ended", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const { change, counts, current, lease } = yield* make(yield* backend)
      const [one, other] = [lease(), lease()]
      yield* change
      assert.notStrictEqual(current(), one!.client)
      one!.release()
      assert.isFalse(isClosed(other!.client))
      other!.release()
      assert.isTrue(isClosed(other!.client))
      assert.deepStrictEqual(counts, { made: 2, closed: 1 })
      assert.strictEqual(logs.text(), "")
    }).pipe(Effect.provide(logs.layer))
  })

  it.live("is kept while it is connected and no successor is, of which only the latest is kept", () =>
    Effect.gen(function* () {
      const { change, close, counts, current } = yield* make(yield* backend, {
        // the server does not support TLS, and only the first and fifth clients use plaintext
        credentials: (count) => (count === 1 || count === 5 ? credentials.createInsecure() : credentials.createSsl())
      })
      const client = current()
      yield* connected(client)
      for (let count = 1; count <= 3; count++) yield* change
      assert.strictEqual(current(), client)
      assert.deepStrictEqual(counts, { made: 4, closed: 2 })
      // the fifth client connects by itself
      yield* change
      yield* until(() => current() !== client).pipe(Effect.timeout("10 seconds"))
      yield* change
      yield* close
      assert.deepStrictEqual(counts, { made: 6, closed: 6 })
    })
  )

  it.live("is replaced if its connection is lost", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const serving = yield* Scope.make()
      const { change, counts, current } = yield* make(yield* Scope.provide(backend, serving), {
        credentials: (count) => (count === 1 ? credentials.createInsecure() : credentials.createSsl())
      })
      const client = current()
      yield* connected(client)
      yield* change
      assert.strictEqual(current(), client)
      yield* Scope.close(serving, Exit.void)
      yield* until(() => current() !== client).pipe(Effect.timeout("10 seconds"))
      assert.isTrue(isClosed(client))
      assert.deepStrictEqual(counts, { made: 2, closed: 1 })
      assert.strictEqual(logs.text(), "")
    }).pipe(Effect.provide(logs.layer))
  })

  it.live("is kept while its successors time out and are replaced", () =>
    Effect.gen(function* () {
      const { change, counts, current } = yield* make(yield* withoutTls(yield* backend), {
        connectTimeout: 200,
        credentials: (count) => (count === 1 ? credentials.createInsecure() : credentials.createSsl())
      })
      const client = current()
      yield* connected(client)
      yield* change
      yield* until(() => counts.made >= 4).pipe(Effect.timeout("10 seconds"))
      assert.strictEqual(current(), client)
      // two are open: the one that is kept and the one that is connecting
      assert.strictEqual(counts.closed, counts.made - 2)
    })
  )

  it.live("is kept if the new credentials are invalid, until valid ones follow", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const { change, current } = yield* make(yield* backend, {
        credentials: (count) => {
          if (count === 2) throw new Error("no certificate")
          return credentials.createInsecure()
        }
      })
      const client = current()
      yield* change
      yield* until(() => logs.text() !== "")
      assert.match(logs.text(), /Channel not recreated with new certificates/)
      assert.strictEqual(current(), client)
      yield* change
      assert.notStrictEqual(current(), client)
    }).pipe(Effect.provide(logs.layer))
  })
})

describe("a client that times out while it connects", () => {
  it.live("is replaced and closed, and logged each time", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const { close, counts, current, lease, refusal } = yield* make(yield* silent, { connectTimeout: 50 })
      const lines = () =>
        logs.lines().filter(({ message }) => /^Connection to .* timed out; recreating the channel$/.test(`${message}`))
      for (let count = 1; count <= 3; count++) {
        // held by a call that waits for the connection
        const { client } = lease()
        client.getChannel().getConnectivityState(true)
        yield* until(() => current() !== client).pipe(Effect.timeout("10 seconds"))
        assert.isTrue(isClosed(client))
        assert.deepStrictEqual(counts, { made: count + 1, closed: count })
        assert.strictEqual(lines().length, count)
      }
      yield* close
      assert.deepStrictEqual(counts, { made: 4, closed: 4 })
      assert.strictEqual(refusal(), "Unavailable")
    }).pipe(Effect.provide(logs.layer))
  })
})
