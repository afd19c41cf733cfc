/**
 * A pod of the local cluster is probed, restarted and terminated as by a kubelet. Its process is a small server whose probes the test sets.
 */
import { createServer } from "node:net"
import { fileURLToPath } from "node:url"

import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Option, Schedule } from "effect"
import { HttpClient } from "effect/http"

import type { Probe, Workload } from "../../k8s/cluster/Manifests.ts"
import * as Pod from "../../k8s/cluster/Pod.ts"

const freePort = Effect.callback<number>((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    const port = address !== null && typeof address === "object" ? address.port : 0
    server.close(() => resume(Effect.succeed(port)))
  })
})

const makePod = Effect.fnUntraced(function* (grace: Duration.Duration = Duration.seconds(10)) {
  const port = yield* freePort
  const probe = (path: string, failureThreshold: number): Probe => ({
    path,
    port,
    initialDelay: Duration.zero,
    period: Duration.millis(100),
    timeout: Duration.seconds(1),
    successThreshold: 1,
    failureThreshold
  })
  const workload: Workload = {
    name: "server",
    namespace: "test",
    labels: {},
    replicas: 1,
    maxSurge: () => 1,
    maxUnavailable: () => 0,
    minReady: Duration.zero,
    progressDeadline: Duration.minutes(5),
    grace,
    program: "server",
    environment: [],
    mounts: [],
    ports: {},
    startup: probe("/readyz", 100),
    readiness: probe("/readyz", 1),
    liveness: probe("/livez", 3)
  }
  const pod = yield* Pod.start(
    {
      name: "server-1",
      address: "127.0.0.1",
      revision: 1,
      file: fileURLToPath(new URL("server.mjs", import.meta.url)),
      environment: { HOST: "127.0.0.1", PORT: String(port) }
    },
    workload,
    Effect.void
  )
  const until = (isReady: boolean) =>
    pod.readySince.pipe(
      Effect.repeat({ until: (since) => Option.isSome(since) === isReady, schedule: Schedule.spaced("10 millis") })
    )
  const set = (name: "readyz" | "livez", status: number) =>
    Effect.asVoid(HttpClient.get(`http://127.0.0.1:${port}/set?${name}=${status}`))
  return { ...pod, until, set }
})

layer(Layer.merge(NodeServices.layer, NodeHttpClient.layerNodeHttp), { excludeTestServices: true })("a pod", (it) => {
  it.effect("is ready while its readiness probe succeeds, until it is terminated", () =>
    Effect.gen(function* () {
      const { readySince, set, terminate, until } = yield* makePod()
      assert.isTrue(Option.isNone(yield* readySince))
      yield* until(true)
      yield* set("readyz", 503)
      yield* until(false)
      yield* set("readyz", 200)
      yield* until(true)

      const leaving = yield* Effect.forkChild(terminate)
      yield* until(false)
      const { isOrderly, took } = yield* Fiber.join(leaving)
      assert.isTrue(isOrderly)
      assert.isAtLeast(Duration.toMillis(took), 400)
      assert.isTrue(Option.isNone(yield* readySince))
    }).pipe(Effect.scoped)
  )

  it.effect("is restarted after its process was killed, and becomes ready again", () =>
    Effect.gen(function* () {
      const { crash, readySince, terminate, until } = yield* makePod()
      yield* until(true)
      yield* crash
      assert.isTrue(Option.isNone(yield* readySince))
      yield* until(true)
      assert.isTrue((yield* terminate).isOrderly)
    }).pipe(Effect.scoped)
  )

  it.effect("gets SIGTERM once, even if a failed liveness probe has just sent it", () =>
    Effect.gen(function* () {
      const { set, terminate, until } = yield* makePod()
      yield* until(true)
      yield* set("livez", 500)
      // the process has received SIGTERM, is not ready any more, and takes half a second to exit
      yield* until(false)
      assert.isTrue((yield* terminate).isOrderly)
    }).pipe(Effect.scoped)
  )

  it.effect("terminates immediately while it waits for a restart", () =>
    Effect.gen(function* () {
      const { crash, terminate, until } = yield* makePod()
      yield* until(true)
      yield* crash
      yield* until(true)
      // a kubelet delays the second restart by ten seconds
      yield* crash
      const { isOrderly, took } = yield* terminate
      assert.isTrue(isOrderly)
      assert.isBelow(Duration.toMillis(took), 5_000)
    }).pipe(Effect.scoped)
  )

  it.effect("is killed after its grace period", () =>
    Effect.gen(function* () {
      const { terminate, until } = yield* makePod(Duration.millis(100))
      yield* until(true)
      assert.isFalse((yield* terminate).isOrderly)
    }).pipe(Effect.scoped)
  )
})
