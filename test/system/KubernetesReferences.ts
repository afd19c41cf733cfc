/**
 * Checks references between resources that are applied together: names must exist and selectors must match something. A cluster
 * accepts dangling references silently.
 */
import type { Resource } from "./Kustomize.ts"
import {
  type Container,
  containersOf,
  environmentOf,
  type LabelSelector,
  type Of,
  ofKind,
  podLabels,
  podMetadata,
  reference,
  selects,
  type Workload,
  workloadsOf
} from "./Manifests.ts"

type Named = Pick<Resource, "kind" | "metadata">

/** The name of a resource in violations. */
export const nameOf = ({ kind, metadata: { name, namespace } }: Named): string =>
  [kind, namespace === undefined ? name : `${namespace}/${name}`].join(" ")

/** The fields of a pod that an environment variable can refer to. */
const podFields =
  /^(metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['.+'\]|spec\.(nodeName|serviceAccountName)|status\.(hostIP|hostIPs|podIP|podIPs))$/

/** Kinds without a namespace. */
const clusterWide: ReadonlySet<string> = new Set(["Namespace", "ClusterIssuer", "GatewayClass"])

/** Secrets that operators create, with the command in k8s/README.md. */
const provided: ReadonlySet<string> = new Set(["recommendations-database"])

/** Whether cert-manager creates the Secrets that an Ingress or a Gateway names. */
const isCertified = ({ metadata: { annotations = {} } }: Resource) =>
  "cert-manager.io/cluster-issuer" in annotations || "cert-manager.io/issuer" in annotations

const portsOf = (containers: ReadonlyArray<Container>) => containers.flatMap(({ ports = [] }) => ports)

/** Whether containers have a port with this name or number. */
export const hasPort = (containers: ReadonlyArray<Container>, port: number | string): boolean =>
  portsOf(containers).some(({ containerPort, name }) => port === (typeof port === "number" ? containerPort : name))

/** The violations, each with the name of the resource that has the reference. */
export const violations = (resources: ReadonlyArray<Resource>): ReadonlyArray<string> =>
  resources.flatMap((resource) => {
    const others = resources.filter(({ metadata: { namespace } }) => namespace === resource.metadata.namespace)
    const routes = ofKind([resource], "HTTPRoute").flatMap((route) => [...ofParents(route, resources)])
    return [...ofPlace(resource, resources), ...routes, ...ofKindOf(resource, others)].map(
      (violation) => `${nameOf(resource)}: ${violation}`
    )
  })

function* ofPlace(resource: Resource, resources: ReadonlyArray<Resource>): Iterable<string> {
  const { kind, metadata } = resource
  const { namespace } = metadata
  if (resources.find((other) => nameOf(other) === nameOf(resource)) !== resource) yield "occurs twice"
  if (clusterWide.has(kind)) return
  if (namespace === undefined) yield "has no namespace"
  else if (!ofKind(resources, "Namespace").some(({ metadata: { name } }) => name === namespace)) {
    yield `namespace ${namespace} does not exist`
  }
}

/** The checks for each kind. `resources` are in the same namespace. */
function* ofKindOf(resource: Resource, resources: ReadonlyArray<Resource>): Iterable<string> {
  const [workload] = workloadsOf([resource])
  if (workload !== undefined) yield* ofWorkload(workload, resources)
  for (const { spec } of ofKind([resource], "StatefulSet")) {
    if (spec?.serviceName !== undefined) yield* exists(resources, "Service", spec.serviceName)
  }
  for (const { spec } of ofKind([resource], "Service")) {
    const containers = yield* ofSelector({ matchLabels: spec?.selector ?? {} }, resources)
    for (const { port, targetPort = port } of spec?.ports ?? []) yield* ofPort(targetPort, containers)
  }
  for (const { spec } of ofKind([resource], "PodDisruptionBudget")) {
    yield* ofSelector(spec?.selector as LabelSelector | undefined, resources)
  }
  for (const { spec } of ofKind([resource], "PodMonitor")) {
    const containers = yield* ofSelector(spec.selector as LabelSelector, resources)
    for (const { port } of spec.podMetricsEndpoints ?? []) yield* ofPort(port, containers)
  }
  for (const policy of ofKind([resource], "NetworkPolicy")) yield* ofNetworkPolicy(policy, resources)
  for (const { spec } of ofKind([resource], "HorizontalPodAutoscaler")) {
    const { apiVersion = "", kind, name } = spec?.scaleTargetRef ?? { kind: "", name: "" }
    if (!resources.some((one) => one.apiVersion === apiVersion && one.kind === kind && one.metadata.name === name)) {
      yield `${apiVersion} ${kind} ${name} does not exist`
    }
  }
  for (const { spec } of ofKind([resource], "Certificate")) {
    const { group = "cert-manager.io", kind = "Issuer", name } = spec?.issuerRef ?? { name: "" }
    yield* exists(resources, kind, name)
    if (group !== "cert-manager.io") yield `issuerRef.group is ${group}`
  }
  for (const { spec } of ofKind([resource], "Issuer")) {
    if (spec.ca !== undefined) yield* ofSecret(spec.ca.secretName, resources)
  }
  for (const ingress of ofKind([resource], "Ingress")) yield* ofIngress(ingress, resources)
  for (const gateway of ofKind([resource], "Gateway")) {
    for (const { tls } of gateway.spec.listeners) {
      for (const { name } of tls?.certificateRefs ?? []) {
        if (!isCertified(gateway)) yield* ofSecret(name, resources)
      }
    }
  }
  for (const route of ofKind([resource], "HTTPRoute")) yield* ofRoute(route, resources)
}

function* exists(resources: ReadonlyArray<Resource>, kind: string, name: string | undefined): Iterable<string> {
  if (!resources.some((one) => one.kind === kind && one.metadata.name === name)) yield `${kind} ${name} does not exist`
}

/** A Secret exists if it is a resource, or if an operator or cert-manager creates it. */
function* ofSecret(name: string | undefined, resources: ReadonlyArray<Resource>): Iterable<string> {
  const isCreated = ofKind(resources, "Certificate").some(({ spec }) => spec?.secretName === name)
  if (!isCreated && !provided.has(name ?? "")) yield* exists(resources, "Secret", name)
}

/** A Secret of the manifests has the keys that are read from it. */
function* ofSecretKey(
  { key, name }: { readonly key: string; readonly name?: string | undefined },
  resources: ReadonlyArray<Resource>
): Iterable<string> {
  yield* ofSecret(name, resources)
  for (const { metadata, stringData = {} } of ofKind(resources, "Secret")) {
    if (metadata.name === name && !(key in stringData)) yield `${name} has no key ${key}`
  }
}

/** Returns the containers of the selected pods. A selector without pods is a violation. */
function* ofSelector(
  selector: LabelSelector | undefined,
  resources: ReadonlyArray<Resource>
): Generator<string, ReadonlyArray<Container>> {
  const selected = workloadsOf(resources).filter(
    (workload) => selector !== undefined && selects(selector, podLabels(workload))
  )
  if (selected.length === 0) yield `selects no pods by ${JSON.stringify(selector)}`
  return selected.flatMap(({ spec }) => spec?.template.spec?.containers ?? [])
}

function* ofPort(port: number | string | undefined, containers: ReadonlyArray<Container>): Iterable<string> {
  if (port !== undefined && containers.length > 0 && !hasPort(containers, port)) yield `no container has a port ${port}`
}

function* ofWorkload(workload: Workload, resources: ReadonlyArray<Resource>): Iterable<string> {
  const { spec } = workload
  const pod = spec?.template.spec ?? undefined
  const labels = podLabels(workload)
  if (!selects((spec?.selector ?? {}) as LabelSelector, labels)) yield "does not select its own pods"
  const containers = containersOf(pod)
  const main = podMetadata(workload).annotations?.["kubectl.kubernetes.io/default-container"]
  if (main !== undefined && !containers.some(({ name }) => name === main)) yield `container ${main} does not exist`

  for (const { labelSelector, topologyKey } of pod?.topologySpreadConstraints ?? []) {
    const selector = labelSelector as LabelSelector | undefined
    if (selector === undefined || !selects(selector, labels))
      yield `the constraint for ${topologyKey} does not select its own pods`
  }
  if (pod?.serviceAccountName !== undefined) yield* exists(resources, "ServiceAccount", pod.serviceAccountName)

  for (const { configMap, name, secret } of pod?.volumes ?? []) {
    if (configMap !== undefined) {
      yield* exists(resources, "ConfigMap", configMap.name)
      const data = ofKind(resources, "ConfigMap").find(({ metadata }) => metadata.name === configMap.name)?.data ?? {}
      for (const { key } of configMap.items ?? []) if (!(key in data)) yield `${configMap.name} has no key ${key}`
    }
    if (secret !== undefined) yield* ofSecret(secret.secretName, resources)
    if (!containers.some(({ volumeMounts }) => volumeMounts?.some((mount) => mount.name === name))) {
      yield `volume ${name} is not mounted`
    }
  }
  for (const container of containers) {
    for (const violation of ofContainer(container, workload, resources)) yield `${container.name}: ${violation}`
  }
}

function* ofContainer(container: Container, workload: Workload, resources: ReadonlyArray<Resource>): Iterable<string> {
  for (const { configMapRef, secretRef } of container.envFrom ?? []) {
    if (configMapRef !== undefined) yield* exists(resources, "ConfigMap", configMapRef.name)
    if (secretRef !== undefined) yield* ofSecret(secretRef.name, resources)
  }
  for (const { valueFrom } of container.env ?? []) {
    const { configMapKeyRef, fieldRef, secretKeyRef } = valueFrom ?? {}
    if (fieldRef !== undefined && !podFields.test(fieldRef.fieldPath)) yield `a pod has no field ${fieldRef.fieldPath}`
    if (configMapKeyRef !== undefined) yield* exists(resources, "ConfigMap", configMapKeyRef.name)
    if (secretKeyRef !== undefined) yield* ofSecretKey(secretKeyRef, resources)
  }
  // references that could not be resolved
  for (const [variable, value] of environmentOf(container, resources)) {
    for (const [text, to] of value.matchAll(reference)) {
      if (to !== undefined) yield `${variable} refers to ${text}, which is not set before it`
    }
  }
  const [claims = []] = ofKind([workload], "StatefulSet").map(({ spec }) => spec?.volumeClaimTemplates)
  const volumes = new Set([
    ...(workload.spec?.template.spec?.volumes ?? []).map(({ name }) => name),
    ...claims.map(({ metadata }) => metadata?.name)
  ])
  for (const { name } of container.volumeMounts ?? []) {
    if (!volumes.has(name)) yield `volume ${name} does not exist`
  }
  for (const probe of ["startupProbe", "readinessProbe", "livenessProbe"] as const) {
    yield* ofPort(container[probe]?.httpGet?.port ?? container[probe]?.tcpSocket?.port, [container])
  }
}

/** Selectors of other namespaces are not checked: their pods are not part of the manifests. */
function* ofNetworkPolicy({ spec }: Of<"NetworkPolicy">, resources: ReadonlyArray<Resource>): Iterable<string> {
  const podSelector = spec?.podSelector as LabelSelector | undefined
  // cert-manager creates these pods for the time of an ACME challenge
  const isForSolver = podSelector?.matchLabels?.["acme.cert-manager.io/http01-solver"] === "true"
  const selected = isForSolver ? [] : yield* ofSelector(podSelector, resources)
  for (const { from = [], ports = [] } of spec?.ingress ?? []) {
    for (const { port } of ports) yield* ofPort(port, selected)
    for (const { namespaceSelector, podSelector } of from) {
      if (namespaceSelector === undefined && podSelector !== undefined) {
        yield* ofSelector(podSelector as LabelSelector, resources)
      }
    }
  }
  for (const { ports = [], to = [] } of spec?.egress ?? []) {
    for (const { namespaceSelector, podSelector } of to) {
      if (namespaceSelector !== undefined || podSelector === undefined) continue
      const reached = yield* ofSelector(podSelector as LabelSelector, resources)
      for (const { port } of ports) yield* ofPort(port, reached)
    }
  }
}

function* ofIngress(ingress: Of<"Ingress">, resources: ReadonlyArray<Resource>): Iterable<string> {
  const { defaultBackend, rules = [], tls = [] } = ingress.spec ?? {}
  const backends = [defaultBackend, ...rules.flatMap(({ http }) => http?.paths.map(({ backend }) => backend) ?? [])]
  for (const service of backends.flatMap((backend) => backend?.service ?? [])) {
    yield* exists(resources, "Service", service.name)
    yield* ofServicePort(service.name, service.port?.name ?? service.port?.number, resources)
  }
  if (!isCertified(ingress)) for (const { secretName } of tls) yield* ofSecret(secretName, resources)
}

function* ofServicePort(
  name: string,
  port: number | string | undefined,
  resources: ReadonlyArray<Resource>
): Iterable<string> {
  const service = ofKind(resources, "Service").find(({ metadata }) => metadata.name === name)
  if (service?.spec?.ports?.some((one) => port === (typeof port === "string" ? one.name : one.port)) === false) {
    yield `Service ${name} has no port ${port}`
  }
}

/** Whether a selector matches this namespace but not all namespaces. */
const selectsNamespace = (selector: LabelSelector = {}, namespace: string) =>
  selects(selector, { "kubernetes.io/metadata.name": namespace }) &&
  !selects(selector, { "kubernetes.io/metadata.name": `not-${namespace}` })

/** Whether a listener of a Gateway accepts routes of a namespace. */
export const acceptsRoutes = (
  allowed: Of<"Gateway">["spec"]["listeners"][number]["allowedRoutes"],
  own: string | undefined,
  namespace: string | undefined
): boolean => {
  const { from = "Same", selector } = allowed?.namespaces ?? {}
  return (
    from === "All" ||
    (from === "Same" && own === namespace) ||
    (from === "Selector" && selectsNamespace(selector as LabelSelector | undefined, namespace ?? ""))
  )
}

/** A route can refer to a Gateway in another namespace, which must accept it. */
function* ofParents(route: Of<"HTTPRoute">, resources: ReadonlyArray<Resource>): Iterable<string> {
  const { metadata, spec } = route
  for (const { name, namespace = metadata.namespace, sectionName } of spec.parentRefs ?? []) {
    const gateway = ofKind(resources, "Gateway").find(
      (one) => one.metadata.name === name && one.metadata.namespace === namespace
    )
    if (gateway === undefined) {
      yield `Gateway ${namespace}/${name} does not exist`
      continue
    }
    const listeners = gateway.spec.listeners.filter((one) => sectionName === undefined || one.name === sectionName)
    if (listeners.length === 0) yield `Gateway ${name} has no listener ${sectionName}`
    for (const { allowedRoutes, name } of listeners) {
      if (!acceptsRoutes(allowedRoutes, namespace, metadata.namespace))
        yield `listener ${name} accepts no routes of ${metadata.namespace}`
    }
    for (const host of spec.hostnames ?? []) {
      if (!listeners.some(({ hostname }) => hostname === undefined || hostname === host)) {
        yield `Gateway ${name} does not accept ${host}`
      }
    }
  }
}

function* ofRoute({ spec }: Of<"HTTPRoute">, resources: ReadonlyArray<Resource>): Iterable<string> {
  for (const { kind = "Service", name, port } of (spec.rules ?? []).flatMap(({ backendRefs = [] }) => backendRefs)) {
    yield* exists(resources, kind, name)
    yield* ofServicePort(name, port, resources)
  }
}
