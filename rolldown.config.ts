/**
 * Each service as one file that plain Node runs beside proto/ and data/, without node_modules.
 */
import { MagicString } from "magic-string"
import { defineConfig, type Plugin, type RolldownOptions } from "rolldown"
import { parse, Visitor } from "rolldown/utils"

/**
 * Node's own HTTP without all that it offers: an import of it asks for each of its exports, and some of them load a whole client,
 * which takes a tenth of the start. Asked for in this way they are loaded by who uses them, which nobody does.
 */
const lazyHttp: Plugin = {
  name: "lazy-http",
  resolveId: (id) => (/^(?:node:)?http$/.test(id) ? { id: "\0lazy-http.cjs" } : undefined),
  load: (id) => (id === "\0lazy-http.cjs" ? 'module.exports = process.getBuiltinModule("node:http")' : undefined)
}

/**
 * Functions in parentheses, which V8 compiles with their file (https://v8.dev/blog/preparser#pife). The others it goes over then, and
 * compiles one by one when they are called; they are not in Node's compile cache. It takes a tenth off the start.
 */
const eagerFunctions: Plugin = {
  name: "eager-functions",
  renderChunk: async (code) => {
    const text = new MagicString(code)
    const methods = new WeakSet<object>()
    const wrap = (node: { readonly start: number; readonly end: number }) => {
      if (!methods.has(node)) text.appendLeft(node.start, "(").prependRight(node.end, ")")
    }
    new Visitor({
      MethodDefinition: ({ value }) => void methods.add(value),
      Property: ({ kind, method, value }) => {
        if (method || kind !== "init") methods.add(value)
      },
      ArrowFunctionExpression: wrap,
      FunctionExpression: wrap
    }).visit((await parse("chunk.js", code)).program)
    return { code: text.toString(), map: text.generateMap({ hires: "boundary" }) }
  }
}

const bundle = (service: string): RolldownOptions => ({
  input: { [service]: `src/${service}/main.ts` },
  platform: "node",
  plugins: [lazyHttp, eagerFunctions],
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
