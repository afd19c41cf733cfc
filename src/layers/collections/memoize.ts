/**
 * Memoization for small key sets, such as the label sets of a metric. Entries are never evicted.
 */

type Key = string | number | undefined

/** Calls `make` once for each key and caches its result. */
export const memoize = <In, Out>(keyOf: (input: In) => Key, make: (input: In) => Out): ((input: In) => Out) => {
  const made = new Map<Key, Out>()
  return (input) => {
    const key = keyOf(input)
    let value = made.get(key)
    if (value === undefined) made.set(key, (value = make(input)))
    return value
  }
}
