/**
 * A server for {@link file://./overload.ts}, whose handler waits, as for a database, or computes if COMPUTES is set.
 */
import { Duration, Effect, Stream } from "effect"

import * as GrpcServer from "../src/layers/grpc/GrpcServer.ts"
import * as NodeGrpcServer from "../src/layers/grpc/server/NodeGrpcServer.ts"
import * as Drain from "../src/layers/process/Drain.ts"
import { runMain } from "../src/layers/process/runMain.ts"
import { EchoService } from "../src/layers/testing/generated/services.ts"

const response = { text: "", items: [] }

/** Blocks the event loop for a number of milliseconds. */
const compute = (duration: number) =>
  Effect.sync(() => {
    const until = performance.now() + duration
    while (performance.now() < until);
    return response
  })

const isComputing = process.env["COMPUTES"] !== undefined

const answer = isComputing ? compute(0.2) : Effect.delay(Effect.succeed(response), "20 millis")

GrpcServer.serve(
  EchoService,
  Effect.succeed({
    Echo: () => answer,
    EchoOnce: () => answer,
    Expand: () => Stream.fromEffect(answer),
    Collect: () => answer,
    Chat: () => Stream.fromEffect(answer)
  }),
  {}
).pipe(
  NodeGrpcServer.listen({
    host: "127.0.0.1",
    port: 0,
    limits: isComputing ? {} : { maxConcurrency: 20, maxQueue: 20, maxQueueWait: Duration.millis(50) }
  }),
  Drain.launch,
  runMain
)
