/**
 * Cases that some servers cannot take part in, and faults that are known.
 */

export type Server = "this library" | "grpc-js" | "Python's grpcio"

const noResponseCompression = "grpc-js, which this library serves with, does not compress responses"
const noRequestFlag = "a handler does not learn whether a request was compressed"

interface Exceptions {
  readonly [name: string]: { readonly [S in Server]?: string }
}

const notDone: Exceptions = {
  client_compressed_unary: { "grpc-js": noRequestFlag, "Python's grpcio": noRequestFlag },
  client_compressed_streaming: { "grpc-js": noRequestFlag, "Python's grpcio": noRequestFlag },
  server_compressed_unary: { "this library": noResponseCompression, "grpc-js": noResponseCompression },
  server_compressed_streaming: { "this library": noResponseCompression, "grpc-js": noResponseCompression },
  long_timeouts: { "grpc-js": "grpc-js computes deadlines with 32 bits" }
}

const faults: Exceptions = {}

/** Why a case is not run against a server; undefined if it is. */
export const whyNotDone = (name: string, server: Server): string | undefined => notDone[name]?.[server]

/** What a case shows that is still to be mended: it has to fail. Undefined for all others. */
export const faultOf = (name: string, server: Server): string | undefined => faults[name]?.[server]

/** All cases that are named here. */
export const names: ReadonlyArray<string> = Object.keys({ ...notDone, ...faults })
