/**
 * Forwards plaintext connections over mutual TLS, since h2load cannot present a client certificate. It prints its port; the
 * environment sets the target port and the certificate files.
 */
import { readFileSync } from "node:fs"
import { type AddressInfo, createServer } from "node:net"
import { connect } from "node:tls"

const { PORT = "", TLS_CA_FILE = "", TLS_CERT_FILE = "", TLS_KEY_FILE = "" } = process.env

const options = {
  host: "127.0.0.1",
  port: Number(PORT),
  servername: "localhost",
  ALPNProtocols: ["h2"],
  ca: readFileSync(TLS_CA_FILE),
  cert: readFileSync(TLS_CERT_FILE),
  key: readFileSync(TLS_KEY_FILE)
}

const server = createServer({ noDelay: true }, (plain) => {
  const secured = connect(options)
  secured.setNoDelay(true)
  plain.pipe(secured)
  secured.pipe(plain)
  plain.on("error", () => secured.destroy())
  secured.on("error", () => plain.destroy())
})
server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${(server.address() as AddressInfo).port}`))
