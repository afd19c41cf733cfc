/**
 * The connections of an HTTP server and their limits: open connections in total and per client address, open requests per connection, and
 * the size and age of responses that clients do not read.
 *
 * Above the limit of connections, one of the address with most connections is closed: the one that has waited longest for its client
 * (without a request, with part of one, or with an unread response).
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"

import { type Linked, LinkedList } from "../collections/LinkedList.ts"
import { clientNetwork, type IpNetworks } from "../config/IpNetworks.ts"

export interface Limits {
  readonly maxConnections: number
  /** Open connections per client address; undefined is no limit. */
  readonly maxConnectionsPerAddress: number | undefined
  /** Open requests per connection (pipelining). */
  readonly maxRequestsPerConnection: number
  /** Responses that clients have not read yet, over all connections, in bytes. */
  readonly maxUnreadSize: number
  /** How long a client may read no byte of a response, in milliseconds. */
  readonly unreadTimeout: number
  /** Their connections only count towards the total. */
  readonly trustedProxies: IpNetworks
}

/** Why a limit closes or refuses a connection, for metrics. */
export const reasons = ["connection limit", "address limit", "pipelining", "unread answers", "unread timeout"] as const

export type Reason = (typeof reasons)[number]

/** A request of a connection, until its response has been sent or the connection is closed. */
export interface Exchange {
  readonly connection: Connection
  readonly response: ServerResponse
  /** active: no response yet; unread: response not fully read; closed. */
  state: "active" | "unread" | "closed"
  /** The size of the response, in bytes. */
  size: number
  /** Whether it exceeds the limit of its connection: it is refused and ends the connection. */
  readonly isLast: boolean
  /** Called once, when the response ends or the connection is closed. */
  release: (() => void) | undefined
}

/** An open connection. While it waits for its client, it is in the list of waiting connections of its {@link ClientAddress}. */
export class Connection implements Linked<Connection> {
  previous: Connection | undefined = undefined
  next: Connection | undefined = undefined
  readonly socket: Socket
  readonly peer: string
  readonly isProxy: boolean
  readonly client: ClientAddress
  /** Waiting for its client, or with a request that has no response yet. */
  state: "waiting" | "responding" | "closed" = "waiting"
  /** When it started to wait, by `performance.now()`. */
  since = performance.now()
  /** The exchanges that are not closed, in the order of their requests. */
  readonly exchanges: Array<Exchange> = []
  /** The number of exchanges without a response. */
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

  constructor(socket: Socket, peer: string, isProxy: boolean, client: ClientAddress) {
    this.socket = socket
    this.peer = peer
    this.isProxy = isProxy
    this.client = client
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
class ClientAddress implements Linked<ClientAddress> {
  previous: ClientAddress | undefined = undefined
  next: ClientAddress | undefined = undefined
  readonly address: string
  /** The number of its connections. */
  count = 0
  /** The waiting connections, the one that has waited longest first. */
  readonly waiting = new LinkedList<Connection>()
  constructor(address: string) {
    this.address = address
  }
}

/** The connection that has waited longest, among an address and those after it in its list, which have the same number of connections. */
const longestOf = (first: ClientAddress | undefined): Connection | undefined => {
  let longest = first?.waiting.first
  // addresses with one connection, of which there may be thousands, are in the order in which they started to wait
  if (first?.count === 1) return longest
  for (let client = first?.next; client !== undefined; client = client.next) {
    const waiting = client.waiting.first
    if (waiting !== undefined && (longest === undefined || waiting.since < longest.since)) longest = waiting
  }
  return longest
}

const connectionKey = Symbol("connection")
type Tracked = { [connectionKey]?: Connection }

/** How long a response must be unread before its connection may be closed at the size limit, in milliseconds. */
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
  readonly #clients = new Map<string, ClientAddress>()
  /** The addresses with waiting connections, by the number of their connections; without the proxies. */
  readonly #ranking: Array<LinkedList<ClientAddress> | undefined> = []
  /** All trusted proxies: their connections are closed only if no other address has a waiting one. */
  readonly #proxies = new ClientAddress("trusted proxies")
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

  /** Registers a new connection, closing another one if a limit is reached. Returns undefined if the new one is refused. */
  open(socket: Socket): Connection | undefined {
    const peer = socket.remoteAddress ?? ""
    const isProxy = this.#limits.trustedProxies.contains(peer)
    const client = isProxy ? this.#proxies : this.#clientOf(peer)
    const refused = this.#makeRoom(client)
    if (refused !== undefined) {
      if (client.count === 0) this.#clients.delete(client.address)
      this.#events.onRefused(refused, peer)
      return undefined
    }
    const connection = new Connection(socket, peer, isProxy, client)
    ;(socket as Tracked)[connectionKey] = connection
    this.#open.add(connection)
    this.#changeCount(client, 1)
    this.#wait(connection)
    return connection
  }

  #clientOf(peer: string): ClientAddress {
    const address = clientNetwork(peer)
    let client = this.#clients.get(address)
    if (client === undefined) this.#clients.set(address, (client = new ClientAddress(address)))
    return client
  }

  /** Makes room for one more connection of an address. Returns the reason if that is not possible. */
  #makeRoom(client: ClientAddress): Reason | undefined {
    const { maxConnections, maxConnectionsPerAddress = Infinity } = this.#limits
    if (client !== this.#proxies && client.count >= maxConnectionsPerAddress) {
      if (client.waiting.first === undefined) return "address limit"
      this.evict(client.waiting.first, "address limit")
    }
    if (this.#open.size < maxConnections) return undefined
    const victim = this.#longestWaiting() ?? this.#proxies.waiting.first
    if (victim === undefined) return "connection limit"
    this.evict(victim, "connection limit")
    return undefined
  }

  /** The connection that has waited longest, among the addresses with most connections. */
  #longestWaiting(): Connection | undefined {
    while (this.#ranking.length > 0) {
      const longest = longestOf(this.#ranking.at(-1)?.first)
      if (longest !== undefined) return longest
      this.#ranking.pop()
    }
    return undefined
  }

  /** The connections of the same client address that have received no request yet. */
  unusedOfSameAddress({ client }: Connection): ReadonlyArray<Connection> {
    return Array.from(client.waiting).filter(({ isUsed }) => !isUsed)
  }

  /** Closes a connection because of a limit. */
  evict(connection: Connection, reason: Reason): void {
    if (connection.state === "closed") return
    this.#events.onClosed(reason, connection)
    this.closed(connection)
    connection.socket.destroy()
  }

  /** Call it when a connection is closed by either side. */
  closed(connection: Connection): void {
    if (connection.state === "closed") return
    if (connection.state === "waiting") this.#stopWaiting(connection)
    connection.state = "closed"
    this.#open.delete(connection)
    this.#changeCount(connection.client, -1)
    while (connection.exchanges[0] !== undefined) this.closeExchange(connection.exchanges[0])
  }

  #changeCount(client: ClientAddress, by: 1 | -1): void {
    const isRanked = client !== this.#proxies && client.waiting.size > 0
    if (isRanked) this.#ranking[client.count]!.remove(client)
    client.count += by
    if (isRanked) (this.#ranking[client.count] ??= new LinkedList()).add(client)
    if (client === this.#proxies) return
    // making room may have closed the last connection of the address, which removed it
    if (client.count > 0) this.#clients.set(client.address, client)
    else if (this.#clients.get(client.address) === client) this.#clients.delete(client.address)
  }

  #wait(connection: Connection): void {
    const { client } = connection
    connection.state = "waiting"
    connection.since = performance.now()
    client.waiting.add(connection)
    if (client === this.#proxies || client.waiting.size > 1) return
    ;(this.#ranking[client.count] ??= new LinkedList()).add(client)
  }

  #stopWaiting(connection: Connection): void {
    const { client } = connection
    client.waiting.remove(connection)
    if (client !== this.#proxies && client.waiting.size === 0) this.#ranking[client.count]!.remove(client)
  }

  /** Registers a request; undefined if it is ignored, since its connection will be closed. */
  begin(request: IncomingMessage, response: ServerResponse): Exchange | undefined {
    const connection = (request.socket as Tracked)[connectionKey]
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
    const exchange: Exchange = {
      connection,
      response,
      state: "active",
      size: 0,
      isLast: connection.isFull,
      release: undefined
    }
    connection.exchanges.push(exchange)
    connection.active++
    this.#exchanges++
    return exchange
  }

  /** Call it when a response of `size` bytes has ended: from then on the connection waits for its client. */
  responded(exchange: Exchange, size: number): void {
    const { connection } = exchange
    if (exchange.state !== "active" || connection.state === "closed") return
    connection.active--
    exchange.release?.()
    exchange.state = "unread"
    exchange.size = size
    this.#unreadSize += size
    if (connection.unread.count++ === 0) this.#follow(connection.unread)
    if (connection.active === 0) this.#wait(connection)
    if (this.#unreadSize > this.#limits.maxUnreadSize) this.#closeUnread(minUnreadTime, "unread answers", 1)
  }

  /** Call it when a response has been sent, or its connection is closed. */
  closeExchange(exchange: Exchange): void {
    const { connection, response } = exchange
    const at = connection.exchanges.indexOf(exchange)
    if (at === -1) return
    connection.exchanges.splice(at, 1)
    connection.incomplete = response.req.complete ? undefined : response.req
    if (exchange.state === "active") {
      connection.active--
      exchange.release?.()
    } else {
      this.#unreadSize -= exchange.size
      this.#unread.remove(connection.unread)
      if (--connection.unread.count > 0) this.#follow(connection.unread)
    }
    exchange.state = "closed"
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

  /** Closes connections whose clients have read nothing for the timeout. Call it at an interval. */
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

  /** Closes up to `most` connections unread for `age` ms, the oldest first. */
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
