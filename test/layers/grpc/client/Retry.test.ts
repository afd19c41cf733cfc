import { assert, describe, it } from "@effect/vitest"
import { Metadata } from "@grpc/grpc-js"
import { Duration, Option } from "effect"

import * as Retry from "../../../../src/layers/grpc/client/Retry.ts"
import * as RetryPolicy from "../../../../src/layers/grpc/RetryPolicy.ts"
import * as Status from "../../../../src/layers/grpc/Status.ts"

const withPushback = (value: string) => {
  const metadata = new Metadata()
  metadata.set("grpc-retry-pushback-ms", value)
  return Status.resourceExhausted("too many calls", { metadata })
}

describe("Retry", () => {
  it.each([
    ["an unavailable server", Status.unavailable("Connection dropped"), false, true],
    ["an attempt that exceeded its time limit", Status.deadlineExceeded("Deadline exceeded"), true, true],
    ["a call that exceeded its deadline", Status.deadlineExceeded("Deadline exceeded"), false, false],
    ["shedding with pushback", withPushback("50"), false, true],
    ["shedding without pushback", Status.resourceExhausted("quota"), false, false],
    [
      "a stream reset with ENHANCE_YOUR_CALM",
      Status.resourceExhausted("Bandwidth exhausted or memory limit exceeded"),
      false,
      true
    ],
    // the two forms of grpc/grpc-node#2625
    [
      "a connection closed under a call",
      Status.internal("Received RST_STREAM with code 2 (Internal server error)"),
      false,
      true
    ],
    ["a stream closed under a call", Status.cancelled("Call cancelled"), false, true],
    ["a call that the server cancelled", Status.cancelled("Cancelled"), false, false],
    ["a defect of the server", Status.internal("Internal error"), false, false],
    ["an invalid request", Status.invalidArgument([{ field: "a", description: "b" }]), false, false],
    ["a resource that was not found", Status.notFound("Category not found"), false, false]
  ] as ReadonlyArray<readonly [string, Status.Status, boolean, boolean]>)(
    "isRetryable after %s",
    (_what, status, isOwnTimeout, expected) => {
      assert.strictEqual(Retry.isRetryableStatus(status, isOwnTimeout), expected)
    }
  )

  it("waits for the server's pushback, and does not retry if that is negative or invalid", () => {
    assert.strictEqual(Retry.pushbackOf(Status.unavailable("")), undefined)
    assert.deepStrictEqual(Retry.pushbackOf(withPushback("50")), Option.some(Duration.millis(50)))
    assert.deepStrictEqual(Retry.pushbackOf(withPushback("-1")), Option.none())
    assert.deepStrictEqual(Retry.pushbackOf(withPushback("soon")), Option.none())
  })

  it("backs off exponentially up to the maximum, with a jitter of a fifth", () => {
    const policy = {
      ...RetryPolicy.defaults,
      initialBackoff: Duration.millis(100),
      maxBackoff: Duration.millis(300)
    }
    const waits = [2, 3, 4, 5].map((attempt) => Duration.toMillis(Retry.backoff(policy, attempt, 0.5)))
    assert.deepStrictEqual(waits, [100, 200, 300, 300])
    assert.strictEqual(Duration.toMillis(Retry.backoff(policy, 2, 0)), 80)
    assert.approximately(Duration.toMillis(Retry.backoff(policy, 2, 1)), 120, 1e-9)
  })
})

describe("the retry budget", () => {
  it("is spent by failures down to half of its tokens, and refilled by successes", () => {
    const budget = new Retry.RetryBudget({ ...RetryPolicy.defaults, maxTokens: 4, tokenRatio: 0.5 })
    assert.isTrue(budget.allows)
    // 3 of 4 tokens are more than half
    assert.isTrue(budget.onFailure())
    assert.isFalse(budget.allows)
    assert.isFalse(budget.onFailure())
    assert.isFalse(budget.onFailure())
    // 3 again; a failure leaves 2, which is not more than half
    for (let success = 0; success < 4; success++) budget.onSuccess()
    assert.isFalse(budget.onFailure())
    for (let success = 0; success < 100; success++) budget.onSuccess()
    // never more than 4
    assert.isTrue(budget.onFailure())
    assert.isFalse(budget.onFailure())
  })
})
