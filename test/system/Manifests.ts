/**
 * The manifests of k8s/: the overlays that can be installed, their rendered resources, and types for these.
 */
import { globSync, readFileSync } from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"

import type * as certManager from "@kubernetes-models/cert-manager/cert-manager.io/v1"
import type * as gatewayApi from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1"
import type * as prometheusOperator from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"
import { Context, Effect, FileSystem, Layer } from "effect"
import { ChildProcessSpawner } from "effect/process"
import type * as apps from "kubernetes-models/apps/v1"
import type * as autoscaling from "kubernetes-models/autoscaling/v2"
import type * as networking from "kubernetes-models/networking.k8s.io/v1"
import type * as policy from "kubernetes-models/policy/v1"
import type * as core from "kubernetes-models/v1"
import { parse, stringify } from "yaml"

import { type KustomizeError, render, type Resource } from "./Kustomize.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const k8s = path.join(root, "k8s")

/** A folder of k8s/ with a kustomization. */
interface Kustomization {
  /** Relative to k8s/. */
  readonly folder: string
  readonly kind: "Kustomization" | "Component"
  /** The folders that it includes. */
  readonly uses: ReadonlyArray<string>
}

/** The fields of a kustomization that the tests read. */
export interface KustomizationFile {
  readonly kind?: string
  readonly resources?: ReadonlyArray<string>
  readonly components?: ReadonlyArray<string>
  readonly images?: ReadonlyArray<{
    readonly name: string
    readonly newName?: string
    readonly newTag?: string
    readonly digest?: string
  }>
}

export const read = (file: string): string => readFileSync(path.join(root, file), "utf8")

/** All YAML files of k8s/, relative to it. */
export const files: ReadonlyArray<string> = globSync("**/*.{yaml,yml}", { cwd: k8s }).toSorted()

const kustomizations: ReadonlyArray<Kustomization> = files
  .filter((file) => path.basename(file) === "kustomization.yaml")
  .map((file) => {
    const folder = path.dirname(file)
    const { components = [], kind = "Kustomization", resources = [] } = parse(read(`k8s/${file}`)) as KustomizationFile
    const uses = [...resources, ...components].filter((used) => !/\.ya?ml$/.test(used))
    return {
      folder,
      kind: kind === "Component" ? kind : "Kustomization",
      uses: uses.map((to) => path.join(folder, to))
    }
  })

/** A folder and all folders that it includes, directly or indirectly. */
const withUsed = (folder: string): ReadonlyArray<string> => [
  folder,
  ...(kustomizations.find((one) => one.folder === folder)?.uses.flatMap(withUsed) ?? [])
]

/** The argument of one `kubectl apply -k`: a folder of k8s/, or an overlay that adds components to one. */
export interface Overlay {
  readonly name: string
  readonly folder: string
  readonly components: ReadonlyArray<string>
  /** All folders that it includes, directly or indirectly. */
  readonly uses: ReadonlySet<string>
}

const overlay = (folder: string, components: ReadonlyArray<string> = []): Overlay => ({
  name: [folder, ...components.map((component) => path.basename(component))].join(" + "),
  folder,
  components,
  uses: new Set([folder, ...components].flatMap(withUsed))
})

const isComponent = ({ kind }: Kustomization) => kind === "Component"

export const components: ReadonlyArray<string> = kustomizations.filter(isComponent).map(({ folder }) => folder)

/** Folders within another kustomization, which includes them. */
export const parts: ReadonlyArray<Overlay> = kustomizations
  .filter(({ folder }) => kustomizations.some((other) => folder.startsWith(`${other.folder}/`)))
  .map(({ folder }) => overlay(folder))

/** The folders that are complete installations. */
export const folders: ReadonlyArray<Overlay> = kustomizations
  .filter((one) => !isComponent(one) && !parts.some(({ folder }) => folder === one.folder))
  .map(({ folder }) => overlay(folder))

/**
 * The overlays under test: those folders, each component alone on the base and on the production overlay, and all components on every
 * folder.
 */
export const overlays: ReadonlyArray<Overlay> = [
  ...folders,
  ...["base", "overlays/production"].flatMap((folder) => components.map((component) => overlay(folder, [component]))),
  ...folders.map(({ folder, uses }) =>
    overlay(
      folder,
      components.filter((component) => !uses.has(component))
    )
  )
]

/** Changes to the texts of files, by their paths relative to k8s/. */
export type Changes = { readonly [file: string]: (text: string) => string }

/** Renders overlays. */
export class Manifests extends Context.Service<
  Manifests,
  {
    /** Renders an overlay. The result is cached. */
    readonly of: (overlay: Overlay) => Effect.Effect<ReadonlyArray<Resource>, KustomizeError>
    /** Renders an overlay after changes to files. */
    readonly changed: (overlay: Overlay, changes: Changes) => Effect.Effect<ReadonlyArray<Resource>, KustomizeError>
  }
>()("onlinebooks/test/Manifests") {
  static readonly layer = Layer.effect(
    Manifests,
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner

      const renderFolder = (folder: string) =>
        Effect.provideService(render(folder), ChildProcessSpawner.ChildProcessSpawner, spawner)

      /** Renders in a copy of k8s/, because an overlay must be beside the folders that it includes. */
      const renderCopy = Effect.fnUntraced(function* ({ components, folder }: Overlay, changes: Changes) {
        const copy = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-k8s-" })
        yield* fs.copy(k8s, copy, { overwrite: true })
        for (const [file, change] of Object.entries(changes)) {
          const from = path.join(copy, file)
          yield* fs.writeFileString(from, change(yield* fs.readFileString(from)))
        }
        const above = path.join(copy, "overlay-of-a-test")
        yield* fs.makeDirectory(above)
        yield* fs.writeFileString(
          path.join(above, "kustomization.yaml"),
          stringify({
            apiVersion: "kustomize.config.k8s.io/v1beta1",
            kind: "Kustomization",
            resources: [`../${folder}`],
            components: components.map((component) => `../${component}`)
          })
        )
        return yield* renderFolder(above)
      }, Effect.scoped)

      const changed = (overlay: Overlay, changes: Changes) =>
        Effect.catchTag(renderCopy(overlay, changes), "PlatformError", Effect.die)

      // without kubectl this fails once, and not for every test
      yield* renderFolder(path.join(k8s, "base"))
      const rendered = new Map(
        yield* Effect.forEach([...parts, ...overlays], (overlay) =>
          Effect.map(
            Effect.cached(
              overlay.components.length === 0 ? renderFolder(path.join(k8s, overlay.folder)) : changed(overlay, {})
            ),
            (resources) => [overlay.name, resources] as const
          )
        )
      )
      return Manifests.of({
        of: (overlay) => rendered.get(overlay.name) ?? changed(overlay, {}),
        changed
      })
    })
  )
}

/** The types of the kinds that the rules read. */
interface Kinds {
  readonly Certificate: certManager.ICertificate
  readonly ConfigMap: core.IConfigMap
  readonly Deployment: apps.IDeployment
  readonly Gateway: gatewayApi.IGateway
  readonly HTTPRoute: gatewayApi.IHTTPRoute
  readonly HorizontalPodAutoscaler: autoscaling.IHorizontalPodAutoscaler
  readonly Ingress: networking.IIngress
  readonly Issuer: certManager.IIssuer
  readonly Namespace: core.INamespace
  readonly NetworkPolicy: networking.INetworkPolicy
  readonly PodDisruptionBudget: policy.IPodDisruptionBudget
  readonly PodMonitor: prometheusOperator.IPodMonitor
  readonly PrometheusRule: prometheusOperator.IPrometheusRule
  readonly Secret: core.ISecret
  readonly Service: core.IService
  readonly ServiceAccount: core.IServiceAccount
  readonly StatefulSet: apps.IStatefulSet
}

/** A resource of a kind. KubernetesSchema checks that it matches its type. */
export type Of<Kind extends keyof Kinds> = Omit<Kinds[Kind], "metadata"> & Resource

export const ofKind = <Kind extends keyof Kinds>(
  resources: ReadonlyArray<Resource>,
  kind: Kind
): ReadonlyArray<Of<Kind>> => resources.filter((resource): resource is Of<Kind> => resource.kind === kind)

/** A resource that makes pods. */
export type Workload = Of<"Deployment"> | Of<"StatefulSet">

export const workloadsOf = (resources: ReadonlyArray<Resource>): ReadonlyArray<Workload> => [
  ...ofKind(resources, "Deployment"),
  ...ofKind(resources, "StatefulSet")
]

export type Pod = NonNullable<NonNullable<apps.IDeployment["spec"]>["template"]["spec"]>
export type Container = Pod["containers"][number]

export interface Labels {
  readonly [label: string]: string
}

/** Labels of pods or namespaces. */
export interface LabelSelector {
  readonly matchLabels?: Labels
  readonly matchExpressions?: ReadonlyArray<{
    readonly key: string
    readonly operator: string
    readonly values?: ReadonlyArray<string>
  }>
}

/** Whether a selector matches these labels. An empty selector matches all. */
export const selects = ({ matchExpressions = [], matchLabels = {} }: LabelSelector, labels: Labels): boolean =>
  Object.entries(matchLabels).every(([label, value]) => labels[label] === value) &&
  matchExpressions.every(({ key, operator, values = [] }) => {
    const value = labels[key]
    if (operator === "Exists") return value !== undefined
    if (operator === "DoesNotExist") return value === undefined
    const isIn = value !== undefined && values.includes(value)
    return operator === "In" ? isIn : !isIn
  })

/** The labels and annotations of a workload's pods. */
export const podMetadata = ({ spec }: Workload): Pick<Resource["metadata"], "annotations" | "labels"> =>
  spec?.template.metadata ?? {}

export const podLabels = (workload: Workload): Labels => podMetadata(workload).labels ?? {}

export const containersOf = (pod: Pod | undefined): ReadonlyArray<Container> => [
  ...(pod?.containers ?? []),
  ...(pod?.initContainers ?? [])
]

/** A reference to another variable in the value of a variable: `$(NAME)`. `$$` is a literal dollar sign. */
export const reference = /\$\$|\$\(([^)]+)\)/g

/**
 * The environment of a container by the rules of Kubernetes: first the variables of ConfigMaps, then those of the container, which can
 * refer to earlier ones. The value of a variable that refers to a field of the pod is the path of that field. A Secret that is not a part
 * of the manifests has empty values.
 */
export const environmentOf = (
  { env = [], envFrom = [] }: Container,
  resources: ReadonlyArray<Resource>
): ReadonlyMap<string, string> => {
  const configMaps = ofKind(resources, "ConfigMap")
  const environment = new Map(
    envFrom.flatMap(({ configMapRef, prefix = "" }) =>
      Object.entries(configMaps.find(({ metadata: { name } }) => name === configMapRef?.name)?.data ?? {}).map(
        ([name, value]) => [`${prefix}${name}`, value] as const
      )
    )
  )
  for (const { name, value = "", valueFrom } of env) {
    const expanded = value.replaceAll(reference, (text, to?: string) =>
      to === undefined ? "$" : (environment.get(to) ?? text)
    )
    const { fieldRef, secretKeyRef } = valueFrom ?? {}
    const secret = ofKind(resources, "Secret").find(({ metadata }) => metadata.name === secretKeyRef?.name)?.stringData
    environment.set(name, fieldRef?.fieldPath ?? secret?.[secretKeyRef?.key ?? ""] ?? expanded)
  }
  return environment
}
