/**
 * Validates one resource as `kubectl apply --validate=strict` does: by the schemas of Kubernetes, cert-manager, the Gateway API and the
 * Prometheus operator, and by Kubernetes' rules for names, which the schemas do not contain.
 */
import * as certManager from "@kubernetes-models/cert-manager/cert-manager.io/v1"
import * as gatewayApi from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1"
import * as prometheusOperator from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"
import * as apps from "kubernetes-models/apps/v1"
import * as autoscaling from "kubernetes-models/autoscaling/v2"
import * as networking from "kubernetes-models/networking.k8s.io/v1"
import * as policy from "kubernetes-models/policy/v1"
import * as core from "kubernetes-models/v1"

import type { Resource } from "./Kustomize.ts"

const versions: { readonly [apiVersion: string]: object } = {
  v1: core,
  "apps/v1": apps,
  "autoscaling/v2": autoscaling,
  "cert-manager.io/v1": certManager,
  "gateway.networking.k8s.io/v1": gatewayApi,
  "monitoring.coreos.com/v1": prometheusOperator,
  "networking.k8s.io/v1": networking,
  "policy/v1": policy
}

/** The class of a kind. `validate` throws the violations. */
interface Model {
  readonly apiVersion: string
  readonly kind: string
  readonly prototype: { readonly validate: (this: unknown) => void }
}

const modelOf = ({ apiVersion, kind }: Resource): Model | undefined => {
  const models = Object.entries(versions[apiVersion] ?? {}) as ReadonlyArray<readonly [string, Partial<Model>]>
  // the modules also contain classes for parts of resources
  const [, model] = models.find(([, model]) => model.apiVersion === apiVersion && model.kind === kind) ?? []
  return model as Model | undefined
}

/** A path in the form `spec.containers[0].image`. */
const pathOf = (keys: ReadonlyArray<string>): string =>
  keys
    .map((key) => (/^\d+$/.test(key) ? `[${key}]` : /^[\w$-]+$/.test(key) ? `.${key}` : `["${key}"]`))
    .join("")
    .replace(/^\./, "")

const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null

/** All values within a value, with the keys that lead to them. */
function* everything(value: unknown, keys: ReadonlyArray<string> = []): Iterable<[ReadonlyArray<string>, unknown]> {
  yield [keys, value]
  if (!isObject(value)) return
  for (const [key, part] of Object.entries(value)) yield* everything(part, [...keys, key])
}

/**
 * Wraps a value in a proxy that records which fields are read. The schemas' validators accept unknown fields, but they read each field
 * that they know, so fields that were not read are unknown. Objects of which no field was read, such as labels, can have any fields.
 */
const watch = (value: unknown) => {
  const readFields = new Map<unknown, Set<string>>()
  const proxies = new Map<unknown, unknown>()
  const watched = (value: unknown): unknown => {
    if (!isObject(value)) return value
    const proxy =
      proxies.get(value) ??
      new Proxy(value, {
        get: (target, key) => {
          if (typeof key === "symbol") return Reflect.get(target, key)
          readFields.set(target, (readFields.get(target) ?? new Set()).add(key))
          return watched(Reflect.get(target, key))
        }
      })
    proxies.set(value, proxy)
    return proxy
  }
  const isUnknown = (parent: unknown, key: string) =>
    readFields.has(parent) && readFields.get(parent)?.has(key) === false
  return { proxy: watched(value), isUnknown }
}

/** The violations of the schema. */
const ofSchema = (resource: Resource, model: Model): ReadonlyArray<string> => {
  const { isUnknown, proxy } = watch(resource)
  const violations: Array<string> = []
  try {
    model.prototype.validate.call(proxy)
  } catch (error) {
    const { errors } = error as { readonly errors?: ReadonlyArray<{ instancePath: string; message?: string }> }
    if (errors === undefined) throw error
    for (const { instancePath, message = "is invalid" } of errors) {
      const keys = instancePath.split("/").slice(1)
      violations.push(`${pathOf(keys.map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~")))} ${message}`.trim())
    }
  }
  for (const [keys, value] of everything(resource)) {
    // null is valid for optional fields, but probably a forgotten value
    if (value === null) violations.push(`${pathOf(keys)} is empty`)
    if (!isObject(value) || Array.isArray(value)) continue
    for (const key of Object.keys(value)) {
      if (isUnknown(value, key)) violations.push(`${pathOf([...keys, key])} is an unknown field`)
    }
  }
  return violations
}

const label = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
/** RFC 1123, as in https://kubernetes.io/docs/concepts/overview/working-with-objects/names/. */
const isLabel = (text: string) => new RegExp(`^${label}$`).test(text)
const isSubdomain = (text: string) => text.length <= 253 && new RegExp(`^${label}(\\.${label})*$`).test(text)
/** RFC 1035: begins with a letter. */
const isServiceName = (text: string) => isLabel(text) && /^[a-z]/.test(text)
/** RFC 6335. */
const isPortName = (text: string) => /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/.test(text)

/** Kubernetes allows more, but shells do not. */
const isVariable = (text: string) => /^[A-Za-z_]\w*$/.test(text)

const labelName = /^[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?$/
const isLabelValue = (text: string) => text === "" || labelName.test(text)
const isLabelKey = (text: string) => {
  const [name = "", prefix, ...more] = text.split("/").toReversed()
  return labelName.test(name) && (prefix === undefined || isSubdomain(prefix)) && more.length === 0
}

/** Lists whose items are identified by a field. */
const keyFields: { readonly [list: string]: string } = {
  containers: "name",
  env: "name",
  initContainers: "name",
  listeners: "name",
  ports: "name",
  volumeMounts: "mountPath",
  volumes: "name"
}

/** The violations of the rules for names. */
function* ofNames(resource: Resource): Iterable<string> {
  const { kind, metadata } = resource
  const isName = kind === "Service" ? isServiceName : kind === "Namespace" ? isLabel : isSubdomain
  if (!isName(metadata.name)) yield `metadata.name cannot be ${JSON.stringify(metadata.name)}`

  for (const [keys, value] of everything(resource)) {
    const [last = "", parent = "", grandparent = ""] = keys.toReversed()
    const cannotBe = (is: (text: string) => boolean) =>
      typeof value === "string" && !is(value) ? [`${pathOf(keys)} cannot be ${JSON.stringify(value)}`] : []

    const isOfLabels =
      parent === "matchLabels" ||
      (parent === "labels" && grandparent === "metadata") ||
      (kind === "Service" && parent === "selector")
    if (isOfLabels || (parent === "annotations" && grandparent === "metadata")) {
      if (!isLabelKey(last)) yield `${pathOf(keys)} is not a valid key`
    }
    if (isOfLabels) yield* cannotBe(isLabelValue)

    if (last === "name" && grandparent === "ports") yield* cannotBe(isPortName)
    if (last === "targetPort" || (last === "port" && (grandparent === "ports" || parent === "httpGet"))) {
      yield* cannotBe(isPortName)
    }
    if (last === "name" && ["containers", "initContainers", "volumes"].includes(grandparent)) yield* cannotBe(isLabel)
    if (last === "name" && grandparent === "env") yield* cannotBe(isVariable)

    // a variable without a value is empty, which is probably a forgotten value
    if (parent === "env" && isObject(value)) {
      const sources = [...("value" in value ? ["value"] : []), ...Object.keys(value["valueFrom"] ?? {})]
      if (sources.length !== 1) yield `${pathOf(keys)} has ${sources.length} values`
    }

    const field = keyFields[last]
    if (field !== undefined && Array.isArray(value)) {
      const names = value.flatMap((item: { readonly [key: string]: unknown }) => item[field] ?? [])
      for (const name of new Set(names.filter((name, index) => names.indexOf(name) !== index))) {
        yield `${pathOf(keys)} has ${String(name)} more than once`
      }
    }
  }
}

const found = new WeakMap<Resource, ReadonlyArray<string>>()

/** All violations of a resource, with their paths. The result is cached. */
export const violations = (resource: Resource): ReadonlyArray<string> => {
  const known = found.get(resource)
  if (known !== undefined) return known
  const model = modelOf(resource)
  const bySchema =
    model === undefined ? [`${resource.apiVersion} ${resource.kind} is an unknown kind`] : ofSchema(resource, model)
  // names can only be checked in resources that match their schema
  const all = bySchema.length > 0 ? bySchema : [...ofNames(resource)]
  found.set(resource, all)
  return all
}
