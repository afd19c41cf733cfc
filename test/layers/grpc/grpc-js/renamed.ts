/**
 * Makes calls of every kind with a grpc-js in which identifiers are renamed, as if a new version no longer had these members. Prints, as
 * JSON, the answers, the warnings, and which patches are active.
 *
 *     node renamed.ts 'MEMBER|MEMBER'
 */
import { readFileSync } from "node:fs"
import { registerHooks } from "node:module"
import { fileURLToPath } from "node:url"

import type { Renamed } from "./compat.test.ts"

const [, , members = ""] = process.argv

registerHooks({
  load: (url, context, nextLoad) => {
    if (!url.includes("/@grpc/grpc-js/build/src/") || !url.endsWith(".js")) return nextLoad(url, context)
    const source = readFileSync(fileURLToPath(url), "utf8")
    return {
      format: "commonjs",
      source: source.replaceAll(new RegExp(String.raw`\b(?:${members})\b`, "g"), "$&Renamed"),
      shortCircuit: true
    }
  }
})

const { Effect, Layer, Logger, Metric, References, Stream } = await import("effect")
const Status = await import("../../../../src/layers/grpc/Status.ts")
const { EchoServer, EchoService } = await import("../../../../src/layers/testing/EchoServer.ts")
const GrpcClient = await import("../../../../src/layers/grpc/GrpcClient.ts")
const NodeGrpcChannel = await import("../../../../src/layers/grpc/client/NodeGrpcChannel.ts")
const { kinds } = await import("../Outcomes.ts")

const warnings: Array<unknown> = []
const logger = Logger.make(({ fiber, logLevel, message }) => {
  if (logLevel !== "Warn" && logLevel !== "Error") return
  warnings.push({ message: [message].flat().join(" "), ...fiber.getRef(References.CurrentLogAnnotations) })
})

const program = Effect.gen(function* () {
  const { call, target } = yield* EchoServer
  const answers: Array<unknown> = []
  for (const kind of kinds) {
    answers.push(yield* call(kind, "hello"))
    answers.push((yield* Effect.flip(call(kind, "missing"))).reason._tag)
    answers.push((yield* Effect.flip(call(kind, "hang", { timeout: "200 millis" }))).reason._tag)
  }
  // another channel, which must not warn again
  const channel = yield* Layer.build(NodeGrpcChannel.layer({ target, observeCompression: true }))
  const client = yield* Effect.provideContext(GrpcClient.make(EchoService), channel)
  answers.push((yield* client.Echo({ text: "observed" })).text)
  const numbers = yield* Stream.runCollect(client.Expand({ text: "many", numbers: [1, 2, 3] }))
  answers.push(numbers.map(({ number }) => number))
  const patches = (yield* Metric.snapshot).flatMap(({ attributes, id, state }) =>
    id === "grpc_js_patch_active" ? [[attributes?.["patch"], (state as { readonly value: number }).value]] : []
  )
  return { answers, warnings, patches: Object.fromEntries(patches) } as Renamed
})

const result = await Effect.runPromise(
  program.pipe(
    Effect.provide(
      EchoServer.layer({
        inputs: { missing: Effect.fail(Status.notFound("no such thing")), hang: Effect.never },
        observers: [],
        client: { observers: [] }
      })
    ),
    Effect.scoped,
    Effect.provide(Logger.layer([logger]))
  )
)
console.log(JSON.stringify(result))
process.exit(0)
