/**
 * Applies the patches of grpc-js in this folder, each once per process, if this version of grpc-js has every private member that the
 * patch relies on. A patch whose check fails is not applied: grpc-js then works without it, one warning names the member
 * and the version, and the gauge `grpc_js_patch_active` is 0 for that patch.
 *
 * A patch is a file of this folder. Its header says what it changes, why, which members it relies on, and what happens without it.
 */
import packageJson from "@grpc/grpc-js/package.json" with { type: "json" }
import { Effect, Metric } from "effect"

export interface Patch {
  /** The file of the patch: the label of the metric. */
  readonly name: string
  /** Returns the first private member that is missing or has another shape; undefined if there is none. May throw. */
  readonly findMismatch: () => string | undefined
  /** Called at most once. `onMismatch` reports a member that can only be checked later. */
  readonly apply: (onMismatch: (member: string) => void) => void
  /** Effect of the missing patch, for the warning. */
  readonly consequence: string
}

/** Whether a patch is applied, by the attribute `patch`. A gauge of 0 means that an upgrade of grpc-js changed a member that the patch relies on. */
const patchActive = Metric.gauge("grpc_js_patch_active", {
  description:
    "Whether a patch of grpc-js is applied: 1, or 0 if this version of grpc-js lacks a member that it relies on"
})

/** By name of the patch: undefined if it is applied, else the cause. */
const outcomes = new Map<string, string | undefined>()

let isDisabled = false

/** Applies a patch unless that has been tried before, and returns whether it is active. */
export const apply = Effect.fnUntraced(function* (patch: Patch): Effect.fn.Return<boolean> {
  if (!outcomes.has(patch.name)) {
    const mismatch = isDisabled ? "disabled" : mismatchOf(patch)
    outcomes.set(patch.name, mismatch)
    if (mismatch === undefined) {
      const runFork = Effect.runForkWith(yield* Effect.context<never>())
      patch.apply((member) => {
        if (outcomes.get(patch.name) !== undefined) return
        outcomes.set(patch.name, member)
        runFork(Effect.andThen(warn(patch, member), report(patch)))
      })
    } else if (!isDisabled) yield* warn(patch, mismatch)
  }
  yield* report(patch)
  return outcomes.get(patch.name) === undefined
})

const warn = ({ consequence, name }: Patch, member: string): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning(`Patch ${name} of grpc-js is off: ${consequence}`), {
    member,
    version: packageJson.version
  })

const report = ({ name }: Patch): Effect.Effect<void> =>
  Effect.suspend(() =>
    Metric.update(Metric.withAttributes(patchActive, { patch: name }), outcomes.get(name) === undefined ? 1 : 0)
  )

const mismatchOf = (patch: Patch): string | undefined => {
  try {
    return patch.findMismatch()
  } catch (error) {
    return `${patch.name} cannot be checked: ${String(error)}`
  }
}

/** The patches that were tried and are off, each with the cause. For tests. */
export const inactive = (): ReadonlyMap<string, string> =>
  new Map([...outcomes].flatMap(([name, mismatch]) => (mismatch === undefined ? [] : [[name, mismatch] as const])))

/** Disables every patch that has not been applied yet. For tests of the public API alone. */
export const disableAll = (): void => {
  isDisabled = true
}
