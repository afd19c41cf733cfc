/**
 * Tries TCP connections from a pod: `node probe.mjs HOST:PORT...` prints a JSON object of whether each can be connected to.
 */
import { connect } from "node:net"

/** In milliseconds. Network policies drop packets, so a closed port does not answer. */
const timeout = 2_000

const canConnect = (target) =>
  new Promise((resolve) => {
    const [host, port] = target.split(":")
    const socket = connect({ host, port: Number(port), timeout })
    const end = (isOpen) => {
      socket.destroy()
      resolve([target, isOpen])
    }
    socket.on("connect", () => end(true))
    socket.on("timeout", () => end(false))
    socket.on("error", () => end(false))
  })

console.log(JSON.stringify(Object.fromEntries(await Promise.all(process.argv.slice(2).map(canConnect)))))
