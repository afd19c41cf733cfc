/**
 * Tells growth over time from fluctuation, by linear regression.
 */

export interface Slope {
  /** The rise from the first value to the last on the line of least squares. */
  readonly rise: number
  /** The rise that chance can explain: three standard errors. */
  readonly noise: number
}

/** Fits a line to three or more values at equal distances. */
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
