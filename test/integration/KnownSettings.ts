/**
 * The names of the settings that a service reads, to compare with what a manifest or a compose file sets.
 */
import { Effect } from "effect"

import { settingsOf } from "../../scripts/settings.ts"
import type { Service } from "./Installation.ts"

/** The variables that Node itself reads. */
export const nodeSettings: ReadonlySet<string> = new Set(["NODE_ENV", "NODE_OPTIONS", "NODE_COMPILE_CACHE"])

/** The names of the variables that a service reads. Certificates are validated, so it needs the real clock. */
export const knownSettings = (service: Service): Effect.Effect<ReadonlySet<string>> =>
  Effect.map(settingsOf(service), (settings) => new Set(settings.map(({ variable }) => variable)))
