/**
 * What is in a heap snapshot, as Node writes it
 * (https://nodejs.org/docs/latest/api/v8.html#v8writeheapsnapshotfilenameoptions).
 */

interface Snapshot {
  readonly snapshot: {
    readonly meta: {
      readonly node_fields: ReadonlyArray<string>
      /** What each field is: of that with the type of a node, all types that there are. */
      readonly node_types: ReadonlyArray<string | ReadonlyArray<string>>
    }
  }
  /** All nodes one after the other, as many numbers each as it has fields. */
  readonly nodes: ReadonlyArray<number>
}

/**
 * What is V8's own: the code that it has compiled, the shapes of objects, and what it notes of both. It becomes more for many minutes,
 * with each function that is called often enough at last to be compiled again.
 */
const ofTheEngine: ReadonlySet<string> = new Set(["code", "hidden", "object shape", "synthetic"])

/** How many bytes the program's own objects have: what it could leave behind. */
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
