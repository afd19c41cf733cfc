/**
 * The outcomes of a good client's requests over time.
 */

/** A tenth of a second: the requests made in it, and those of them that were answered rightly in time. */
export interface Bucket {
  asked: number
  good: number
}

/** In milliseconds. */
export const bucketLength = 100

export interface Report {
  readonly buckets: ReadonlyArray<Bucket>
  /** The times of named events, in milliseconds since the first bucket. */
  readonly marks: { readonly [name: string]: number }
}

/** The share of requests of an interval (milliseconds) that had good answers. */
export const share = ({ buckets }: Report, from: number, to: number): number => {
  const some = buckets.slice(Math.ceil(from / bucketLength), Math.floor(to / bucketLength))
  const asked = some.reduce((sum, bucket) => sum + bucket.asked, 0)
  return asked === 0 ? 0 : some.reduce((sum, bucket) => sum + bucket.good, 0) / asked
}

/** The time until the first second with a given share of good answers begins; undefined if there is none. */
export const timeToRecover = (report: Report, from: number, goal: number): number | undefined => {
  const last = report.buckets.length * bucketLength - 1_000
  for (let at = Math.ceil(from / bucketLength) * bucketLength; at <= last; at += bucketLength) {
    if (share(report, at, at + 1_000) >= goal) return at - from
  }
  return undefined
}
