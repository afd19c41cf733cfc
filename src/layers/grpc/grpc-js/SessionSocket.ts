/**
 * Replaces `session.socket`, which is a Proxy around the socket, by the socket itself.
 *
 * Why: grpc-js reads four addresses of the session's socket for each call, and each goes through the Proxy.
 */
import type { ServerHttp2Session } from "node:http2"
import type { Socket } from "node:net"

/** Makes `session.socket` return the raw socket. */
export const set = (session: ServerHttp2Session, socket: Socket): void => {
  Object.defineProperty(session, "socket", { value: socket })
}
