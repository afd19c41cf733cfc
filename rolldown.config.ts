/**
 * Each service as one file that plain Node runs beside proto/ and data/, without node_modules.
 */
import { defineConfig, type Plugin, type RolldownOptions } from "rolldown"

/**
 * Node's own HTTP without all that it offers: an import of it asks for each of its exports, and some of them load a whole client,
 * which takes a tenth of the start. Asked for in this way they are loaded by who uses them, which nobody does.
 */
const lazyHttp: Plugin = {
  name: "lazy-http",
  resolveId: (id) => (/^(?:node:)?http$/.test(id) ? { id: "\0lazy-http.cjs" } : undefined),
  load: (id) => (id === "\0lazy-http.cjs" ? 'module.exports = process.getBuiltinModule("node:http")' : undefined)
}

const bundle = (service: string): RolldownOptions => ({
  input: { [service]: `src/${service}/main.ts` },
  platform: "node",
  plugins: [lazyHttp],
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
