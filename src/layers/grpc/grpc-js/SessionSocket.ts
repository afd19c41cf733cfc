/**
 * Replaces `session.socket`, which Node computes as a Proxy around the socket, by the socket itself.
 *
 * Why: grpc-js reads four addresses of the session's socket for each call, and each goes through the Proxy.
 */
import type { ServerHttp2Session } from "node:http2"
import type { Socket } from "node:net"

/** Makes a session give its socket without a Proxy. */
export const set = (session: ServerHttp2Session, socket: Socket): void => {
  Object.defineProperty(session, "socket", { value: socket })
}
