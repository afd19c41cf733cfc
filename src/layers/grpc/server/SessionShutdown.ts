/**
 * Ends HTTP/2 sessions of a server: gracefully by GOAWAY, or at once.
 *
 * A graceful shutdown takes two GOAWAY frames (RFC 9113, section 6.8): the first announces it, the second, a round trip later, names
 * the last call that is processed. grpc-js sends both at once, and a TCP reset that follows can discard them before a client that still
 * sends has read them. Calls that arrive after the first GOAWAY are not processed: Node sends it by nghttp2_submit_goaway, after which
 * nghttp2 ignores new streams, and does not expose nghttp2_submit_shutdown_notice, after which nghttp2 accepts them. The second GOAWAY
 * excludes these calls, so that their client may retry them on another connection.
 */
import { constants, type ServerHttp2Session } from "node:http2"

import type { Guard } from "../../telemetry/CallbackGuard.ts"

/** How long a client may take to acknowledge the PING between both GOAWAY frames, in milliseconds. */
const roundTripTimeout = 300

/** How long a client of a closing session may take to acknowledge a probe, and the interval of probes, in milliseconds. */
const probeTimeout = 1_000

/** How long the last calls of a session may take after {@link SessionShutdown.endSoon}, in milliseconds. */
const closeTimeout = 1_000

export interface SessionShutdown {
  /**
   * Announces that the session accepts no more calls, and closes it when those in flight have ended. `isIdle` is whether there are none
   * now; otherwise call the returned function, if any, when the last call has ended.
   */
  readonly goAway: (session: ServerHttp2Session, isIdle: boolean) => (() => void) | undefined
  /**
   * Destroys a closing session if its client no longer responds. A client that violates HTTP/2 after its GOAWAY leaves a session that
   * neither responds nor closes.
   */
  readonly probe: (session: ServerHttp2Session) => void
  /** Sends GOAWAY, and destroys the session when its calls have ended, or after a second. */
  readonly endSoon: (session: ServerHttp2Session) => void
  /** Destroys a session with the calls on it. */
  readonly end: (session: ServerHttp2Session) => void
}

export const make = (guard: Guard): SessionShutdown => {
  /** The sessions that have been sent the first GOAWAY, mapped to the function that sends the second. */
  const announced = new WeakMap<ServerHttp2Session, () => void>()
  const probing = new WeakSet<ServerHttp2Session>()

  const end = (session: ServerHttp2Session) => {
    const { socket } = session
    if (!session.destroyed) session.destroy(undefined, constants.NGHTTP2_NO_ERROR)
    // otherwise data that the client does not read keeps the connection open
    setImmediate(guard("session end", () => void socket.destroy()))
  }

  const endSoon = (session: ServerHttp2Session) => {
    if (session.destroyed) return
    session.close()
    const timer = setTimeout(
      guard("session end timer", () => end(session)),
      closeTimeout
    ).unref()
    session.once("close", () => clearTimeout(timer))
  }

  const goAway: SessionShutdown["goAway"] = (session, isIdle) => {
    if (session.destroyed) return undefined
    // GOAWAY was received, or sent before
    if (session.closed) {
      probe(session)
      return undefined
    }
    if (announced.has(session)) return announced.get(session)
    session.goaway(constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1)
    // Without a stream, nghttp2 reads nothing after a GOAWAY, not even the acknowledgement of a PING. Once the session is closed, Node
    // discards received data until the client has closed its side, so a TCP reset cannot discard the GOAWAY.
    if (isIdle) {
      session.close()
      return undefined
    }
    const close = guard(
      "GOAWAY timer",
      () => {
        clearTimeout(timer)
        if (!session.destroyed) session.close()
      },
      { recover: () => end(session) }
    )
    const timer = setTimeout(close, roundTripTimeout)
    announced.set(session, close)
    session.ping(close)
    return close
  }

  // Probes by SETTINGS, which must be acknowledged, since Node sends no PING on a closing session.
  const probe = (session: ServerHttp2Session) => {
    if (session.destroyed || probing.has(session)) return
    probing.add(session)
    let timer: NodeJS.Timeout | undefined
    const onFailure = { recover: () => end(session) }
    const onAnswer = (error: Error | null) => {
      clearTimeout(timer)
      // the callback is also called when the session has ended, and its last frames may still be in flight
      if (session.destroyed) return
      if (error === null) timer = setTimeout(ask, probeTimeout)
      else end(session)
    }
    const onSettings = guard("SETTINGS callback", onAnswer, onFailure)
    const onTimeout = guard("SETTINGS timeout", () => end(session))
    const ask = guard(
      "SETTINGS timer",
      () => {
        if (session.destroyed) return
        timer = setTimeout(onTimeout, probeTimeout)
        session.settings({}, onSettings)
      },
      onFailure
    )
    session.once("close", () => clearTimeout(timer))
    ask()
  }

  return { goAway, probe, endSoon, end }
}
