/**
 * An intrusive doubly linked list in insertion order. Use it for elements that are added and removed all the time, such as calls in
 * flight.
 *
 * A Set would keep removed elements alive: V8 replaces its hash table again and again, and each old table refers to the next. Once
 * one of these tables is in the old generation, all later tables and their elements survive until the next full garbage collection.
 */

/** An element of a list. It holds its own links, so it can be in one list at a time and is removed in constant time. */
export interface Linked<Self> {
  /** Written only by the list. */
  previous: Self | undefined
  /** Written only by the list. */
  next: Self | undefined
}

/** The list. Adding and removing take constant time. Its fields are written only by its methods. */
export class LinkedList<A extends Linked<A>> {
  /** The oldest element. */
  first: A | undefined = undefined
  /** The newest element. */
  last: A | undefined = undefined
  size = 0

  /** Appends an element that is in no list. */
  add(one: A): void {
    one.previous = this.last
    if (this.last === undefined) this.first = one
    else this.last.next = one
    this.last = one
    this.size++
  }

  /** Removes an element that is in this list. */
  remove(one: A): void {
    const { next, previous } = one
    if (previous === undefined) this.first = next
    else previous.next = next
    if (next === undefined) this.last = previous
    else next.previous = previous
    one.previous = undefined
    one.next = undefined
    this.size--
  }

  /** From the oldest to the newest. The current element may be removed during iteration. */
  *[Symbol.iterator](): Generator<A> {
    let one = this.first
    while (one !== undefined) {
      const { next }: A = one
      yield one
      one = next
    }
  }
}
