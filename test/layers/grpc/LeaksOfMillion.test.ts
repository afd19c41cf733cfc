import { it } from "@effect/vitest"

import * as Leaks from "./Leaks.ts"

it.live("1,000,000 calls, a third cancelled and a tenth past their deadline, leak nothing", () =>
  Leaks.leavesNothing(1_000_000)
)
