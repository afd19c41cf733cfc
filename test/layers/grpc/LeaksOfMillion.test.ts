import { it } from "@effect/vitest"

import * as Leaks from "./Leaks.ts"

it.live("1,000,000 calls, a third cancelled and a tenth out of time, leave nothing behind", () =>
  Leaks.leavesNothing(1_000_000)
)
