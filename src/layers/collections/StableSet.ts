/**
 * A set of objects that does not keep removed members alive; see {@link LinkedList} for why a Set does. Use it for objects of a
 * dependency, which cannot hold links. Each member holds its index under a symbol, which is cheaper than a WeakMap.
 */
export class StableSet<A extends object> {
  readonly #members: Array<A> = []

  /** The number of members. */
  get size(): number {
    return this.#members.length
  }

  /** Adds an object, unless it is a member already. */
  add(one: A): this {
    if (this.#find(one) === -1) (one as Indexed)[index] = this.#members.push(one) - 1
    return this
  }

  has(one: A): boolean {
    return this.#find(one) !== -1
  }

  /** Removes a member and returns true, or returns false. The last member moves to the free index. */
  delete(one: A): boolean {
    const at = this.#find(one)
    if (at === -1) return false
    const last = this.#members.pop()!
    if (last !== one) {
      this.#members[at] = last
      ;(last as Indexed)[index] = at
    }
    return true
  }

  #find(one: A): number {
    const at = (one as Indexed)[index]
    if (at === undefined || this.#members[at] === one) return at ?? -1
    // the object was added to another set later, which overwrote the index
    return this.#members.indexOf(one)
  }

  /** Iterates over a copy, in no particular order: members may be removed during iteration. */
  [Symbol.iterator](): Iterator<A> {
    return [...this.#members][Symbol.iterator]()
  }
}

/** The index of an object in the set that wrote it last. */
const index = Symbol("index")

interface Indexed {
  [index]?: number
}
