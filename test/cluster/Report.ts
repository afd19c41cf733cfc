/**
 * The results of a run, as Markdown tables and as JSON.
 */
import { Effect } from "effect"

import * as Kubectl from "./Kubectl.ts"
import { isOverLimit, lost, type Part, percent, rate } from "./Scenario.ts"

export interface Result {
  readonly scenario: string
  readonly parts: ReadonlyArray<Part>
  readonly problems: ReadonlyArray<string>
  /** Why the scenario was not done. */
  readonly notDone?: string
}

interface Node extends Kubectl.Resource {
  readonly status: { readonly nodeInfo: { readonly containerRuntimeVersion: string } }
}

/** The versions of the cluster, in a line. */
export const versions = Effect.gen(function* () {
  const json = yield* Kubectl.run(["version", "--output", "json"])
  const { serverVersion } = JSON.parse(json) as { readonly serverVersion: { readonly gitVersion: string } }
  const nodes = yield* Kubectl.list<Node>("nodes")
  const runtimes = new Set(nodes.map(({ status }) => status.nodeInfo.containerRuntimeVersion))
  return `Kubernetes ${serverVersion.gitVersion}, ${nodes.length} nodes, ${[...runtimes].join(", ")}`
})

export const hasFailed = ({ parts, problems }: Result): boolean => problems.length > 0 || parts.some(isOverLimit)

const rowsOf = ({ notDone, parts, problems, scenario }: Result): ReadonlyArray<ReadonlyArray<string | number>> => {
  if (notDone !== undefined) return [[scenario, `not done: ${notDone}`, "", "", "", "", "", "", "", ""]]
  const rows = parts.map((part) => {
    const codes = Object.entries(part.exits).map(([code, count]) => `${count} x ${code}`)
    const figures = [part.p50, part.p99, part.max, part.restarts, codes.join(", ")]
    return [scenario, part.title, part.pages, lost(part), percent(part.allowedLoss), ...figures]
  })
  const others = problems.length === 0 && parts.length === 0 ? ["as expected"] : problems
  return [...rows, ...others.map((text) => [scenario, text, "", "", "", "", "", "", "", ""])]
}

/** A table with a row for each part of each scenario. */
export const table = (results: ReadonlyArray<Result>): string =>
  [
    "| scenario | what was done | pages | failed | allowed | p50 ms | p99 ms | slowest ms | restarts | exit codes |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ...results
      .flatMap(rowsOf)
      .map((cells) => `| ${cells.map((cell) => String(cell).replaceAll(/[|\n]/g, " ")).join(" | ")} |`)
  ].join("\n")

export const summary = `${rate} pages a second, half of them on new connections; a page fails if it is not 200, has no three books, or takes over 3 s`
