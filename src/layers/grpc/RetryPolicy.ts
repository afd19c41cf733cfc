/**
 * Retry policy of a client, after gRPC's own design
 * (https://github.com/grpc/proposal/blob/master/A6-client-retries.md). Only methods that their proto marks NO_SIDE_EFFECTS or IDEMPOTENT
 * are retried.
 */
import { Duration } from "effect"

export interface RetryPolicy {
  /** The maximum number of attempts of one call, including the first. */
  readonly maxAttempts: number
  /**
   * How long the first attempt may take if another one may follow. Each further attempt gets twice the time of the previous one, and the
   * last one all the remaining time. A6 has no such limit; with it, an attempt on a server that hangs uses only part of the deadline.
   */
  readonly attemptTimeout: Duration.Duration
  /** The wait before the second attempt; it doubles with each further one. */
  readonly initialBackoff: Duration.Duration
  readonly maxBackoff: Duration.Duration
  /** The retry budget: a failed attempt takes a token, and calls are not retried while half of the tokens or fewer are left. */
  readonly maxTokens: number
  /** The tokens that a successful call returns: 0.1 allows one retry per ten successes in the long run. */
  readonly tokenRatio: number
}

export const defaults: RetryPolicy = {
  maxAttempts: 4,
  attemptTimeout: Duration.millis(200),
  initialBackoff: Duration.millis(10),
  maxBackoff: Duration.millis(100),
  maxTokens: 100,
  tokenRatio: 0.1
}

/** Never retries. */
export const never: RetryPolicy = { ...defaults, maxAttempts: 1 }
