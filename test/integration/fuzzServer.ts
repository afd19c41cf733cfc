/**
 * A server for the fuzzer, with a method of each kind and limits from the environment (`ECHO_...`). The text of a request decides what
 * happens before it is echoed: `wait` waits until the call ends, `later` waits for a millisecond, `fail` fails.
 */
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer, Schema, Stream } from "effect"

import { ProjectRoot } from "../../src/layers/config/ProjectRoot.ts"
import * as GrpcServer from "../../src/layers/grpc/GrpcServer.ts"
import * as NodeGrpcServer from "../../src/layers/grpc/server/NodeGrpcServer.ts"
import { Health } from "../../src/layers/grpc/services/Health.ts"
import * as Reflection from "../../src/layers/grpc/services/Reflection.ts"
import * as Status from "../../src/layers/grpc/Status.ts"
import * as AdminServer from "../../src/layers/http/AdminServer.ts"
import * as Drain from "../../src/layers/process/Drain.ts"
import { runMain } from "../../src/layers/process/runMain.ts"
import * as Logging from "../../src/layers/telemetry/Logging.ts"
import { EchoService } from "../../src/layers/testing/EchoServer.ts"
import type { EchoRequest__Output } from "../../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"

class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {}

const items: ReadonlyArray<never> = []

const echo = ({ text }: EchoRequest__Output) => {
  const response = { text, items }
  if (text === "wait") return Effect.never
  if (text === "later") return Effect.delay(Effect.succeed(response), "1 millis")
  return text === "fail" ? Effect.fail(new Failed()) : Effect.succeed(response)
}

const echoes = GrpcServer.serve(
  EchoService,
  Effect.succeed({
    Echo: echo,
    EchoOnce: echo,
    Expand: (request: EchoRequest__Output) =>
      Stream.mapEffect(Stream.fromIterable(request.numbers), (number) =>
        Effect.map(echo(request), (response) => ({ ...response, number }))
      ),
    Collect: (requests: Stream.Stream<EchoRequest__Output>) =>
      Effect.map(Stream.runCollect(Stream.mapEffect(requests, echo)), (all) => ({
        text: all.map(({ text }) => text).join(" "),
        items
      })),
    Chat: (requests: Stream.Stream<EchoRequest__Output>) => Stream.mapEffect(requests, echo)
  }),
  { Failed: () => Status.notFound("as it was asked to") }
)

Layer.mergeAll(echoes, Health.layer, Reflection.layer([])).pipe(
  NodeGrpcServer.listenConfig("ECHO"),
  Layer.provide(ProjectRoot.layer(import.meta.url, "package.json")),
  Layer.provide(NodeServices.layer),
  Layer.provide(AdminServer.layerConfig("ECHO", 0)),
  Drain.launch,
  Effect.provide(Logging.layerConfig),
  runMain
)
