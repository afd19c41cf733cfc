/**
 * Whether something goes up in the course of time, or only up and down.
 */

export interface Slope {
  /** By how much it goes up from the first value to the last, on the line that is nearest to all. */
  readonly rise: number
  /** By how much it may seem to do so by chance: three standard errors. */
  readonly noise: number
}

/** The line through values at equal distances, of which there are three at least. */
export const of = (values: ReadonlyArray<number>): Slope => {
  const last = values.length - 1
  const middle = last / 2
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const spread = values.reduce((sum, _, at) => sum + (at - middle) ** 2, 0)
  const slope = values.reduce((sum, value, at) => sum + (at - middle) * (value - mean), 0) / spread
  const residual = values.reduce((sum, value, at) => sum + (value - mean - slope * (at - middle)) ** 2, 0)
  const error = Math.sqrt(residual / (values.length - 2) / spread)
  return { rise: slope * last, noise: 3 * error * last }
}
