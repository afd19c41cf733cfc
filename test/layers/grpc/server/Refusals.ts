import { Effect, Metric } from "effect"

/** The number of connections that servers have refused, by reason, without those that are 0. */
export const counts = Effect.map(Metric.snapshot, (snapshots): Readonly<Record<string, number>> =>
  Object.fromEntries(
    snapshots.flatMap(({ attributes, id, state }) =>
      id === "grpc_server_connections_refused_total" && "count" in state && Number(state.count) > 0
        ? [[String(attributes?.["reason"]), Number(state.count)]]
        : []
    )
  )
)
