/**
 * Reads a heap snapshot, as Node writes it
 * (https://nodejs.org/docs/latest/api/v8.html#v8writeheapsnapshotfilenameoptions).
 */

interface Snapshot {
  readonly snapshot: {
    readonly meta: {
      readonly node_fields: ReadonlyArray<string>
      /** The type of each field; for the field `type`, the list of all node types. */
      readonly node_types: ReadonlyArray<string | ReadonlyArray<string>>
    }
  }
  /** The fields of all nodes, one node after the other. */
  readonly nodes: ReadonlyArray<number>
}

/**
 * Node types that belong to V8: compiled code, object shapes, and feedback. They grow for minutes while functions are optimized.
 */
const ofTheEngine: ReadonlySet<string> = new Set(["code", "hidden", "object shape", "synthetic"])

/** The bytes of the program's own objects, which is what it can leak. */
export const objectBytes = (json: string): number => {
  const { nodes, snapshot } = JSON.parse(json) as Snapshot
  const { node_fields: fields, node_types } = snapshot.meta
  const type = fields.indexOf("type")
  const types = node_types[type]!
  const size = fields.indexOf("self_size")
  let bytes = 0
  for (let at = 0; at < nodes.length; at += fields.length) {
    if (!ofTheEngine.has(types[nodes[at + type]!]!)) bytes += nodes[at + size]!
  }
  return bytes
}
