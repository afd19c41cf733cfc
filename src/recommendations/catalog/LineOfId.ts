/**
 * The line that each id is on: a hash table of numbers alone, outside of the heap. With a Map of a million ids in its place the
 * process takes up to 90 MB more while it starts.
 */
export interface LineOfId {
  /** Notes that an id, 1 or above, is on a line, unless it is on another one: that line. */
  readonly add: (id: number, line: number) => number | undefined
}

export const make = (): LineOfId => {
  // 0 is no id: the place is free
  let ids = new Int32Array(1024)
  let lines = new Uint32Array(1024)
  let size = 0

  /** Where an id is, or would be: the places after the one that it hashes to are tried in turn. */
  const placeOf = (id: number): number => {
    let place = hash(id) & (ids.length - 1)
    while (ids[place] !== 0 && ids[place] !== id) place = (place + 1) & (ids.length - 1)
    return place
  }

  const put = (id: number, line: number) => {
    const place = placeOf(id)
    ids[place] = id
    lines[place] = line
  }

  const grow = () => {
    const [oldIds, oldLines] = [ids, lines]
    ids = new Int32Array(oldIds.length * 2)
    lines = new Uint32Array(oldIds.length * 2)
    oldIds.forEach((id, place) => {
      if (id !== 0) put(id, oldLines[place]!)
    })
  }

  return {
    add: (id, line) => {
      const place = placeOf(id)
      if (ids[place] === id) return lines[place]
      if (size * 2 >= ids.length) grow()
      put(id, line)
      size++
      return undefined
    }
  }
}

/** Spreads ids that are close together, or multiples of something (Knuth, The Art of Computer Programming, 6.4). */
const hash = (id: number): number => {
  const product = Math.imul(id, 0x9e37_79b1)
  return product ^ (product >>> 15)
}
