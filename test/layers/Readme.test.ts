/**
 * The examples of src/layers/README.md, which say themselves what they should do.
 */
import { describe } from "@effect/vitest"

describe("the examples of the README", async () => {
  await import("./generated/Readme.ts")
})
