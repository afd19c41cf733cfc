/**
 * The constants that the clients and servers of gRPC's interoperability tests share, besides the services of interop.proto:
 * https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
 */
export { TestService, UnimplementedService } from "../../src/layers/testing/generated/services.ts"

export const file = "interop.proto"

/** The keys of the metadata that a server echoes: the first in headers, the second in trailers. */
export const initialKey = "x-grpc-test-echo-initial"
export const trailingKey = "x-grpc-test-echo-trailing-bin"

/** A payload of zeros. */
export const payloadOf = (size: number) => ({ type: 0 as const, body: Buffer.alloc(size) })

/** The payload sizes of large_unary, in bytes. */
export const large = { request: 271_828, response: 314_159 } as const

/** A status message with leading, trailing and inner white space, and characters inside and outside of Unicode's basic plane. */
export const specialMessage = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"

/** Status messages that are percent-encoded on the wire, or look like it. */
export const percentMessages = ["100 %", "%3A is a colon", "a%20b+c", "%", "é, 源氏, 😈", "x: y, z/ä?=&;#"]

/** The payload sizes of the streaming cases, in bytes. */
export const streamed = {
  requests: [27_182, 8, 1_828, 45_904],
  responses: [31_415, 9, 2_653, 58_979]
} as const

/** The timeout of a case, with a margin for a busy machine. */
export const timeLimit = "50 seconds"

/** The number of concurrent calls on one channel. */
export const concurrency = 200

/** The number of sequential calls: on one channel, and each on its own channel. */
export const iterations = { rpcSoak: 100, channelSoak: 20 } as const

export const transports = ["plaintext", "TLS"] as const
export type Transport = (typeof transports)[number]
