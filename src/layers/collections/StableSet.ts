/**
 * A set of objects that leaves nothing behind: see {@link LinkedList} for what a Set does. For those whose members are not ours to
 * link; they only bear where they are, since a WeakMap of it took a hundredth of a page (npm run bench).
 */
export class StableSet<A extends object> {
  readonly #members: Array<A> = []

  /** How many there are. */
  get size(): number {
    return this.#members.length
  }

  /** Takes one in, if it is not in yet. */
  add(one: A): this {
    if (this.#find(one) === -1) (one as Placed)[place] = this.#members.push(one) - 1
    return this
  }

  has(one: A): boolean {
    return this.#find(one) !== -1
  }

  /** Takes one out, and says whether it was in. The last one gets its place. */
  delete(one: A): boolean {
    const at = this.#find(one)
    if (at === -1) return false
    const last = this.#members.pop()!
    if (last !== one) {
      this.#members[at] = last
      ;(last as Placed)[place] = at
    }
    return true
  }

  #find(one: A): number {
    const at = (one as Placed)[place]
    if (at === undefined || this.#members[at] === one) return at ?? -1
    // it has been in another set since
    return this.#members.indexOf(one)
  }

  /** In no order. One that is given out may leave before the next. */
  [Symbol.iterator](): Iterator<A> {
    return [...this.#members][Symbol.iterator]()
  }
}

/** Where one is in the set that it was last taken into, or has been given a place in. */
const place = Symbol("place")

interface Placed {
  [place]?: number
}
