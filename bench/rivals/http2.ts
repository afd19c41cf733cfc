/**
 * The lower bound: node:http2 answers every call with the same bytes, without gRPC.
 */
import { createServer, type ServerHttp2Stream } from "node:http2"
import type { AddressInfo } from "node:net"

/** The gRPC frame of the answer, in base64. */
const answer = Buffer.from(process.env["ANSWER"] ?? "", "base64")

const server = createServer()
server.on("stream", (stream: ServerHttp2Stream) => {
  stream.resume()
  stream.on("end", () => {
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true })
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "grpc-message": "OK" }))
    stream.end(answer)
  })
})
server.listen(Number(process.env["PORT"] ?? 0), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${(server.address() as AddressInfo).port}`)
})
