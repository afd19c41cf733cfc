/**
 * The manifests of a folder as `kubectl kustomize` renders them: what `kubectl apply -k` would give to a cluster.
 */
import { Effect, Schema } from "effect"
import { ChildProcess } from "effect/process"
import { parseAllDocuments } from "yaml"

import * as Output from "../integration/Output.ts"

/** A folder that cannot be rendered, or no `kubectl` to do it. */
export class KustomizeError extends Schema.TaggedError<KustomizeError>()("KustomizeError", {
  folder: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `kubectl kustomize ${this.folder}: ${this.reason}`
  }
}

/** What every object of Kubernetes has, beside what its kind has. */
export interface Resource {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: { readonly [label: string]: string }
    readonly annotations?: { readonly [annotation: string]: string }
  }
}

/** The objects of a folder that has a kustomization, in the order in which they would be applied. */
export const render = Effect.fnUntraced(function* (folder: string) {
  const kubectl = ChildProcess.make("kubectl", ["kustomize", folder], { stdin: "ignore" })
  const { exitCode, stderr, stdout } = yield* Effect.mapError(
    Output.runApart(kubectl),
    ({ message }) =>
      new KustomizeError({
        folder,
        reason: `kubectl does not start (https://kubernetes.io/docs/tasks/tools has it): ${message}`
      })
  )
  if (exitCode !== 0) return yield* new KustomizeError({ folder, reason: stderr.trim() })
  const documents = parseAllDocuments(stdout)
  return documents.map((document) => document.toJS() as Resource)
})
