/**
 * The setting MODEL_REFRESH.
 */
import { type Config, Duration } from "effect"

import * as Setting from "../../layers/config/Setting.ts"

export const refresh: Config.Config<Duration.Duration> = Setting.duration("MODEL_REFRESH", {
  description: "How often a replica looks for a newer catalogue; PostgreSQL's NOTIFY makes it sooner.",
  default: Duration.seconds(5),
  minimum: "100 millis"
})
