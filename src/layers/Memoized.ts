/**
 * Things of which there are few, each made when it is first asked for.
 */

/** Makes something once for each key, and keeps it for good. */
export const memoized = <In, Out>(keyOf: (input: In) => string, make: (input: In) => Out): ((input: In) => Out) => {
  const made = new Map<string, Out>()
  return (input) => {
    const key = keyOf(input)
    let value = made.get(key)
    if (value === undefined) made.set(key, (value = make(input)))
    return value
  }
}

/** The same by two keys, for what is asked for so often that making them one would cost more than all else. */
export const memoizedByTwo = <In, Out>(
  firstOf: (input: In) => string,
  secondOf: (input: In) => string,
  make: (input: In) => Out
): ((input: In) => Out) => {
  const inner = memoized(firstOf, () => memoized(secondOf, make))
  return (input) => inner(input)(input)
}
