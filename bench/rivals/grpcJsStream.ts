/**
 * A stream of small messages on grpc-js with proto-loader, with back-pressure.
 */
import { once } from "node:events"

import * as grpc from "@grpc/grpc-js"
import * as protoLoader from "@grpc/proto-loader"

interface EchoRequest {
  readonly text: string
  readonly int32Value: number
}

interface EchoResponse {
  readonly text: string
  readonly number: number
}

const expand: grpc.handleServerStreamingCall<EchoRequest, EchoResponse> = (call) => {
  const write = async () => {
    const { int32Value, text } = call.request
    for (let number = 1; number <= int32Value; number++) {
      if (!call.write({ text, number })) await once(call, "drain")
    }
    call.end()
  }
  void write()
}

const definition = protoLoader.loadSync("echo.proto", {
  includeDirs: ["src/layers/testing"],
  defaults: true
})
const server = new grpc.Server()
const service = definition["onlinebooks.layers.testing.EchoService"] as grpc.ServiceDefinition
server.addService(service, { Expand: expand } as unknown as grpc.UntypedServiceImplementation)
server.bindAsync(`127.0.0.1:${process.env["PORT"] ?? 0}`, grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error
  console.log(`listening on 127.0.0.1:${port}`)
})
