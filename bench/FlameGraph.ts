/**
 * Draws a V8 CPU profile as a flame graph (https://www.brendangregg.com/flamegraphs.html).
 */

/** The fields used here of https://chromedevtools.github.io/devtools-protocol/tot/Profiler/#type-Profile */
export interface Profile {
  readonly nodes: ReadonlyArray<{
    readonly id: number
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
    readonly children?: ReadonlyArray<number>
  }>
  /** The node of each sample. */
  readonly samples: ReadonlyArray<number>
  /** The time before each sample, in microseconds. */
  readonly timeDeltas: ReadonlyArray<number>
}

interface Frame {
  readonly name: string
  readonly where: string
  /** Self time, in microseconds. */
  self: number
  total: number
  readonly children: Map<string, Frame>
}

/** Idle time is not drawn. */
const idle = new Set(["(idle)", "(program)"])

/** The tree of calls, with calls of a function from the same caller merged. */
const merge = ({ nodes, samples, timeDeltas }: Profile): Frame => {
  const selves = new Map<number, number>()
  samples.forEach((id, at) => selves.set(id, (selves.get(id) ?? 0) + timeDeltas[at]!))
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const root: Frame = { name: "all", where: "", self: 0, total: 0, children: new Map() }
  const add = (id: number, parent: Frame): number => {
    const { callFrame, children = [] } = byId.get(id)!
    if (idle.has(callFrame.functionName)) return 0
    const name = callFrame.functionName || "(anonymous)"
    const where = `${callFrame.url.split("/").slice(-3).join("/")}:${callFrame.lineNumber + 1}`
    let frame = parent
    if (callFrame.functionName !== "(root)") {
      const key = `${name} ${where}`
      frame = parent.children.get(key) ?? { name, where, self: 0, total: 0, children: new Map() }
      parent.children.set(key, frame)
    }
    const own = selves.get(id) ?? 0
    const total = own + children.reduce((sum, child) => sum + add(child, frame), 0)
    if (frame !== parent) {
      frame.self += own
      frame.total += total
    }
    return total
  }
  root.total = add(nodes[0]!.id, root)
  return root
}

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")

const width = 1600
const rowHeight = 16

/** The flame graph as SVG, with tooltips. */
export const toSvg = (profile: Profile): string => {
  const root = merge(profile)
  const boxes: Array<string> = []
  let depth = 0
  const draw = (frame: Frame, x: number, level: number) => {
    const size = (frame.total / root.total) * width
    if (size < 0.5) return
    depth = Math.max(depth, level)
    const percent = ((frame.total / root.total) * 100).toFixed(1)
    const own = ((frame.self / root.total) * 100).toFixed(1)
    const hue = frame.where.startsWith("node:") ? 210 : frame.name.startsWith("(") ? 0 : 40
    const label = size > 30 ? escape(frame.name.slice(0, Math.floor(size / 6.5))) : ""
    boxes.push(
      `<g transform="translate(${x.toFixed(1)} ${-level * rowHeight})"><title>${escape(frame.name)} ${escape(frame.where)}\n${percent} %, itself ${own} %</title>` +
        `<rect width="${(size - 0.3).toFixed(1)}" height="${rowHeight - 1}" fill="hsl(${hue} 80% ${70 - (level % 3) * 5}%)"/><text x="2" y="11">${label}</text></g>`
    )
    let next = x
    for (const child of [...frame.children.values()].toSorted((a, b) => b.total - a.total)) {
      draw(child, next, level + 1)
      next += (child.total / root.total) * width
    }
  }
  draw(root, 0, 0)
  const height = (depth + 1) * rowHeight
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 ${rowHeight - height} ${width} ${height}" width="${width}" height="${height}" font-family="monospace" font-size="10">${boxes.join("\n")}</svg>\n`
}

/** The functions with the most self time, each with its share of the total. */
export const hottest = (
  profile: Profile,
  count: number
): ReadonlyArray<{ readonly name: string; readonly part: number }> => {
  const root = merge(profile)
  const selves = new Map<string, number>()
  const visit = (frame: Frame) => {
    const name = `${frame.name} ${frame.where}`
    selves.set(name, (selves.get(name) ?? 0) + frame.self)
    frame.children.forEach(visit)
  }
  visit(root)
  return Array.from(selves, ([name, self]) => ({ name, part: self / root.total }))
    .toSorted((a, b) => b.part - a.part)
    .slice(0, count)
}
