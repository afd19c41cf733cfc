/**
 * What the clients and servers of gRPC's interoperability tests agree on, besides the services of interop.proto:
 * https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
 */
export { TestService, UnimplementedService } from "../../src/layers/testing/generated/services.ts"

export const file = "interop.proto"

/** A server sends these back: the first as initial metadata, the second as trailing metadata. */
export const initialKey = "x-grpc-test-echo-initial"
export const trailingKey = "x-grpc-test-echo-trailing-bin"

/** A payload of zeros. */
export const payloadOf = (size: number) => ({ type: 0 as const, body: Buffer.alloc(size) })

/** Bytes of the payloads of large_unary. */
export const large = { request: 271_828, response: 314_159 } as const

/** White space at both ends and within, characters of Unicode's basic plane and beyond it. */
export const specialMessage = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"

/** Messages that are percent-encoded on the wire, or look as if they were. */
export const percentMessages = ["100 %", "%3A is a colon", "a%20b+c", "%", "é, 源氏, 😈", "x: y, z/ä?=&;#"]

/** Bytes of the payloads of the cases with streams. */
export const streamed = {
  requests: [27_182, 8, 1_828, 45_904],
  responses: [31_415, 9, 2_653, 58_979]
} as const

/** How long a case may take. The largest takes seconds; it may run on a machine that is busy. */
export const timeLimit = "50 seconds"

/** Calls at the same time on one channel. */
export const concurrency = 200

/** Calls one after the other: on one channel, and each on a channel of its own. */
export const iterations = { rpcSoak: 100, channelSoak: 20 } as const
