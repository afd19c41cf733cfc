import { it } from "@effect/vitest"

import * as Leaks from "./Leaks.ts"

it.live("1,000,000 calls, of which a third are cancelled and a tenth exceed their deadline, leak nothing", () =>
  Leaks.leavesNothing(1_000_000)
)
