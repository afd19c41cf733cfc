/**
 * A raw HTTP/1.1 connection, for bytes that no client library sends.
 */
import { connect, type Socket } from "node:net"

import { Effect, type Scope } from "effect"

export interface Peer {
  readonly socket: Socket
  readonly send: (text: string) => void
  /** The text received so far. */
  readonly received: () => string
  /** Waits until `text` has been received `times` times, or the connection is closed. Succeeds with all text received. */
  readonly until: (text: string, times?: number) => Effect.Effect<string>
  /** Waits until the connection is closed. Succeeds with all text received. */
  readonly closed: Effect.Effect<string>
  readonly isOpen: () => boolean
}

/** Connects from any loopback address. */
export const open = (port: number, localAddress = "127.0.0.1"): Effect.Effect<Peer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Peer>((resume) => {
      const socket = connect({ port, host: "127.0.0.1", localAddress })
      let text = ""
      let isOpen = true
      const waiting = new Set<() => void>()
      const check = () => waiting.forEach((look) => look())
      socket.setEncoding("latin1")
      socket.on("data", (chunk) => {
        text += String(chunk)
        check()
      })
      socket.on("error", () => {})
      socket.on("close", () => {
        isOpen = false
        check()
      })
      const wait = (isDone: () => boolean) =>
        Effect.callback<string>((resume) => {
          const look = () => {
            if (isOpen && !isDone()) return
            waiting.delete(look)
            resume(Effect.succeed(text))
          }
          waiting.add(look)
          look()
        })
      socket.on("connect", () =>
        resume(
          Effect.succeed({
            socket,
            send: (text) => void socket.write(text, "latin1"),
            received: () => text,
            until: (part, times = 1) => wait(() => text.split(part).length > times),
            closed: wait(() => false),
            isOpen: () => isOpen
          })
        )
      )
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

export const get = (path = "/", headers: ReadonlyArray<string> = [], host = "localhost"): string =>
  `GET ${path} HTTP/1.1\r\n${[`Host: ${host}`, ...headers].join("\r\n")}\r\n\r\n`

/** The statuses of the responses in `text`, in order. */
export const statuses = (text: string): ReadonlyArray<number> =>
  Array.from(text.matchAll(/HTTP\/1\.1 (\d{3}) /g), ([, status]) => Number(status))
