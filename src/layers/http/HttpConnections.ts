/**
 * The connections of an HTTP server and their limits: how many there are, in all and by client address, how many requests one of
 * them may have open at once, and how long and how much answers may wait for a client that does not read them.
 *
 * Where a connection is one too many, the one is closed that has waited longest for its client (it has sent no request, half a
 * request, or has an answer to read), of the address that holds most.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"

import { type Linked, LinkedList } from "../collections/LinkedList.ts"
import { StableSet } from "../collections/StableSet.ts"
import { clientNetwork, type IpNetworks } from "../config/IpNetworks.ts"

export interface Limits {
  readonly maxConnections: number
  /** Of one client address; undefined is no limit. */
  readonly maxConnectionsPerAddress: number | undefined
  /** Requests of one connection that are open at the same time, by pipelining. */
  readonly maxRequestsPerConnection: number
  /** Bytes of answers that clients have yet to read, over all connections. */
  readonly maxUnreadSize: number
  /** How long a client may read nothing of an answer, in milliseconds. */
  readonly unreadTimeout: number
  /** Their connections count in the total only. */
  readonly trustedProxies: IpNetworks
}

/** Why connections are closed or refused by a limit, as metrics name it. */
export const reasons = ["connection limit", "address limit", "pipelining", "unread answers", "unread timeout"] as const

export type Reason = (typeof reasons)[number]

/** A request that has come on a connection, until its answer has been read or the connection is closed. */
export class Exchange {
  readonly connection: Connection
  readonly response: ServerResponse
  /** "active" until the answer is made, "unread" until the client has taken it, then "closed". */
  state: "active" | "unread" | "closed" = "active"
  size = 0
  /** Whether it is one above the limit of its connection, to be refused as the last one that is answered there. */
  readonly isLast: boolean
  /** Called once, when the request is answered or its connection is closed. */
  release: (() => void) | undefined = undefined

  constructor(connection: Connection, response: ServerResponse, isLast: boolean) {
    this.connection = connection
    this.response = response
    this.isLast = isLast
  }
}

/** An open connection. It is in the list of its address for as long as it waits for its client. */
export class Connection implements Linked<Connection> {
  previous: Connection | undefined = undefined
  next: Connection | undefined = undefined
  readonly socket: Socket
  readonly peer: string
  readonly isProxy: boolean
  readonly holder: Holder
  /** "waiting" for its client, "answering" a request, or "closed". */
  state: "waiting" | "answering" | "closed" = "waiting"
  since = performance.now()
  /** Those that are not closed. */
  readonly exchanges: Array<Exchange> = []
  active = 0
  readonly unread: Unread = new Unread(this)
  /** A request that is answered, and of which the client had not sent all. */
  incomplete: IncomingMessage | undefined = undefined
  /** Whether any request has come on it. */
  isUsed = false
  /** Whether a request above the limit has been refused, after which the connection takes no other one. */
  isFull = false
  /** Requests that came after that one. */
  ignored = 0

  constructor(socket: Socket, peer: string, isProxy: boolean, holder: Holder) {
    this.socket = socket
    this.peer = peer
    this.isProxy = isProxy
    this.holder = holder
  }
}

/** The answers of a connection that its client has yet to read. */
class Unread implements Linked<Unread> {
  previous: Unread | undefined = undefined
  next: Unread | undefined = undefined
  readonly connection: Connection
  count = 0
  /** Since when nothing of them was taken. */
  since = 0
  /** How much the operating system had not taken then. */
  queued = 0

  constructor(connection: Connection) {
    this.connection = connection
  }
}

/** A client address with its connections. */
class Holder implements Linked<Holder> {
  previous: Holder | undefined = undefined
  next: Holder | undefined = undefined
  readonly address: string
  count = 0
  /** Its connections that wait, the one that has done so longest first. */
  readonly waiting = new LinkedList<Connection>()
  constructor(address: string) {
    this.address = address
  }
}

/** Holders with waiting connections, by how many connections each holds, to find those that hold most. */
class HolderRanking {
  readonly #byCount: Array<LinkedList<Holder> | undefined> = []

  add(holder: Holder): void {
    const rank = (this.#byCount[holder.count] ??= new LinkedList())
    rank.add(holder)
  }

  remove(holder: Holder): void {
    this.#byCount[holder.count]!.remove(holder)
  }

  /** Of the holders that hold most, the connection that has waited longest. */
  longestWaiting(): Connection | undefined {
    while (this.#byCount.length > 0) {
      const longest = longestOf(this.#byCount.at(-1)?.first)
      if (longest !== undefined) return longest
      this.#byCount.pop()
    }
    return undefined
  }
}

/** Of a holder and those that follow it in their list, which hold equally many, the connection that has waited longest. */
const longestOf = (first: Holder | undefined): Connection | undefined => {
  let longest = first?.waiting.first
  // holders of one connection are in the order in which they began to wait, and there may be thousands of them
  if (first?.count === 1) return longest
  for (let holder = first?.next; holder !== undefined; holder = holder.next) {
    const waiting = holder.waiting.first
    if (waiting !== undefined && (longest === undefined || waiting.since < longest.since)) longest = waiting
  }
  return longest
}

const connectionKey = Symbol("connection")
type Tracked = { [connectionKey]?: Connection }

/** How much longer than a moment an answer has to be unread before its connection is closed for others, in milliseconds. */
const moment = 1_000

export interface Events {
  /** A connection is closed by a limit. */
  readonly onClosed: (reason: Reason, connection: Connection) => void
  /** A new connection finds no place. */
  readonly onRefused: (reason: Reason, peer: string) => void
}

export class HttpConnections {
  readonly #limits: Limits
  readonly #events: Events
  readonly #open = new StableSet<Connection>()
  readonly #holders = new Map<string, Holder>()
  readonly #ranking = new HolderRanking()
  /** All trusted proxies are one holder, which gives way only when nobody else can. */
  readonly #proxies = new Holder("trusted proxies")
  readonly #unread = new LinkedList<Unread>()
  #unreadSize = 0
  #exchanges = 0
  #closedExchanges = 0

  constructor(limits: Limits, events: Events) {
    this.#limits = limits
    this.#events = events
  }

  /** `exchanges` are requests that are not closed, `closed` those that were since the start. */
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

  /** Takes in a new connection, for which another one may have to go. Whether there is a place for it. */
  open(socket: Socket): boolean {
    const peer = socket.remoteAddress ?? ""
    const isProxy = this.#limits.trustedProxies.contains(peer)
    const holder = isProxy ? this.#proxies : this.#holderOf(peer)
    const refused = this.#makeRoom(holder)
    if (refused !== undefined) {
      if (holder.count === 0) this.#holders.delete(holder.address)
      this.#events.onRefused(refused, peer)
      return false
    }
    const connection = new Connection(socket, peer, isProxy, holder)
    ;(socket as Tracked)[connectionKey] = connection
    this.#open.add(connection)
    this.#changeCount(holder, 1)
    this.#wait(connection)
    return true
  }

  #holderOf(peer: string): Holder {
    const address = clientNetwork(peer)
    let holder = this.#holders.get(address)
    if (holder === undefined) this.#holders.set(address, (holder = new Holder(address)))
    return holder
  }

  /** Why there is no room for one more connection of a holder. */
  #makeRoom(holder: Holder): Reason | undefined {
    const { maxConnections, maxConnectionsPerAddress = Infinity } = this.#limits
    if (holder !== this.#proxies && holder.count >= maxConnectionsPerAddress) {
      if (holder.waiting.first === undefined) return "address limit"
      this.cut(holder.waiting.first, "address limit")
    }
    if (this.#open.size < maxConnections) return undefined
    const victim = this.#ranking.longestWaiting() ?? this.#proxies.waiting.first
    if (victim === undefined) return "connection limit"
    this.cut(victim, "connection limit")
    return undefined
  }

  /** The connections of the same client address from which no request has come yet. */
  unusedBeside({ holder }: Connection): ReadonlyArray<Connection> {
    return Array.from(holder.waiting).filter(({ isUsed }) => !isUsed)
  }

  /** Closes a connection that is over a limit. */
  cut(connection: Connection, reason: Reason): void {
    if (connection.state === "closed") return
    this.#events.onClosed(reason, connection)
    this.closed(connection)
    connection.socket.destroy()
  }

  /** A connection is closed, by whomever. */
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
    // what made room may have been its last connection
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

  /** A request has come; undefined is one that is not answered at all, since its connection is about to be closed. */
  begin(request: IncomingMessage, response: ServerResponse): Exchange | undefined {
    const connection = HttpConnections.of(request.socket)
    if (connection === undefined || connection.state === "closed") return undefined
    connection.isUsed = true
    if (connection.isFull) {
      // Node keeps what has come meanwhile
      if (++connection.ignored >= this.#limits.maxRequestsPerConnection) this.cut(connection, "pipelining")
      return undefined
    }
    if (connection.state === "waiting") {
      this.#stopWaiting(connection)
      connection.state = "answering"
    }
    connection.isFull = connection.exchanges.length >= this.#limits.maxRequestsPerConnection
    const exchange = new Exchange(connection, response, connection.isFull)
    connection.exchanges.push(exchange)
    connection.active++
    this.#exchanges++
    return exchange
  }

  /** A request is answered with that many bytes: from now on the connection waits for its client. */
  answered(exchange: Exchange, size: number): void {
    if (exchange.state !== "active") return
    this.#endActive(exchange)
    const { connection } = exchange
    if (connection.state === "closed") return
    exchange.state = "unread"
    exchange.size = size
    this.#unreadSize += size
    if (connection.unread.count++ === 0) this.#follow(connection.unread)
    if (connection.active === 0) this.#wait(connection)
    if (this.#unreadSize > this.#limits.maxUnreadSize) this.#cutUnread(moment, "unread answers", 1)
  }

  #endActive(exchange: Exchange): void {
    exchange.state = "closed"
    exchange.connection.active--
    exchange.release?.()
  }

  /** The client has taken an answer as a whole, or it never will. */
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
    // Node tells only the first of several answers that their connection is closed
    if (connection.state === "closed" && !response.closed) {
      response.destroy()
      response.emit("close")
    }
    if (connection.state === "answering" && connection.active === 0) this.#wait(connection)
  }

  #follow(unread: Unread): void {
    unread.since = performance.now()
    unread.queued = unread.connection.socket.writableLength
    this.#unread.add(unread)
  }

  /** Closes connections whose clients have read nothing for longer than the time-out. To be called now and then. */
  sweep(): void {
    for (const unread of this.#unread) {
      const { writableLength } = unread.connection.socket
      const isReading = writableLength < unread.queued
      unread.queued = writableLength
      if (!isReading) continue
      this.#unread.remove(unread)
      this.#follow(unread)
    }
    this.#cutUnread(this.#limits.unreadTimeout, "unread timeout")
  }

  /** Closes connections whose answers have been unread for that long, those first for which that is longest. */
  #cutUnread(age: number, reason: Reason, most = Infinity): void {
    const before = performance.now() - age
    for (let count = 0; count < most; count++) {
      const { first } = this.#unread
      if (first === undefined || first.since > before) return
      this.cut(first.connection, reason)
    }
  }

  /** Whether the next bytes on a connection would be part of an answer, or come after one to the same request. */
  static isAnswering(socket: Socket): boolean {
    const connection = HttpConnections.of(socket)
    if (connection === undefined) return true
    return connection.exchanges.length > 0 || connection.incomplete?.complete === false
  }

  /** Has all answers that are not sent yet tell their clients to close the connection. */
  closeAfterAnswers(): void {
    for (const connection of this.#open) {
      for (const { response } of connection.exchanges) response.shouldKeepAlive = false
    }
  }
}
