import { it } from "@effect/vitest"

import * as Leaks from "./Leaks.ts"

it.live(
  "20,000 calls, a third cancelled and a tenth past their deadline, leak nothing",
  () => Leaks.leavesNothing(20_000),
  180_000
)
