/**
 * Exceptions in the listeners that Node calls at the end of a response close the connection, and never end the process.
 */
import { get } from "node:http"

import { assert, it, vi } from "@effect/vitest"
import { Effect } from "effect"
import * as NetAddress from "effect/net/NetAddress"

import * as IpNetworks from "../../../src/layers/config/IpNetworks.ts"
import { HttpConnections } from "../../../src/layers/http/HttpConnections.ts"
import * as HttpEdge from "../../../src/layers/http/HttpEdge.ts"
import * as Logs from "../telemetry/Logs.ts"

/** Sends a request and waits until its connection closes. Succeeds with the status of the response, if there was one. */
const request = (port: number) =>
  Effect.callback<number | undefined>((resume) => {
    let status: number | undefined
    const sent = get({ host: "127.0.0.1", port, agent: false }, (response) => {
      status = response.statusCode
      response.on("error", () => {}).resume()
    })
    sent.on("error", () => {}).on("close", () => resume(Effect.succeed(status)))
  })

it.live.each(["responded", "closeExchange"] as const)(
  "an exception in %s closes the connection and is logged",
  (hook) => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          vi.spyOn(HttpConnections.prototype, hook).mockImplementationOnce(() => {
            throw new Error("a bug")
          })
        ),
        (spy) => Effect.sync(() => spy.mockRestore())
      )
      const edge = yield* HttpEdge.make({
        name: "test",
        limits: HttpEdge.defaultLimits,
        trustedProxies: IpNetworks.none
      })
      const { address } = yield* HttpEdge.listen(edge, { host: "127.0.0.1", port: 0 })
      // ends the response outside of the server's listeners
      yield* edge.serve((_, response) => void setImmediate(() => response.end("ok")))
      const port = NetAddress.isInetAddress(address) ? address.port : 0
      yield* request(port)
      assert.strictEqual(yield* request(port), 200)
      assert.match(logs.text(), /Exception in a callback: HTTP response (end|close)/)
    }).pipe(Effect.scoped, Effect.provide(logs.layer))
  }
)
