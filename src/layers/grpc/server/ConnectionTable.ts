/**
 * The open connections of a server, by client address, with limits in total and per address. Above a limit, a connection of the
 * address that holds most is evicted, so that a new client can connect while one address holds all other connections.
 */
import { type Linked, LinkedList } from "../../collections/LinkedList.ts"

export interface Limits {
  readonly maxConnections: number
  readonly maxConnectionsPerAddress: number
  /** TLS handshakes that are not complete. */
  readonly maxHandshakes: number
  readonly maxHandshakesPerAddress: number
}

/** A connection is in its TLS handshake, has had no call yet, has no open call, or has open calls. */
export type State = "handshake" | "unused" | "idle" | "busy"

/** The limit that a connection was evicted for. */
export type Limit = keyof Limits

/** The phases of a connection. A used one is idle or busy, depending on {@link Tracked.openCalls}. */
export type Phase = "handshake" | "unused" | "used"

/** A connection in the table. */
export class Tracked<Connection> implements Linked<Tracked<Connection>> {
  previous: Tracked<Connection> | undefined = undefined
  next: Tracked<Connection> | undefined = undefined
  readonly connection: Connection
  readonly group: Group<Connection>
  phase: Phase
  /** The open calls of a used connection. Written by the owner of the connection, since it changes with each call. */
  openCalls = 0
  /** When it entered its {@link State}, in milliseconds of `performance.now()`. Written as well when a used one becomes idle or busy. */
  since = 0

  constructor(connection: Connection, group: Group<Connection>, phase: Phase) {
    this.connection = connection
    this.group = group
    this.phase = phase
  }

  get state(): State {
    if (this.phase !== "used") return this.phase
    return this.openCalls === 0 ? "idle" : "busy"
  }
}

/** The connections of one address: a list for each phase, in the order in which they entered it. */
class Group<Connection> {
  readonly key: string
  readonly phases: Readonly<Record<Phase, LinkedList<Tracked<Connection>>>> = {
    handshake: new LinkedList(),
    unused: new LinkedList(),
    used: new LinkedList()
  }
  size = 0

  constructor(key: string) {
    this.key = key
  }
}

export interface ConnectionTable<Connection> {
  /** Adds a connection, and evicts one, possibly the new one, for each limit that is then exceeded. */
  readonly add: (connection: Connection, address: string, phase: Phase) => Tracked<Connection>
  /** Moves a connection to a later phase. No-op after its removal. */
  readonly move: (tracked: Tracked<Connection>, phase: Phase) => void
  readonly remove: (tracked: Tracked<Connection>) => void
  readonly size: () => number
  /** How many connections are in their TLS handshake. */
  readonly handshakes: () => number
}

/** `evict` must close the connection, which is already removed from the table. */
export const make = <Connection>(
  limits: Limits,
  evict: (tracked: Tracked<Connection>, limit: Limit) => void
): ConnectionTable<Connection> => {
  const groups = new Map<string, Group<Connection>>()
  const sizes = new Ranking<Group<Connection>>()
  const handshakes = new Ranking<Group<Connection>>()
  const removed = new WeakSet<Tracked<Connection>>()
  let size = 0
  let handshaking = 0

  const enter = (tracked: Tracked<Connection>, phase: Phase) => {
    const { group } = tracked
    tracked.phase = phase
    tracked.since = performance.now()
    group.phases[phase].add(tracked)
    if (phase !== "handshake") return
    handshaking++
    handshakes.move(group, group.phases.handshake.size - 1, group.phases.handshake.size)
  }

  const leave = (tracked: Tracked<Connection>) => {
    const { group, phase } = tracked
    group.phases[phase].remove(tracked)
    if (phase !== "handshake") return
    handshaking--
    handshakes.move(group, group.phases.handshake.size + 1, group.phases.handshake.size)
  }

  const remove = (tracked: Tracked<Connection>) => {
    if (removed.has(tracked)) return
    removed.add(tracked)
    const { group } = tracked
    leave(tracked)
    size--
    group.size--
    sizes.move(group, group.size + 1, group.size)
    if (group.size === 0) groups.delete(group.key)
  }

  const end = (tracked: Tracked<Connection>, limit: Limit) => {
    remove(tracked)
    evict(tracked, limit)
  }

  const enforce = (added: Tracked<Connection>) => {
    const { group } = added
    const own = group.phases.handshake
    if (added.phase === "handshake" && own.size > limits.maxHandshakesPerAddress) {
      end(firstOther(own, added) ?? added, "maxHandshakesPerAddress")
    } else if (added.phase === "handshake" && handshaking > limits.maxHandshakes) {
      // ties are broken arbitrarily
      const [largest = group] = handshakes.largest()
      end(firstOther(largest.phases.handshake, added) ?? added, "maxHandshakes")
    }
    if (removed.has(added)) return
    if (group.size > limits.maxConnectionsPerAddress) {
      end(victimOf(group, added), "maxConnectionsPerAddress")
    } else if (size > limits.maxConnections) {
      end(victimAmong(sizes.largest(), added), "maxConnections")
    }
  }

  return {
    add: (connection, address, phase) => {
      let group = groups.get(address)
      if (group === undefined) groups.set(address, (group = new Group(address)))
      size++
      group.size++
      sizes.move(group, group.size - 1, group.size)
      const tracked = new Tracked(connection, group, phase)
      enter(tracked, phase)
      enforce(tracked)
      return tracked
    },
    move: (tracked, phase) => {
      if (tracked.phase === phase || removed.has(tracked)) return
      leave(tracked)
      enter(tracked, phase)
    },
    remove,
    size: () => size,
    handshakes: () => handshaking
  }
}

/** The order in which connections are evicted: the cheapest to lose first. */
const order: ReadonlyArray<State> = ["handshake", "unused", "idle", "busy"]

/** The connection without a call that has been in its state longest, else the new one if it is of the group, else the newest one. */
const victimOf = <Connection>(group: Group<Connection>, added: Tracked<Connection>): Tracked<Connection> => {
  const { handshake, unused, used } = group.phases
  const victim = firstOther(handshake, added) ?? firstOther(unused, added)
  if (victim !== undefined) return victim
  // used connections are not sorted, since a call would then cost more than this rare search
  let best: Tracked<Connection> | undefined
  for (const tracked of used) if (best === undefined || isBefore(tracked, best)) best = tracked
  if (best?.state === "idle") return best
  return added.group === group ? added : (best ?? added)
}

/** {@link victimOf} among several groups of equal size. */
const victimAmong = <Connection>(
  groups: Iterable<Group<Connection>>,
  added: Tracked<Connection>
): Tracked<Connection> => {
  let best: Tracked<Connection> | undefined
  for (const group of groups) {
    const victim = victimOf(group, added)
    if (victim !== added && (best === undefined || isBefore(victim, best))) best = victim
  }
  if (best === undefined) return added
  // if all groups are equally large, a connection with calls is not evicted in favour of an unused connection
  return best.state === "busy" && best.group.size <= added.group.size ? added : best
}

const isBefore = <Connection>(one: Tracked<Connection>, other: Tracked<Connection>): boolean => {
  const difference = order.indexOf(one.state) - order.indexOf(other.state)
  if (difference !== 0) return difference < 0
  return one.state === "busy" ? one.since >= other.since : one.since < other.since
}

const firstOther = <A extends Linked<A>>(list: LinkedList<A>, except: A): A | undefined =>
  list.first === except ? except.next : list.first

/** Keys by their counts, which change by one at a time. */
class Ranking<Key> {
  readonly #byCount: Array<Set<Key>> = []

  move(key: Key, from: number, to: number): void {
    this.#byCount[from]?.delete(key)
    while (this.#byCount.length <= to) this.#byCount.push(new Set())
    if (to > 0) this.#byCount[to]!.add(key)
    while (this.#byCount.at(-1)?.size === 0) this.#byCount.pop()
  }

  largest(): Iterable<Key> {
    return this.#byCount.at(-1) ?? []
  }
}
