/**
 * The sockets of a client of PostgreSQL. When a server disappears without closing its connections, what is sent is repeated by TCP for a
 * quarter of an hour, and the operations that wait for an answer cannot even be interrupted. They end when their socket is destroyed.
 */
import net from "node:net"

interface Silence {
  readonly bytesRead: number
  /** In milliseconds of `performance.now()`. */
  readonly since: number
}

/** How long a connection is idle before TCP probes whether the server is still there, in milliseconds. */
const keepAliveDelay = 30_000

export class PostgresSockets {
  readonly #silences = new Map<net.Socket, Silence>()

  /** The number of open connections. */
  get size(): number {
    return this.#silences.size
  }

  /** Opens a connection. */
  connect(host: string, port: number): net.Socket {
    const socket = net.connect({ host, port, keepAlive: true, keepAliveInitialDelay: keepAliveDelay, noDelay: true })
    socket.once("connect", () => this.#silences.set(socket, { bytesRead: socket.bytesRead, since: performance.now() }))
    socket.once("close", () => this.#silences.delete(socket))
    return socket
  }

  /** Notes which connections have received something. It has to be called about once a second. */
  observe(): void {
    for (const [socket, { bytesRead }] of this.#silences) {
      if (socket.bytesRead !== bytesRead) {
        this.#silences.set(socket, { bytesRead: socket.bytesRead, since: performance.now() })
      }
    }
  }

  /** Destroys the connections that have received nothing for a time in milliseconds. Idle ones are replaced when they are needed. */
  destroySilent(time: number): void {
    this.observe()
    for (const [socket, { since }] of this.#silences) {
      if (performance.now() - since >= time)
        socket.destroy(new Error(`nothing was received for ${Math.round(time)} ms`))
    }
  }
}
