/**
 * A set of objects that leaves nothing behind: see {@link LinkedList} for what a Set does. For those whose members are not ours to
 * link, so that each is looked for where it was put.
 */
export class StableSet<A extends object> {
  readonly #members: Array<A> = []
  readonly #places = new WeakMap<A, number>()

  /** How many there are. */
  get size(): number {
    return this.#members.length
  }

  /** Takes one in, if it is not in yet. */
  add(one: A): this {
    if (this.has(one)) return this
    this.#places.set(one, this.#members.push(one) - 1)
    return this
  }

  has(one: A): boolean {
    return this.#members[this.#places.get(one) ?? -1] === one
  }

  /** Takes one out, and says whether it was in. The last one gets its place. */
  delete(one: A): boolean {
    if (!this.has(one)) return false
    const place = this.#places.get(one)!
    const last = this.#members.pop()!
    if (last !== one) {
      this.#members[place] = last
      this.#places.set(last, place)
    }
    return true
  }

  /** In no order. One that is given out may leave before the next. */
  [Symbol.iterator](): Iterator<A> {
    return [...this.#members][Symbol.iterator]()
  }
}
