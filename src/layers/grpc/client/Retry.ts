/**
 * When a call is made again, after gRPC's own design of it (https://github.com/grpc/proposal/blob/master/A6-client-retries.md):
 * only for methods that may be called twice, with a backoff that grows and varies, a server's wish to be left alone respected,
 * and a budget for all calls together, so that retries never make an outage worse.
 *
 * Beyond A6, an attempt has a time-out of its own, so that a replica that hangs costs a part of the time and not all of it; it
 * grows with each attempt, so that replicas that are all slow are waited for in the end. And two failures are taken for what they
 * are, a connection that was closed under a call (grpc/grpc-node#2625).
 */
import { Duration, Option } from "effect"

import type { Status } from "../Status.ts"

/** How often, how soon and how much. */
export interface RetryPolicy {
  /** Calls of one method for one answer, the first one included. */
  readonly maxAttempts: number
  /** How long the first attempt may take if there may be another one; each one after may take twice as long as that before. */
  readonly attemptTimeout: Duration.Duration
  /** The wait before the second attempt; it doubles with each one after. */
  readonly initialBackoff: Duration.Duration
  readonly maxBackoff: Duration.Duration
  /** Failures take one token each; below half of them nothing is retried. */
  readonly maxTokens: number
  /** What a success gives back: 0.1 allows one retry for ten successes in the long run. */
  readonly tokenRatio: number
}

/** What is taken for granted where nothing else is said. */
export const defaultPolicy: RetryPolicy = {
  maxAttempts: 4,
  attemptTimeout: Duration.millis(200),
  initialBackoff: Duration.millis(10),
  maxBackoff: Duration.millis(100),
  maxTokens: 100,
  tokenRatio: 0.1
}

/** Does not retry. */
export const never: RetryPolicy = { ...defaultPolicy, maxAttempts: 1 }

/** The budget for the retries of one target. */
export interface RetryBudget {
  /** Whether a call that fails now might be made again. */
  readonly allows: () => boolean
  readonly onSuccess: () => void
  /** Says whether there may be another attempt. */
  readonly onFailure: () => boolean
}

export const makeBudget = ({ maxTokens, tokenRatio }: RetryPolicy): RetryBudget => {
  let tokens = maxTokens
  return {
    allows: () => tokens - 1 > maxTokens / 2,
    onSuccess: () => {
      tokens = Math.min(maxTokens, tokens + tokenRatio)
    },
    onFailure: () => {
      tokens = Math.max(0, tokens - 1)
      return tokens > maxTokens / 2
    }
  }
}

/** What a server asks for in the trailer grpc-retry-pushback-ms: undefined if it does not, and none if it wants no retry. */
export const pushbackOf = (status: Status): Option.Option<Duration.Duration> | undefined => {
  const [value] = status.metadata.get("grpc-retry-pushback-ms")
  if (value === undefined) return undefined
  return /^\d{1,9}$/.test(String(value)) ? Option.some(Duration.millis(Number(value))) : Option.none()
}

/**
 * Whether another attempt may have another outcome. `isOwnTimeout` tells an attempt that ran out of its own time from a call
 * that ran out of all.
 */
export const isRetryable = (status: Status, isOwnTimeout: boolean): boolean => {
  switch (status._tag) {
    case "Unavailable":
      return true
    case "DeadlineExceeded":
      return isOwnTimeout
    case "ResourceExhausted":
      // or a stream that HTTP/2 refused before it was a call (ENHANCE_YOUR_CALM), as grpc-js words it
      return pushbackOf(status) !== undefined || status.message.startsWith("Bandwidth exhausted")
    // The two shapes of a connection that is closed in the moment in which a call is made on it. grpc-js says so of a call
    // that nobody has cancelled; one that is cancelled on this side never gets here.
    case "Internal":
      return /RST_STREAM with code [02]\b/.test(status.message)
    case "Cancelled":
      return status.message === "Call cancelled"
    default:
      return false
  }
}

/**
 * The wait before an attempt, counted from 2: it doubles up to the maximum, give or take a fifth by chance, which is a number
 * from 0 to 1.
 */
export const backoff = (policy: RetryPolicy, attempt: number, chance: number): Duration.Duration => {
  const grown = Duration.toMillis(policy.initialBackoff) * 2 ** (attempt - 2)
  return Duration.millis(Math.min(grown, Duration.toMillis(policy.maxBackoff)) * (0.8 + 0.4 * chance))
}
