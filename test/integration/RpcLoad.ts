/**
 * Load on Recommendations from plain grpc-js clients, with gRPC's own retries (A6) and load balancing (A24) enabled by a service
 * config.
 */
import { fileURLToPath } from "node:url"

import {
  type ChannelCredentials,
  type ChannelOptions,
  type Client,
  type GrpcObject,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceError,
  status
} from "@grpc/grpc-js"
import { load } from "@grpc/proto-loader"
import { Effect } from "effect"

import type { RecommendationsClient } from "../../src/generated/first/Recommendations.ts"
import type { RecommendationsServiceClient } from "../../src/generated/v1/onlinebooks/recommendations/v1/RecommendationsService.ts"
import * as Load from "./Load.ts"

export interface Options {
  /** Calls a second. */
  readonly rate: number
  readonly target: string
  readonly credentials: ChannelCredentials
  readonly channelOptions?: ChannelOptions | undefined
  /** How long a client caches DNS answers, in milliseconds. */
  readonly dnsWindow: number
}

/** The timeout of a call with all its attempts, in milliseconds. */
const timeout = 5_000

/** Each client has its own connections, like a client in another process. */
const channelOptions = (service: string, options: Options): ChannelOptions => ({
  "grpc.use_local_subchannel_pool": 1,
  "grpc.dns_min_time_between_resolutions_ms": options.dnsWindow,
  "grpc.service_config_disable_resolution": 1,
  "grpc.service_config": JSON.stringify({
    loadBalancingConfig: [{ round_robin: {} }],
    methodConfig: [
      {
        name: [{ service }],
        retryPolicy: {
          maxAttempts: 4,
          initialBackoff: "0.1s",
          maxBackoff: "1s",
          backoffMultiplier: 2,
          retryableStatusCodes: ["UNAVAILABLE"]
        }
      }
    ]
  }),
  ...options.channelOptions
})

const client = Effect.fnUntraced(function* (file: string, service: string, options: Options) {
  // grpc-js reads it when it is loaded; without it the DNS server in the target is not used
  if (process.env["GRPC_NODE_USE_ALTERNATIVE_RESOLVER"] !== "true") {
    return yield* Effect.die(
      new Error("GRPC_NODE_USE_ALTERNATIVE_RESOLVER=true has to be set: run the project `fleet`")
    )
  }
  const root = fileURLToPath(new URL("../../proto", import.meta.url))
  const definition = yield* Effect.promise(() =>
    load(file, { defaults: true, includeDirs: [root], longs: String, enums: Number })
  )
  const found = service
    .split(".")
    .reduce<unknown>((object, name) => (object as GrpcObject)[name], loadPackageDefinition(definition))
  return yield* Effect.acquireRelease(
    Effect.sync(
      (): Client =>
        new (found as ServiceClientConstructor)(options.target, options.credentials, channelOptions(service, options))
    ),
    (client) => Effect.sync(() => client.close())
  )
})

/** The result of a call, from its error or the titles of its books. */
const judge = (error: ServiceError | null, titles: ReadonlyArray<string>): Load.Outcome => {
  // without the durations of its steps, which differ for each failure
  if (error !== null) {
    const details = error.details.replace(/ after [\d.]+s\b.*?(?=remote_addr|$)/, " ")
    return { failure: `${status[error.code]}: ${details.trim()}` }
  }
  const replica = /Book \d+ of (127\.[\d.]+)/.exec(titles[0] ?? "")?.[1]
  return titles.length < 3 ? { failure: `${titles.length} books`, replica } : { replica }
}

/** Calls Recommend of the first API. */
export const first = Effect.fnUntraced(function* (options: Options) {
  const api = (yield* client("recommendations.proto", "Recommendations", options)) as RecommendationsClient
  return yield* Load.start(options.rate, (done) => {
    api.Recommend({ category: 0, maxResults: 3 }, { deadline: Date.now() + timeout }, (error, response) =>
      done(judge(error, response?.recommendations.map(({ title }) => title) ?? []))
    )
  })
})

/** Calls Recommend of the v1 API. */
export const v1 = Effect.fnUntraced(function* (options: Options) {
  const api = (yield* client(
    "onlinebooks/recommendations/v1/recommendations.proto",
    "onlinebooks.recommendations.v1.RecommendationsService",
    options
  )) as RecommendationsServiceClient
  return yield* Load.start(options.rate, (done) => {
    api.Recommend({ category: 1, maxResults: 3 }, { deadline: Date.now() + timeout }, (error, response) =>
      done(judge(error, response?.books.map(({ title }) => title) ?? []))
    )
  })
})
