/**
 * A scenario: something that an operator fears, done to the shop while readers request pages.
 */
import { Console, Context, Effect, Exit, type FileSystem, Layer, Schema, type Scope } from "effect"

import type { KubectlError, Kubectl, NotReached } from "./Kubectl.ts"
import * as PageLoad from "./PageLoad.ts"
import * as PodWatch from "./PodWatch.ts"
import type { Shop } from "./Shop.ts"

/** The cluster or the manifests lack what a scenario needs. */
export class NotDone extends Schema.TaggedError<NotDone>()("NotDone", { reason: Schema.String }) {
  override get message(): string {
    return this.reason
  }
}

/** A part of a scenario with its own load. */
export interface Part extends PageLoad.Figures, PodWatch.Counts {
  readonly title: string
  /** The share of pages that may fail. */
  readonly allowedLoss: number
  /** Whether pages may be refused with 503. */
  readonly mayRefuse?: boolean
}

/** Collects what a scenario finds. */
export class Findings extends Context.Service<
  Findings,
  {
    readonly parts: Array<Part>
    /** What was not as it should be, besides lost pages. */
    readonly problems: Array<string>
  }
>()("onlinebooks/test/cluster/Findings") {
  static readonly layer = Layer.sync(Findings, () => ({ parts: [], problems: [] }))
}

export type Requirements = FileSystem.FileSystem | Findings | Kubectl | PodWatch.PodWatch | Scope.Scope | Shop

export interface Scenario {
  readonly name: string
  /** What is done, for a line of output. */
  readonly description: string
  /** Whether others on the cluster notice it. */
  readonly isDisruptive?: boolean
  readonly run: Effect.Effect<void, KubectlError | NotDone | NotReached, Requirements>
}

/** Pages a second. */
export const rate = 100

/** The share of pages that may fail. */
const allowedLoss = 0

export const readers: PageLoad.Options = { rate, fresh: 0.5 }

export const addProblem = (problem: string) =>
  Effect.flatMap(Findings, ({ problems }) => Effect.sync(() => problems.push(problem)))

export const check = (isAsExpected: boolean, problem: string) => (isAsExpected ? Effect.void : addProblem(problem))

/** The pages that failed. */
export const lost = ({ failed, mayRefuse, refused }: Part): number =>
  Object.values(failed).reduce((sum, count) => sum + count, mayRefuse === true ? 0 : refused)

/** Whether more pages were lost than may be. */
export const isOverLimit = (part: Part): boolean => part.pages === 0 || lost(part) > part.pages * part.allowedLoss

/** Does something while readers request pages, from a second before it begins to two seconds after it has ended. */
export const underLoad = Effect.fnUntraced(function* <A, E, R>(
  title: string,
  perform: Effect.Effect<A, E, R>,
  options: { readonly allowedLoss?: number; readonly load?: PageLoad.Options } = {}
) {
  const { parts } = yield* Findings
  const watch = yield* PodWatch.PodWatch
  const before = yield* watch.counts
  const load = yield* PageLoad.start(options.load ?? readers)
  yield* load.answered(rate)
  // the figures are recorded even if it fails
  const exit = yield* Effect.exit(perform)
  if (Exit.hasInterrupts(exit)) return yield* exit
  yield* load.answered(2 * rate)
  const figures = yield* load.finish
  const counts = PodWatch.difference(before, yield* watch.counts)
  const part: Part = { title, allowedLoss: options.allowedLoss ?? allowedLoss, ...figures, ...counts }
  parts.push(part)
  yield* Console.log(`  ${format(part)}`)
  return yield* exit
}, Effect.scoped)

export const percent = (share: number) => `${100 * share} %`

export const format = (part: Part): string => {
  const failures = Object.entries(part.failed).map(([reason, count]) => `${count} x ${reason}`)
  const refused = part.refused === 0 ? [] : [`${part.refused} refused with 503 (p99 ${part.refusedP99} ms)`]
  const exits = Object.entries(part.exits).map(([code, count]) => `${count} x ${code}`)
  return [
    `${part.title}: ${part.pages} pages`,
    `${lost(part)} failed (at most ${percent(part.allowedLoss)})`,
    ...failures,
    ...refused,
    `p50 ${part.p50} ms, p99 ${part.p99} ms, slowest ${part.max} ms`,
    `${part.restarts} restarts`,
    ...(exits.length === 0 ? [] : [`exit codes: ${exits.join(", ")}`])
  ].join("; ")
}
