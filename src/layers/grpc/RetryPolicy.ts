/**
 * How often, how soon and how much a client retries, after gRPC's own design
 * (https://github.com/grpc/proposal/blob/master/A6-client-retries.md). Only methods that their proto marks NO_SIDE_EFFECTS or IDEMPOTENT
 * are retried.
 */
import { Duration } from "effect"

export interface RetryPolicy {
  /** The most attempts of one call, the first included. */
  readonly maxAttempts: number
  /**
   * How long the first attempt may take if another one may follow. Each further attempt gets twice the time of the one before, and the
   * last one all that is left. A6 has no such limit; with it, a server that hangs costs a part of a call's time and not all of it.
   */
  readonly attemptTimeout: Duration.Duration
  /** The wait before the second attempt; it doubles with each further one. */
  readonly initialBackoff: Duration.Duration
  readonly maxBackoff: Duration.Duration
  /** The retry budget: a failed attempt takes a token, and nothing is retried while half of them or fewer are left. */
  readonly maxTokens: number
  /** The tokens that a successful call gives back: 0.1 allows one retry for ten successes in the long run. */
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
