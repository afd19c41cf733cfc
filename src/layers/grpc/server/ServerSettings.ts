/**
 * The settings of a gRPC server, from the environment.
 */
import { Config, Option } from "effect"

import * as Setting from "../../config/Setting.ts"
import { defaultLimits, type Options } from "../GrpcServer.ts"

/** Minimum of `maxBytesInFlight`, in bytes: enough for a few calls. */
const minBytesInFlight = 1024 * 1024

/** The address and the limits from the variables under a prefix, such as `<prefix>_GRPC_PORT`. */
export const settings = (prefix: string): Config.Config<Options> =>
  Config.all({
    host: Setting.host(`${prefix}_GRPC_HOST`, {
      description: "The address to listen on.",
      unset: "every address; 127.0.0.1 under `npm start`"
    }).pipe(Config.map(Option.getOrUndefined)),
    port: Setting.port(`${prefix}_GRPC_PORT`, {
      description: "The port to listen on; 0 selects a free port, which is logged.",
      default: 50051
    }),
    variables: Config.succeed({ host: `${prefix}_GRPC_HOST`, port: `${prefix}_GRPC_PORT` }),
    limits: limits(prefix)
  })

const limits = (prefix: string) =>
  Config.all({
    maxConcurrency: Setting.count(`${prefix}_MAX_CONCURRENCY`, {
      description:
        "Calls that run at the same time. A call runs from its complete request to its response. One client, identified by its " +
        "certificate and address, gets at most seven eighths of them.",
      default: defaultLimits.maxConcurrency,
      minimum: 1
    }),
    maxQueue: Setting.count(`${prefix}_MAX_QUEUE`, {
      description:
        "Calls that wait for a slot, served round robin over their clients. A call that finds the queue full is answered " +
        "RESOURCE_EXHAUSTED.",
      default: defaultLimits.maxQueue
    }),
    maxQueueWait: Setting.duration(`${prefix}_MAX_QUEUE_WAIT`, {
      description: "How long a call waits for a slot before it is answered RESOURCE_EXHAUSTED.",
      default: defaultLimits.maxQueueWait,
      maximum: "1 hour"
    }),
    maxRequestSize: Setting.count(`${prefix}_MAX_REQUEST_SIZE`, {
      description: "The largest request message, decompressed.",
      unit: "bytes",
      default: defaultLimits.maxRequestSize,
      minimum: 1
    }),
    maxResponseSize: Setting.count(`${prefix}_MAX_RESPONSE_SIZE`, {
      description: "The largest response message.",
      unit: "bytes",
      default: defaultLimits.maxResponseSize,
      minimum: 1
    }),
    maxBytesInFlight: Setting.count(`${prefix}_MAX_BYTES_IN_FLIGHT`, {
      description:
        "Memory of all calls together: requests, responses that clients have not read yet, and 16 KiB per call. Above it, the " +
        "client that holds most has a call evicted: the one that has waited for that client the longest.",
      unit: "bytes",
      default: defaultLimits.maxBytesInFlight,
      minimum: minBytesInFlight
    }),
    maxExemptCalls: Setting.count(`${prefix}_MAX_EXEMPT_CALLS`, {
      description:
        "Health checks, health watches and reflection calls at the same time. Above it, the oldest call of the client with most " +
        "of them is evicted.",
      default: defaultLimits.maxExemptCalls,
      minimum: 1
    }),
    maxHeaderSize: Setting.count(`${prefix}_MAX_HEADER_SIZE`, {
      description: "The headers of one call.",
      unit: "bytes",
      default: defaultLimits.maxHeaderSize,
      minimum: 1024
    }),
    maxConcurrentStreams: Setting.count(`${prefix}_MAX_CONCURRENT_STREAMS`, {
      description: "Open calls of one connection.",
      default: defaultLimits.maxConcurrentStreams,
      minimum: 1
    }),
    maxConnections: Setting.count(`${prefix}_MAX_CONNECTIONS`, {
      description:
        "Open connections, of which half may be in their TLS handshake. Above it, a connection of the address with most of them " +
        "is evicted: the one that has been idle the longest, or else the newest. An idle connection takes 20 KiB, with TLS 75 KiB.",
      default: defaultLimits.maxConnections,
      minimum: 1
    }),
    maxConnectionsPerAddress: Setting.count(`${prefix}_MAX_CONNECTIONS_PER_ADDRESS`, {
      description: "Open connections of one client address; an IPv6 /64 counts as one address.",
      default: defaultLimits.maxConnectionsPerAddress,
      minimum: 1
    }),
    maxConnectionAge: Setting.duration(`${prefix}_MAX_CONNECTION_AGE`, {
      description: "The age at which a connection gets GOAWAY, so that its client reconnects and finds new replicas.",
      default: defaultLimits.maxConnectionAge,
      minimum: "1 second",
      // up to a tenth is added to it
      maximum: "20 days"
    }),
    keepaliveTime: Setting.duration(`${prefix}_KEEPALIVE_TIME`, {
      description: "Interval of keepalive pings on an idle connection.",
      default: defaultLimits.keepaliveTime,
      minimum: "1 second"
    }),
    keepaliveTimeout: Setting.duration(`${prefix}_KEEPALIVE_TIMEOUT`, {
      description: "How long a client may take to answer a ping before its connection is closed.",
      default: defaultLimits.keepaliveTimeout,
      minimum: "100 millis"
    })
  })
