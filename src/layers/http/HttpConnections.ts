/**
 * The connections of an HTTP server and their limits: how many are open, in all and for each client address, how many requests one
 * connection may have open, and how long and how many bytes of responses may wait for clients that do not read them.
 *
 * Above the limit of connections, the one that has waited longest for its client (without a request, with part of one, or with an
 * unread response) is closed, of the address that holds most connections.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"

import { type Linked, LinkedList } from "../collections/LinkedList.ts"
import { clientNetwork, type IpNetworks } from "../config/IpNetworks.ts"

export interface Limits {
  readonly maxConnections: number
  /** Of one client address; undefined is no limit. */
  readonly maxConnectionsPerAddress: number | undefined
  /** Requests of one connection that are open at the same time, by pipelining. */
  readonly maxRequestsPerConnection: number
  /** Responses that clients have not read yet, over all connections, in bytes. */
  readonly maxUnreadSize: number
  /** How long a client may read nothing of a response, in milliseconds. */
  readonly unreadTimeout: number
  /** Connections from these count in the total only. */
  readonly trustedProxies: IpNetworks
}

/** Why a limit closes or refuses a connection, for metrics. */
export const reasons = ["connection limit", "address limit", "pipelining", "unread answers", "unread timeout"] as const

export type Reason = (typeof reasons)[number]

/** A request of a connection, until its response has been sent or the connection is closed. */
export class Exchange {
  readonly connection: Connection
  readonly response: ServerResponse
  /** Without a response, with a response that the client has not read, or neither. */
  state: "active" | "unread" | "closed" = "active"
  /** The size of the response, in bytes. */
  size = 0
  /** Whether it exceeds the limit of its connection: it is refused, and no later request is answered. */
  readonly isLast: boolean
  /** Called once, when the request is answered or its connection is closed. */
  release: (() => void) | undefined = undefined

  constructor(connection: Connection, response: ServerResponse, isLast: boolean) {
    this.connection = connection
    this.response = response
    this.isLast = isLast
  }
}

/** An open connection. While it waits for its client, it is in the list of its {@link Holder}. */
export class Connection implements Linked<Connection> {
  previous: Connection | undefined = undefined
  next: Connection | undefined = undefined
  readonly socket: Socket
  readonly peer: string
  readonly isProxy: boolean
  readonly holder: Holder
  /** Waiting for its client, or with a request that has no response yet. */
  state: "waiting" | "responding" | "closed" = "waiting"
  /** When it began to wait, by `performance.now()`. */
  since = performance.now()
  /** The exchanges that are not closed, in the order of their requests. */
  readonly exchanges: Array<Exchange> = []
  /** How many of them have no response yet. */
  active = 0
  readonly unread: Unread = new Unread(this)
  /** A request that was answered before its body had been received. */
  incomplete: IncomingMessage | undefined = undefined
  /** Whether it has received a request. */
  isUsed = false
  /** Whether a request exceeded the limit; later ones are ignored. */
  isFull = false
  /** How many requests were ignored. */
  ignored = 0

  constructor(socket: Socket, peer: string, isProxy: boolean, holder: Holder) {
    this.socket = socket
    this.peer = peer
    this.isProxy = isProxy
    this.holder = holder
  }
}

/** The responses of a connection that its client has not read yet. */
class Unread implements Linked<Unread> {
  previous: Unread | undefined = undefined
  next: Unread | undefined = undefined
  readonly connection: Connection
  count = 0
  /** When the client last read something, by `performance.now()`. */
  since = 0
  /** How many bytes Node had queued then. */
  queued = 0

  constructor(connection: Connection) {
    this.connection = connection
  }
}

/** A client address and its connections. */
class Holder implements Linked<Holder> {
  previous: Holder | undefined = undefined
  next: Holder | undefined = undefined
  readonly address: string
  count = 0
  /** The waiting connections, the one that has waited longest first. */
  readonly waiting = new LinkedList<Connection>()
  constructor(address: string) {
    this.address = address
  }
}

/** The holders with waiting connections, by the number of their connections. */
class HolderRanking {
  readonly #byCount: Array<LinkedList<Holder> | undefined> = []

  add(holder: Holder): void {
    const rank = (this.#byCount[holder.count] ??= new LinkedList())
    rank.add(holder)
  }

  remove(holder: Holder): void {
    this.#byCount[holder.count]!.remove(holder)
  }

  /** The connection that has waited longest, of the holders with most connections. */
  longestWaiting(): Connection | undefined {
    while (this.#byCount.length > 0) {
      const longest = longestOf(this.#byCount.at(-1)?.first)
      if (longest !== undefined) return longest
      this.#byCount.pop()
    }
    return undefined
  }
}

/** The connection that has waited longest, of a holder and those after it in its list, all with equally many connections. */
const longestOf = (first: Holder | undefined): Connection | undefined => {
  let longest = first?.waiting.first
  // holders of one connection, of which there may be thousands, are in the order in which they began to wait
  if (first?.count === 1) return longest
  for (let holder = first?.next; holder !== undefined; holder = holder.next) {
    const waiting = holder.waiting.first
    if (waiting !== undefined && (longest === undefined || waiting.since < longest.since)) longest = waiting
  }
  return longest
}

const connectionKey = Symbol("connection")
type Tracked = { [connectionKey]?: Connection }

/** How long a response has to be unread before it may be discarded in favour of others, in milliseconds. */
const minUnreadTime = 1_000

export interface Events {
  /** A limit closes a connection. */
  readonly onClosed: (reason: Reason, connection: Connection) => void
  /** A limit refuses a new connection. */
  readonly onRefused: (reason: Reason, peer: string) => void
}

export class HttpConnections {
  readonly #limits: Limits
  readonly #events: Events
  readonly #open = new Set<Connection>()
  readonly #holders = new Map<string, Holder>()
  readonly #ranking = new HolderRanking()
  /** All trusted proxies: their connections are closed only if no other holder has a waiting one. */
  readonly #proxies = new Holder("trusted proxies")
  readonly #unread = new LinkedList<Unread>()
  #unreadSize = 0
  #exchanges = 0
  #closedExchanges = 0

  constructor(limits: Limits, events: Events) {
    this.#limits = limits
    this.#events = events
  }

  /** Open connections, open exchanges, exchanges closed since the start, and unread bytes. */
  get counts() {
    return {
      connections: this.#open.size,
      exchanges: this.#exchanges,
      closed: this.#closedExchanges,
      unreadSize: this.#unreadSize
    }
  }

  static of(socket: Socket): Connection | undefined {
    return (socket as Tracked)[connectionKey]
  }

  /** Registers a new connection, closing another one if a limit is reached. Returns undefined if it is refused. */
  open(socket: Socket): Connection | undefined {
    const peer = socket.remoteAddress ?? ""
    const isProxy = this.#limits.trustedProxies.contains(peer)
    const holder = isProxy ? this.#proxies : this.#holderOf(peer)
    const refused = this.#makeRoom(holder)
    if (refused !== undefined) {
      if (holder.count === 0) this.#holders.delete(holder.address)
      this.#events.onRefused(refused, peer)
      return undefined
    }
    const connection = new Connection(socket, peer, isProxy, holder)
    ;(socket as Tracked)[connectionKey] = connection
    this.#open.add(connection)
    this.#changeCount(holder, 1)
    this.#wait(connection)
    return connection
  }

  #holderOf(peer: string): Holder {
    const address = clientNetwork(peer)
    let holder = this.#holders.get(address)
    if (holder === undefined) this.#holders.set(address, (holder = new Holder(address)))
    return holder
  }

  /** Makes room for one more connection of a holder. Returns why there is none; undefined if there is. */
  #makeRoom(holder: Holder): Reason | undefined {
    const { maxConnections, maxConnectionsPerAddress = Infinity } = this.#limits
    if (holder !== this.#proxies && holder.count >= maxConnectionsPerAddress) {
      if (holder.waiting.first === undefined) return "address limit"
      this.evict(holder.waiting.first, "address limit")
    }
    if (this.#open.size < maxConnections) return undefined
    const victim = this.#ranking.longestWaiting() ?? this.#proxies.waiting.first
    if (victim === undefined) return "connection limit"
    this.evict(victim, "connection limit")
    return undefined
  }

  /** The connections of the same client address that have received no request yet. */
  unusedBeside({ holder }: Connection): ReadonlyArray<Connection> {
    return Array.from(holder.waiting).filter(({ isUsed }) => !isUsed)
  }

  /** Closes a connection because of a limit. */
  evict(connection: Connection, reason: Reason): void {
    if (connection.state === "closed") return
    this.#events.onClosed(reason, connection)
    this.closed(connection)
    connection.socket.destroy()
  }

  /** To be called when a connection is closed by either side. */
  closed(connection: Connection): void {
    if (connection.state === "closed") return
    if (connection.state === "waiting") this.#stopWaiting(connection)
    connection.state = "closed"
    this.#open.delete(connection)
    this.#changeCount(connection.holder, -1)
    while (connection.exchanges[0] !== undefined) this.closeExchange(connection.exchanges[0])
  }

  #changeCount(holder: Holder, by: 1 | -1): void {
    const isRanked = holder !== this.#proxies && holder.waiting.size > 0
    if (isRanked) this.#ranking.remove(holder)
    holder.count += by
    if (isRanked) this.#ranking.add(holder)
    if (holder === this.#proxies) return
    // making room may have closed its last connection, which removed it
    if (holder.count > 0) this.#holders.set(holder.address, holder)
    else if (this.#holders.get(holder.address) === holder) this.#holders.delete(holder.address)
  }

  #wait(connection: Connection): void {
    const { holder } = connection
    connection.state = "waiting"
    connection.since = performance.now()
    holder.waiting.add(connection)
    if (holder !== this.#proxies && holder.waiting.size === 1) this.#ranking.add(holder)
  }

  #stopWaiting(connection: Connection): void {
    const { holder } = connection
    holder.waiting.remove(connection)
    if (holder !== this.#proxies && holder.waiting.size === 0) this.#ranking.remove(holder)
  }

  /** Registers a request; undefined if it is ignored, since its connection will be closed. */
  begin(request: IncomingMessage, response: ServerResponse): Exchange | undefined {
    const connection = HttpConnections.of(request.socket)
    if (connection === undefined || connection.state === "closed") return undefined
    connection.isUsed = true
    if (connection.isFull) {
      // Node parses what it has already received
      if (++connection.ignored >= this.#limits.maxRequestsPerConnection) this.evict(connection, "pipelining")
      return undefined
    }
    if (connection.state === "waiting") {
      this.#stopWaiting(connection)
      connection.state = "responding"
    }
    connection.isFull = connection.exchanges.length >= this.#limits.maxRequestsPerConnection
    const exchange = new Exchange(connection, response, connection.isFull)
    connection.exchanges.push(exchange)
    connection.active++
    this.#exchanges++
    return exchange
  }

  /** To be called when a response of so many bytes has ended: the connection waits for its client from then on. */
  responded(exchange: Exchange, size: number): void {
    if (exchange.state !== "active") return
    this.#endActive(exchange)
    const { connection } = exchange
    if (connection.state === "closed") return
    exchange.state = "unread"
    exchange.size = size
    this.#unreadSize += size
    if (connection.unread.count++ === 0) this.#follow(connection.unread)
    if (connection.active === 0) this.#wait(connection)
    if (this.#unreadSize > this.#limits.maxUnreadSize) this.#closeUnread(minUnreadTime, "unread answers", 1)
  }

  #endActive(exchange: Exchange): void {
    exchange.state = "closed"
    exchange.connection.active--
    exchange.release?.()
  }

  /** To be called when a response has been sent or never will be. */
  closeExchange(exchange: Exchange): void {
    const { connection, response, state } = exchange
    const at = connection.exchanges.indexOf(exchange)
    if (at === -1) return
    connection.exchanges.splice(at, 1)
    connection.incomplete = response.req.complete ? undefined : response.req
    if (state === "active") this.#endActive(exchange)
    if (state === "unread") {
      exchange.state = "closed"
      this.#unreadSize -= exchange.size
      this.#unread.remove(connection.unread)
      if (--connection.unread.count > 0) this.#follow(connection.unread)
    }
    this.#exchanges--
    this.#closedExchanges++
    // Node emits "close" only on the first of several responses of a connection
    if (connection.state === "closed" && !response.closed) {
      response.destroy()
      response.emit("close")
    }
    if (connection.state === "responding" && connection.active === 0) this.#wait(connection)
  }

  #follow(unread: Unread): void {
    unread.since = performance.now()
    unread.queued = unread.connection.socket.writableLength
    this.#unread.add(unread)
  }

  /** Closes connections whose clients have read nothing for the timeout. To be called at an interval. */
  sweep(): void {
    for (const unread of this.#unread) {
      const { writableLength } = unread.connection.socket
      const isReading = writableLength < unread.queued
      unread.queued = writableLength
      if (!isReading) continue
      this.#unread.remove(unread)
      this.#follow(unread)
    }
    this.#closeUnread(this.#limits.unreadTimeout, "unread timeout")
  }

  /** Closes at most so many connections whose responses have been unread for so long, in milliseconds, the oldest first. */
  #closeUnread(age: number, reason: Reason, most = Infinity): void {
    const before = performance.now() - age
    for (let count = 0; count < most; count++) {
      const { first } = this.#unread
      if (first === undefined || first.since > before) return
      this.evict(first.connection, reason)
    }
  }

  /** Whether the next bytes on a connection would be within a response, or after the response to an unfinished request. */
  static isResponding(socket: Socket): boolean {
    const connection = HttpConnections.of(socket)
    if (connection === undefined) return true
    return connection.exchanges.length > 0 || connection.incomplete?.complete === false
  }

  /** Closes every connection with open exchanges after its responses (`Connection: close`). */
  closeAfterResponses(): void {
    for (const connection of this.#open) {
      for (const { response } of connection.exchanges) response.shouldKeepAlive = false
    }
  }
}
