/**
 * Each service as one file that plain Node runs beside proto/ and data/, without node_modules.
 */
import { defineConfig, type RolldownOptions } from "rolldown"

const bundle = (service: string): RolldownOptions => ({
  input: { [service]: `src/${service}/main.ts` },
  platform: "node",
  output: {
    dir: "dist",
    format: "esm",
    codeSplitting: false,
    sourcemap: true,
    // a stack has files and lines without them too, and they are six times the rest of the map
    sourcemapExcludeSources: true,
    comments: false
  },
  checks: { eval: false }
})

export default defineConfig([bundle("recommendations"), bundle("marketplace")])
