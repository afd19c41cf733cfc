/**
 * Cases that cannot run against some servers, and known faults.
 */

export type Server = "this library" | "grpc-js" | "Python's grpcio"

const noResponseCompression = "grpc-js, on which this library's server is built, does not compress responses"
const noRequestFlag = "handlers cannot see whether a request was compressed"

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

/** Why a case is skipped for a server. Undefined if it runs. */
export const whyNotDone = (name: string, server: Server): string | undefined => notDone[name]?.[server]

/** The known fault that makes a case fail against a server. Undefined if it has to pass. */
export const faultOf = (name: string, server: Server): string | undefined => faults[name]?.[server]

/** All cases with an entry here. */
export const names: ReadonlyArray<string> = Object.keys({ ...notDone, ...faults })
