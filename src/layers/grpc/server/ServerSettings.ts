/**
 * The settings of a gRPC server, from the environment.
 */
import { Config, Option } from "effect"

import * as Setting from "../../config/Setting.ts"
import { defaultLimits, type Options } from "../GrpcServer.ts"

/** The least that `maxBytesInFlight` may be: room for a few calls, in bytes. */
const minBytesInFlight = 1024 * 1024

/**
 * The settings under a prefix: `<prefix>_GRPC_HOST` (every address), `<prefix>_GRPC_PORT` (50051), and the limits, each by its
 * name, such as `<prefix>_MAX_CONCURRENCY`.
 */
export const settings = (prefix: string): Config.Config<Options> =>
  Config.all({
    host: Setting.host(`${prefix}_GRPC_HOST`).pipe(Config.map(Option.getOrUndefined)),
    port: Setting.port(`${prefix}_GRPC_PORT`, 50051),
    variables: Config.succeed({ host: `${prefix}_GRPC_HOST`, port: `${prefix}_GRPC_PORT` }),
    limits: limits(prefix)
  })

const limits = (prefix: string) =>
  Config.all({
    maxConcurrency: Setting.count(`${prefix}_MAX_CONCURRENCY`, defaultLimits.maxConcurrency, 1),
    maxQueue: Setting.count(`${prefix}_MAX_QUEUE`, defaultLimits.maxQueue),
    maxQueueWait: Setting.duration(`${prefix}_MAX_QUEUE_WAIT`, defaultLimits.maxQueueWait, { maximum: "1 hour" }),
    maxRequestSize: Setting.count(`${prefix}_MAX_REQUEST_SIZE`, defaultLimits.maxRequestSize, 1),
    maxResponseSize: Setting.count(`${prefix}_MAX_RESPONSE_SIZE`, defaultLimits.maxResponseSize, 1),
    maxBytesInFlight: Setting.count(`${prefix}_MAX_BYTES_IN_FLIGHT`, defaultLimits.maxBytesInFlight, minBytesInFlight),
    maxExemptCalls: Setting.count(`${prefix}_MAX_EXEMPT_CALLS`, defaultLimits.maxExemptCalls, 1),
    maxHeaderSize: Setting.count(`${prefix}_MAX_HEADER_SIZE`, defaultLimits.maxHeaderSize, 1024),
    maxConcurrentStreams: Setting.count(`${prefix}_MAX_CONCURRENT_STREAMS`, defaultLimits.maxConcurrentStreams, 1),
    maxConnections: Setting.count(`${prefix}_MAX_CONNECTIONS`, defaultLimits.maxConnections, 1),
    maxConnectionsPerAddress: Setting.count(
      `${prefix}_MAX_CONNECTIONS_PER_ADDRESS`,
      defaultLimits.maxConnectionsPerAddress,
      1
    ),
    maxConnectionAge: Setting.duration(`${prefix}_MAX_CONNECTION_AGE`, defaultLimits.maxConnectionAge, {
      minimum: "1 second",
      // up to a tenth is added to it, and Node's timers wait 24.8 days at the most
      maximum: "20 days"
    }),
    keepaliveTime: Setting.duration(`${prefix}_KEEPALIVE_TIME`, defaultLimits.keepaliveTime, { minimum: "1 second" }),
    keepaliveTimeout: Setting.duration(`${prefix}_KEEPALIVE_TIMEOUT`, defaultLimits.keepaliveTimeout, {
      minimum: "100 millis"
    })
  })
