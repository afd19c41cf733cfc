/**
 * What became of a good client's requests, by when they were asked.
 */

/** Of a tenth of a second: how often was asked, and how many answers were right and came in time. */
export interface Bucket {
  asked: number
  good: number
}

/** In milliseconds. */
export const bucketLength = 100

export interface Report {
  readonly buckets: ReadonlyArray<Bucket>
  /** When something happened, in milliseconds since the first bucket. */
  readonly marks: { readonly [name: string]: number }
}

/** The share of good answers to what was asked from one time to another, in milliseconds. */
export const share = ({ buckets }: Report, from: number, to: number): number => {
  const some = buckets.slice(Math.ceil(from / bucketLength), Math.floor(to / bucketLength))
  const asked = some.reduce((sum, bucket) => sum + bucket.asked, 0)
  return asked === 0 ? 0 : some.reduce((sum, bucket) => sum + bucket.good, 0) / asked
}

/** How long it takes from some time on until a second begins of which so much is good; undefined if none does. */
export const timeToRecover = (report: Report, from: number, goal: number): number | undefined => {
  const last = report.buckets.length * bucketLength - 1_000
  for (let at = Math.ceil(from / bucketLength) * bucketLength; at <= last; at += bucketLength) {
    if (share(report, at, at + 1_000) >= goal) return at - from
  }
  return undefined
}
