/**
 * A grpc-js that lacks a private member: calls are answered all the same, and one warning names the member.
 */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

/** What `renamed.ts` prints. */
export interface Renamed {
  readonly answers: ReadonlyArray<unknown>
  readonly warnings: ReadonlyArray<{ readonly message: string; readonly member?: string; readonly version?: string }>
  readonly patches: { readonly [name: string]: number }
}

const run = (members: string) =>
  Effect.callback<Renamed>((resume) => {
    const child = execFile(
      process.execPath,
      [fileURLToPath(new URL("renamed.ts", import.meta.url)), members],
      (error, stdout, stderr) =>
        resume(
          error === null ? Effect.succeed(JSON.parse(stdout) as Renamed) : Effect.die(new Error(`${error}\n${stderr}`))
        )
    )
    return Effect.sync(() => child.kill())
  })

const failures = ["NotFound", "DeadlineExceeded"]

const answers = [
  ...[["hello"], ["hello"], ["hello"], ["hello"]].flatMap((answer) => [answer, ...failures]),
  "observed",
  [1, 2, 3]
]

const allPatches = { ActiveCalls: 1, ResponseCompression: 1, StatusOrder: 1 }

/** Every private member that a patch relies on, with the patch. */
const members: ReadonlyArray<{
  readonly patch: string
  readonly type: string
  readonly member: string
  /** A pattern of its uses, if it is not all that have its name. */
  readonly identifier?: string
}> = [
  { patch: "StatusOrder", type: "Http2SubchannelCall", member: "handleTrailers" },
  { patch: "StatusOrder", type: "Http2SubchannelCall", member: "maybeOutputStatus" },
  { patch: "StatusOrder", type: "Http2SubchannelCall", member: "http2Stream" },
  { patch: "StatusOrder", type: "Http2SubchannelCall", member: "unpushedReadMessages" },
  { patch: "StatusOrder", type: "Http2SubchannelCall", member: "isPushPending" },
  {
    patch: "ActiveCalls",
    type: "Http2SubchannelConnector",
    member: "connect",
    // other methods of this name stay
    identifier: String.raw`connect(?=\((?:address, secureConnector|this\.subchannelAddress), )`
  },
  { patch: "ActiveCalls", type: "Http2Transport", member: "activeCalls" },
  { patch: "ResponseCompression", type: "CompressionFilter", member: "receiveMessage" }
]

describe("grpc-js", { timeout: 60_000 }, () => {
  it.live.each(members)(
    "without $member of $type answers every call, and patch $patch is off",
    ({ identifier, member, patch, type }) =>
      Effect.gen(function* () {
        const result = yield* run(identifier ?? member)
        assert.deepStrictEqual(result.answers, answers)
        assert.lengthOf(result.warnings, 1)
        assert.include(result.warnings[0]!.message, `Patch ${patch} of grpc-js is off`)
        assert.strictEqual(result.warnings[0]!.member, `${type}.${member}`)
        assert.match(result.warnings[0]!.version!, /^\d+\.\d+\.\d+/)
        assert.deepStrictEqual(result.patches, { ...allPatches, [patch]: 0 })
      })
  )

  it.live("without private members that no patch relies on answers every call, and all patches are active", () =>
    Effect.gen(function* () {
      const result = yield* run("http2Servers|commonServerOptions|outputStatus|noSuchMember")
      assert.deepStrictEqual(result.answers, answers)
      assert.deepStrictEqual(result.warnings, [])
      assert.deepStrictEqual(result.patches, allPatches)
    })
  )
})
