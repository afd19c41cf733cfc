/**
 * PostgreSQL crashes, and its pod is deleted, while readers request pages and feedback is recorded.
 */
import { fileURLToPath } from "node:url"

import { Effect, Fiber, FileSystem } from "effect"

import * as Kubectl from "../Kubectl.ts"
import { check, NotDone, type Scenario, underLoad } from "../Scenario.ts"
import * as Scripts from "../Scripts.ts"
import { databaseSettled, namespaces, pods, run, Shop } from "../Shop.ts"

const pod = "postgres-0"

/** A reader of the shop's own accounts. */
const userId = 777_777

/** How many records are there before the outage. */
const enough = 100

/** The ids of what is recorded about the reader. */
const recorded = run([
  "exec",
  pod,
  "--",
  "psql",
  "--username=online_books",
  "--tuples-only",
  "--no-align",
  `--command=SELECT feedback_id FROM feedback WHERE user_id = ${userId}`
]).pipe(Effect.map((output) => new Set(output.split("\n"))))

interface Records {
  readonly acknowledged: ReadonlyArray<string>
  readonly failed: number
  readonly isWhole: boolean
}

/**
 * Records feedback in every replica through an outage under the load of readers, and compares what was acknowledged with what the database
 * has. The recorders start before the load, because their start takes processor time.
 */
const whileRecording = Effect.fnUntraced(function* (title: string, outage: Outage) {
  const fs = yield* FileSystem.FileSystem
  const script = yield* Effect.orDie(fs.readFileString(fileURLToPath(new URL("../record.mjs", import.meta.url))))
  const replicas = yield* pods("recommendations")
  const before = (yield* recorded).size
  const recorders = yield* Effect.forkScoped(
    Effect.forEach(
      replicas,
      ({ metadata }) =>
        Scripts.exec(namespaces.shop, metadata.name, ["--input-type=module", "--eval", script, "--", String(userId)]),
      { concurrency: "unbounded" }
    )
  )
  yield* Kubectl.until(
    "feedback recorded",
    Effect.map(recorded, ({ size }) => size >= before + enough * replicas.length)
  )
  const outputs = yield* underLoad(title, Effect.andThen(outage, Fiber.join(recorders)))
  const results = outputs.map((output) => JSON.parse(output) as Records)
  const stored = yield* recorded
  for (const [index, { acknowledged, isWhole }] of results.entries()) {
    const name = replicas[index]?.metadata.name
    const lost = acknowledged.filter((id) => !stored.has(id)).length
    yield* check(lost === 0, `${lost} of ${acknowledged.length} records that ${name} acknowledged are lost`)
    yield* check(isWhole, `${name} did not record again after the outage`)
  }
}, Effect.scoped)

type Outage = Effect.Effect<unknown, Kubectl.KubectlError | Kubectl.NotReached, Kubectl.Kubectl>

/** Kills all processes of the server but the first, which then recovers from its write-ahead log. */
const crash: Outage = Effect.ignore(run(["exec", pod, "--", "sh", "-c", "kill -9 -1"]))

/** With a second to stop. Without a grace period a second server could start on the same files. */
const replace: Outage = Effect.andThen(run(["delete", "pod", pod, "--grace-period=1"]), databaseSettled)

export const database: Scenario = {
  name: "database",
  description: "Crashes PostgreSQL and deletes its pod, while feedback is recorded in every replica",
  run: Effect.gen(function* () {
    const { hasDatabase, isSecured } = yield* Shop
    if (!hasDatabase) return yield* new NotDone({ reason: "the database is not a part of the manifests" })
    // the recorder has no certificate
    const during = isSecured ? underLoad : whileRecording
    yield* during("PostgreSQL crashed", crash)
    yield* during("the pod of PostgreSQL deleted", replace)
  })
}
