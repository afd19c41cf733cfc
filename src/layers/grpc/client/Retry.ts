/**
 * Decides which failed attempts of calls are followed by another one, and when.
 *
 * It follows gRPC's A6 (https://github.com/grpc/proposal/blob/master/A6-client-retries.md): only idempotent methods are retried, with
 * exponential backoff and jitter, the pushback of the server is respected, and a budget for all calls of a service keeps retries from
 * making an outage worse. Beyond A6, attempts have a time limit of their own, and errors of a connection that was closed during a call are
 * retried (grpc/grpc-node#2625).
 */
import { Duration, Effect, Option, Random } from "effect"

import type { Call } from "../GrpcChannel.ts"
import type { RetryPolicy } from "../RetryPolicy.ts"
import type { Status } from "../Status.ts"

/** The retry policy, budget and attempt timeout of a service. */
export interface RetryState {
  readonly policy: RetryPolicy
  readonly budget: RetryBudget
  /** The timeout of a first attempt that can be retried, in milliseconds; infinite for streams. */
  readonly attemptTimeout: number
}

/** An attempt that has failed. */
export interface FailedAttempt {
  /** Counted from 1. */
  readonly attempt: number
  readonly isLast: boolean
  /** Whether the timeout of the attempt is shorter than that of the call. */
  readonly isLimited: boolean
  readonly status: Status
}

/** The wait before the next attempt; undefined if the call is not retried. */
export const decide = Effect.fnUntraced(function* (
  { deadline, definition }: Call,
  { budget, policy }: RetryState,
  { attempt, isLast, isLimited, status }: FailedAttempt
): Effect.fn.Return<Duration.Duration | undefined> {
  if (!definition.isIdempotent || !isRetryableStatus(status, isLimited)) return undefined
  if (!budget.onFailure() || isLast) return undefined
  const pushback = pushbackOf(status)
  if (pushback !== undefined && Option.isNone(pushback)) return undefined
  const wait = pushback?.value ?? backoff(policy, attempt + 1, yield* Random.next)
  return performance.now() + Duration.toMillis(wait) >= deadline ? undefined : wait
})

/** The retry budget of a service. */
export class RetryBudget {
  readonly #policy: RetryPolicy
  #tokens = 0
  /** Whether a call that fails now may be retried. */
  allows = true
  /** Whether a success has no effect. */
  isFull = true

  constructor(policy: RetryPolicy) {
    this.#policy = policy
    this.#set(policy.maxTokens)
  }

  onSuccess(): void {
    this.#set(this.#tokens + this.#policy.tokenRatio)
  }

  /** Takes a token; returns whether a retry is allowed. */
  onFailure(): boolean {
    this.#set(this.#tokens - 1)
    return this.#tokens > this.#policy.maxTokens / 2
  }

  #set(tokens: number): void {
    const { maxTokens } = this.#policy
    this.#tokens = Math.min(maxTokens, Math.max(0, tokens))
    this.allows = this.#tokens - 1 > maxTokens / 2
    this.isFull = this.#tokens === maxTokens
  }
}

/** The wait in the trailer grpc-retry-pushback-ms: undefined if the server does not set it, none if it forbids retries. */
export const pushbackOf = (status: Status): Option.Option<Duration.Duration> | undefined => {
  const [value] = status.metadata.get("grpc-retry-pushback-ms")
  if (value === undefined) return undefined
  return /^\d{1,9}$/.test(String(value)) ? Option.some(Duration.millis(Number(value))) : Option.none()
}

/**
 * Whether a status is retryable. `isOwnTimeout`: the attempt exceeded its own time limit, not the deadline of the call.
 *
 * For a stream that was reset, grpc-js only reports a code and an English text. `test/layers/grpc/client/ResetStreams.test.ts` fails
 * when these texts change.
 */
export const isRetryableStatus = (status: Status, isOwnTimeout: boolean): boolean => {
  switch (status._tag) {
    case "Unavailable":
      return true
    case "DeadlineExceeded":
      return isOwnTimeout
    case "ResourceExhausted":
      // "Bandwidth exhausted": HTTP/2 refused the stream before the server handled the call (ENHANCE_YOUR_CALM)
      return pushbackOf(status) !== undefined || status.message.startsWith("Bandwidth exhausted")
    // The connection was closed while the call was being made. Calls that this client cancels never reach this line.
    case "Internal":
      return /RST_STREAM with code [02]\b/.test(status.message)
    case "Cancelled":
      return status.message === "Call cancelled"
    default:
      return false
  }
}

/** The wait before an attempt, counted from 2: doubles up to the maximum, with a jitter of a fifth. `chance` is between 0 and 1. */
export const backoff = (policy: RetryPolicy, attempt: number, chance: number): Duration.Duration => {
  const grown = Duration.toMillis(policy.initialBackoff) * 2 ** (attempt - 2)
  return Duration.millis(Math.min(grown, Duration.toMillis(policy.maxBackoff)) * (0.8 + 0.4 * chance))
}
