/**
 * Things of which there are few, each made when it is first asked for.
 */

/** What something is looked up by. */
type Key = string | number | undefined

/** Makes something once for each key, and keeps it for good. */
export const memoized = <In, Out>(keyOf: (input: In) => Key, make: (input: In) => Out): ((input: In) => Out) => {
  const made = new Map<Key, Out>()
  return (input) => {
    const key = keyOf(input)
    let value = made.get(key)
    if (value === undefined) made.set(key, (value = make(input)))
    return value
  }
}

/** The same by several keys, for what is asked for so often that making them one would cost more than all else. */
export const memoizedBy = <In, Out>(
  [keyOf, ...others]: readonly [(input: In) => Key, ...ReadonlyArray<(input: In) => Key>],
  make: (input: In) => Out
): ((input: In) => Out) => {
  const [next, ...rest] = others
  if (next === undefined) return memoized(keyOf, make)
  const inner = memoized(keyOf, () => memoizedBy([next, ...rest], make))
  return (input) => inner(input)(input)
}
