/**
 * The guarantees of the manifests as rules. Each rule reads rendered resources and yields the violations. The same rules check every
 * overlay, and manifests with a line removed or changed, in which they must find a violation.
 */
import { isDeepStrictEqual } from "node:util"

import { Cause, Config, ConfigProvider, Context, Duration, Effect, Exit, Layer } from "effect"
import { parse } from "yaml"

import * as Settings from "../../scripts/settings.ts"
import * as ChannelSettings from "../../src/layers/grpc/client/ChannelSettings.ts"
import * as ServerSettings from "../../src/layers/grpc/server/ServerSettings.ts"
import * as AdminServer from "../../src/layers/http/AdminServer.ts"
import * as WebServer from "../../src/layers/http/WebServer.ts"
import * as Drain from "../../src/layers/process/Drain.ts"
import * as Database from "../../src/layers/sql/Database.ts"
import * as Logging from "../../src/layers/telemetry/Logging.ts"
import * as OtlpSettings from "../../src/layers/telemetry/OtlpSettings.ts"
import * as TlsSettings from "../../src/layers/tls/TlsSettings.ts"
import * as CatalogFile from "../../src/recommendations/catalog/CatalogFile.ts"
import type { Service } from "../integration/Installation.ts"
import { knownSettings, nodeSettings } from "../integration/KnownSettings.ts"
import * as KubernetesReferences from "./KubernetesReferences.ts"
import * as KubernetesSchema from "./KubernetesSchema.ts"
import type { Resource } from "./Kustomize.ts"
import {
  type Container,
  containersOf,
  environmentOf,
  type LabelSelector,
  type Of,
  ofKind,
  type Overlay,
  type Pod,
  podLabels,
  podMetadata,
  read,
  reference,
  selects,
  type Workload,
  workloadsOf
} from "./Manifests.ts"
import * as NetworkPolicies from "./NetworkPolicies.ts"

/** Facts of the services and of ops/ with which the manifests must agree. */
export class Facts extends Context.Service<
  Facts,
  {
    /** The variables that a service reads. */
    readonly settings: { readonly [S in Service]: ReadonlySet<string> }
    /** The default ports of the services, by the variables that change them. */
    readonly ports: ReadonlyMap<string, number>
    /** The groups of ops/prometheus/rules.yaml. */
    readonly groups: unknown
  }
>()("onlinebooks/test/Facts") {
  static readonly layer = Layer.effect(
    Facts,
    Effect.all({
      settings: Effect.all({
        recommendations: knownSettings("recommendations"),
        marketplace: knownSettings("marketplace")
      }),
      ports: Effect.map(
        Effect.all([Settings.settingsOf("recommendations"), Settings.settingsOf("marketplace")]),
        (settings) =>
          new Map(
            settings
              .flat()
              .filter(({ variable }) => variable.endsWith("_PORT"))
              .map(({ unset, variable }) => [variable, Number(unset.replaceAll("`", ""))] as const)
          )
      ),
      groups: Effect.sync(() => (parse(read("ops/prometheus/rules.yaml")) as { readonly groups: unknown }).groups)
    })
  )
}

/** Rendered resources and the features that are expected of them. */
export interface Installation {
  readonly resources: ReadonlyArray<Resource>
  /** Whether an autoscaler sets the number of replicas; otherwise it is three. */
  readonly isAutoscaled: boolean
  /** Whether the services use mutual TLS. */
  readonly isEncrypted: boolean
  /** Whether the Prometheus operator scrapes the services. */
  readonly isMonitored: boolean
  /** Whether the services export telemetry to a collector. */
  readonly isTraced: boolean
  /** Whether readers reach the shop through an Ingress or a Gateway. */
  readonly isRouted: boolean
  /** Whether a ConfigMap replaces the catalogue of the image. */
  readonly hasOwnCatalogue: boolean
  /** Whether the database is a part of the installation. */
  readonly hasOwnDatabase: boolean
  readonly facts: Facts["Service"]
}

/** The installation of an overlay, whose expected features follow from the folders that it uses. */
export const installation = (
  { uses }: Overlay,
  resources: ReadonlyArray<Resource>,
  facts: Facts["Service"]
): Installation => ({
  resources,
  isAutoscaled: uses.has("overlays/production"),
  isEncrypted: uses.has("components/tls"),
  isMonitored: uses.has("components/monitoring"),
  isTraced: uses.has("components/tracing"),
  isRouted: uses.has("examples/gateway") || uses.has("examples/ingress"),
  hasOwnCatalogue: uses.has("examples/own-catalogue"),
  hasOwnDatabase: uses.has("components/postgres"),
  facts
})

/** One service of an installation. */
interface Subject {
  readonly service: Service
  readonly prefix: string
  /** The port for its clients: its name in the manifests and the variable that sets it. */
  readonly mainPort: { readonly name: string; readonly variable: string }
  readonly installation: Installation
  readonly resources: ReadonlyArray<Resource>
  readonly deployment: Of<"Deployment">
  readonly spec: NonNullable<Of<"Deployment">["spec"]>
  readonly pod: Pod
  readonly container: Container
  readonly environment: ReadonlyMap<string, string>
}

type Rules<A> = { readonly [guarantee: string]: (of: A) => Iterable<string> }

const mainPorts = {
  recommendations: { name: "grpc", variable: "RECOMMENDATIONS_GRPC_PORT" },
  marketplace: { name: "http", variable: "MARKETPLACE_HTTP_PORT" }
} satisfies { readonly [S in Service]: Subject["mainPort"] }

export const services = ["recommendations", "marketplace"] as const satisfies ReadonlyArray<Service>

const subjectOf = (installation: Installation, service: Service): Subject | undefined => {
  const { resources } = installation
  const deployment = ofKind(resources, "Deployment").find(({ metadata }) => metadata.name === service)
  const spec = deployment?.spec
  const pod = spec?.template.spec
  const container = pod?.containers.find(({ name }) => name === service)
  if (deployment === undefined || !spec || !pod || container === undefined) return undefined
  const environment = environmentOf(container, resources)
  const prefix = service.toUpperCase()
  const mainPort = mainPorts[service]
  return { service, prefix, mainPort, installation, resources, deployment, spec, pod, container, environment }
}

/** The value of a setting in an environment; undefined if the service would refuse the value. */
const settingOf = <A>(config: Config.Config<A>, environment: ReadonlyMap<string, string>): A | undefined => {
  const exit = Effect.runSyncExit(config.parse(ConfigProvider.fromEnv({ env: Object.fromEntries(environment) })))
  return Exit.isSuccess(exit) ? exit.value : undefined
}

const adminOf = ({ installation, prefix }: Pick<Subject, "installation" | "prefix">) =>
  AdminServer.settings(prefix, installation.facts.ports.get(`${prefix}_ADMIN_PORT`) ?? 0)

/** The settings that a service reads at its start. */
const settingsOf = (subject: Subject): Config.Config<unknown> =>
  Config.all([
    Drain.settings,
    Logging.settings,
    OtlpSettings.settings,
    adminOf(subject),
    ...(subject.service === "recommendations"
      ? [
          ServerSettings.settings(subject.prefix),
          TlsSettings.server(subject.prefix),
          CatalogFile.settings,
          Database.settings
        ]
      : [
          WebServer.settings(subject.prefix, 0),
          ChannelSettings.policy(subject.prefix),
          TlsSettings.client(subject.prefix)
        ])
  ])

/** The delay and the timeout of draining in seconds; undefined if the service would refuse its settings. */
const drainOf = ({ environment }: Subject): { readonly delay: number; readonly timeout: number } | undefined => {
  const drain = settingOf(Drain.settings, environment)
  return drain && { delay: Duration.toSeconds(drain.delay), timeout: Duration.toSeconds(drain.timeout) }
}

const factors: { readonly [suffix: string]: number } = {
  "": 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30
}

/** A quantity of Kubernetes, such as 250m or 384Mi; NaN if it is missing or invalid. */
const quantity = (value: number | string | undefined): number => {
  const [, amount, suffix = ""] = /^(\d+(?:\.\d+)?)([a-zA-Z]*)$/.exec(String(value)) ?? []
  return Number(amount ?? Number.NaN) * (factors[suffix] ?? Number.NaN)
}

/** The seconds of a duration in Go's format, such as 1h30m or 15s; NaN if it is missing or invalid. */
const goDuration = (text: string | undefined): number => {
  const units: { readonly [unit: string]: number } = { h: 3600, m: 60, s: 1, ms: 1e-3 }
  if (text === undefined || !/^(\d+(\.\d+)?(h|ms|m|s))+$/.test(text)) return Number.NaN
  return [...text.matchAll(/([\d.]+)(h|ms|m|s)/g)].reduce(
    (sum, [, amount, unit = ""]) => sum + Number(amount) * (units[unit] ?? 0),
    0
  )
}

/** The seconds for which a name server caches a record: CoreDNS' setting in kubeadm and in managed clusters. */
const dnsTtl = 30

/** The seconds of the grace period that must remain after draining: 3 for the last export and 2 for the last log lines. */
const graceReserve = 5

function* replicas({ deployment, installation: { isAutoscaled }, resources, spec }: Subject): Iterable<string> {
  const autoscalers = ofKind(resources, "HorizontalPodAutoscaler").filter(
    (autoscaler) => autoscaler.spec?.scaleTargetRef.name === deployment.metadata.name
  )
  if (!isAutoscaled) {
    if (spec.replicas !== 3) yield `replicas: ${spec.replicas}, not 3`
    if (autoscalers.length > 0) yield "there is an unexpected autoscaler"
    return
  }
  if (spec.replicas !== undefined) yield "replicas: each apply would overwrite the autoscaler's number"
  if (autoscalers.length !== 1) yield `${autoscalers.length} autoscalers`
  for (const { spec: autoscaler } of autoscalers) {
    const { behavior, maxReplicas = 0, metrics = [], minReplicas } = autoscaler ?? {}
    if (minReplicas !== 3) yield `minReplicas: ${minReplicas}, not 3`
    if (maxReplicas > 100) yield `maxReplicas: ${maxReplicas} is too expensive`
    if (maxReplicas <= 3) yield `maxReplicas: ${maxReplicas} does not exceed minReplicas`
    const [metric, ...more] = metrics
    const { averageUtilization = 100, type } = metric?.resource?.target ?? {}
    if (
      metric?.type !== "Resource" ||
      metric.resource?.name !== "cpu" ||
      type !== "Utilization" ||
      averageUtilization > 90 ||
      more.length > 0
    ) {
      yield "the autoscaler does not use CPU utilization"
    }
    const { scaleDown, scaleUp } = behavior ?? {}
    const [down, ...others] = scaleDown?.policies ?? []
    // a replica has terminated before the next one is removed
    const isOneAtATime = down?.type === "Pods" && down.value === 1 && others.length === 0
    const grace = spec.template.spec?.terminationGracePeriodSeconds ?? 30
    if (!isOneAtATime || down.periodSeconds < grace) yield "surplus replicas are not removed one at a time"
    if ((scaleDown?.stabilizationWindowSeconds ?? 0) < 300) {
      yield "replicas are removed before the load has been low for 5 minutes"
    }
    if ((scaleUp?.stabilizationWindowSeconds ?? 0) < 30) yield "a short burst adds replicas"
    const [up] = scaleUp?.policies ?? []
    if (up?.type !== "Percent" || up.value > 100 || up.periodSeconds < 60) {
      yield "the number of replicas can more than double at once"
    }
  }
}

function* rollout({ spec: { strategy } }: Subject): Iterable<string> {
  const { maxSurge, maxUnavailable } = strategy?.rollingUpdate ?? {}
  if (strategy?.type !== "RollingUpdate") yield `strategy: ${strategy?.type}`
  if (maxUnavailable !== 0) yield `maxUnavailable: ${maxUnavailable}, not 0`
  if (maxSurge !== 1) yield `maxSurge: ${maxSurge}, not 1`
}

function* pace(subject: Subject): Iterable<string> {
  const { container, installation, service, spec } = subject
  const { minReadySeconds = 0, progressDeadlineSeconds = 0 } = spec
  if (service === "recommendations") {
    const client = subjectOf(installation, "marketplace")
    const policy = settingOf(ChannelSettings.policy("MARKETPLACE"), client?.environment ?? new Map())
    const interval = Duration.toSeconds(policy?.resolutionInterval ?? 0)
    if (minReadySeconds <= interval + dnsTtl) {
      yield `minReadySeconds: ${minReadySeconds}, but clients find a new replica only after ${interval} + ${dnsTtl} s`
    }
  } else {
    const { delay } = drainOf(subject) ?? { delay: 0 }
    if (minReadySeconds <= 0 || minReadySeconds < delay) {
      yield `minReadySeconds: ${minReadySeconds}, but load balancers find a new replica only after ${delay} s`
    }
  }
  const { failureThreshold = 3, periodSeconds = 10 } = container.startupProbe ?? {}
  if (progressDeadlineSeconds <= minReadySeconds + failureThreshold * periodSeconds) {
    yield `progressDeadlineSeconds: ${progressDeadlineSeconds} can pass before a new replica is available`
  }
}

const probes = {
  startupProbe: { path: "/livez", from: 30, to: 120 },
  readinessProbe: { path: "/readyz", from: 5, to: 15 },
  // longer than it takes to detect that a replica is not ready
  livenessProbe: { path: "/livez", from: 30, to: 120 }
} as const

function* probing({ container }: Subject): Iterable<string> {
  for (const [name, { from, path, to }] of Object.entries(probes)) {
    const probe = container[name as keyof typeof probes]
    const { httpGet } = probe ?? {}
    if (!isDeepStrictEqual(httpGet, { path, port: "admin" })) {
      yield `${name}: does not request ${path} from the port admin`
    }
    // set explicitly, because the defaults differ
    const { failureThreshold = 0, periodSeconds = 0, timeoutSeconds = 0 } = probe ?? {}
    const budget = failureThreshold * periodSeconds
    if (budget < from || budget > to) yield `${name}: acts after ${budget} s, not ${from} to ${to}`
    if (failureThreshold < 2) yield `${name}: acts on a single failure`
    if (timeoutSeconds < 2 || timeoutSeconds > 5) yield `${name}: has a timeout of ${timeoutSeconds} s`
  }
}

function* termination(subject: Subject): Iterable<string> {
  const { delay, timeout } = drainOf(subject) ?? { delay: 1, timeout: 0 }
  const grace = subject.pod.terminationGracePeriodSeconds ?? 0
  if (grace < delay + timeout + graceReserve) {
    yield `terminationGracePeriodSeconds: ${grace}, but draining takes ${delay} + ${timeout} s`
  }
  // draining a node takes this long
  if (grace > 300) yield `terminationGracePeriodSeconds: ${grace} is too long`
  if (delay <= 0) yield "DRAIN_DELAY: the service stops listening before load balancers notice"
  for (const { lifecycle, name } of containersOf(subject.pod)) {
    if (lifecycle !== undefined) yield `${name}: a lifecycle hook uses up the grace period`
  }
}

function* resourcesOf({ container, pod }: Pick<Subject, "container" | "pod">): Iterable<string> {
  for (const { name, resources = {} } of containersOf(pod)) {
    const { limits = {}, requests = {} } = resources
    const amounts = {
      "requests.cpu": requests["cpu"],
      "limits.cpu": limits["cpu"],
      "requests.memory": requests["memory"],
      "requests.ephemeral-storage": requests["ephemeral-storage"]
    }
    for (const [what, amount] of Object.entries(amounts)) {
      if (!(quantity(amount) > 0)) yield `${name}: ${what}: ${amount}`
    }
    if (quantity(requests["cpu"]) > quantity(limits["cpu"])) yield `${name}: the CPU request exceeds its limit`
    const storage = limits["ephemeral-storage"]
    // by default the kubelet keeps 5 log files of 10 MiB for a container
    if (!(quantity(storage) > 50 * 2 ** 20))
      yield `${name}: ephemeral-storage: ${storage} is less than its log can take`
    if (quantity(requests["ephemeral-storage"]) > quantity(storage)) {
      yield `${name}: the ephemeral-storage request exceeds its limit`
    }
    if (quantity(requests["memory"]) !== quantity(limits["memory"])) {
      yield `${name}: memory: ${requests["memory"]} requested, but the limit is ${limits["memory"]}`
    }
  }
  // one CPU for JavaScript and some more for the garbage collector
  if (!(quantity(container.resources?.limits?.["cpu"]) > 1)) yield "the CPU limit is not above one CPU"
}

const spreads = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]

function* spread({ pod, spec }: Subject): Iterable<string> {
  const constraints = pod.topologySpreadConstraints ?? []
  for (const topologyKey of spreads) {
    const expected = {
      topologyKey,
      maxSkew: 1,
      whenUnsatisfiable: "ScheduleAnyway",
      labelSelector: spec.selector,
      matchLabelKeys: ["pod-template-hash"]
    }
    if (!constraints.some((constraint) => isDeepStrictEqual(constraint, expected)))
      yield `not spread over ${topologyKey}`
  }
  if (constraints.length !== spreads.length) yield `${constraints.length} constraints`
}

function* disruption({ deployment, resources, spec }: Subject): Iterable<string> {
  const budgets = ofKind(resources, "PodDisruptionBudget").filter((budget) =>
    selects((budget.spec?.selector ?? {}) as LabelSelector, podLabels(deployment))
  )
  // with two budgets, no pod can be evicted
  if (budgets.length !== 1) yield `${budgets.length} PodDisruptionBudgets`
  for (const { spec: budget } of budgets) {
    if (!isDeepStrictEqual(budget?.selector, spec.selector)) yield "the PodDisruptionBudget selects other pods too"
    if (budget?.maxUnavailable !== 1) yield `maxUnavailable: ${budget?.maxUnavailable}, not 1`
    if (budget?.unhealthyPodEvictionPolicy !== "AlwaysAllow")
      yield "unhealthyPodEvictionPolicy: a replica that is not ready blocks the draining of its node"
  }
}

function* service({ deployment, mainPort, installation, resources, service, spec }: Subject): Iterable<string> {
  const found = ofKind(resources, "Service").filter((one) =>
    selects({ matchLabels: one.spec?.selector ?? {} }, podLabels(deployment))
  )
  if (found.length !== 1) yield `${found.length} Services`
  for (const { metadata, spec: exposed } of found) {
    if (metadata.name !== service) yield `the Service has the name ${metadata.name}`
    if (!isDeepStrictEqual(exposed?.selector, spec.selector.matchLabels)) yield "the Service selects other pods too"
    const appProtocol = service === "marketplace" ? "http" : installation.isEncrypted ? "https" : "kubernetes.io/h2c"
    const port = installation.facts.ports.get(mainPort.variable)
    const expected = [{ name: mainPort.name, port, targetPort: mainPort.name, appProtocol }]
    if (!isDeepStrictEqual(exposed?.ports, expected)) yield `ports: not ${JSON.stringify(expected)}`
    if (exposed?.publishNotReadyAddresses === true)
      yield "publishNotReadyAddresses: clients call replicas that are not ready"
    if (service === "recommendations") {
      if (exposed?.clusterIP !== "None") yield "not headless: a client would call a single replica"
      if ((exposed?.type ?? "ClusterIP") !== "ClusterIP")
        yield `type: ${exposed?.type}: it is reachable from outside the cluster`
    } else if (exposed?.clusterIP !== undefined) yield `clusterIP: ${exposed.clusterIP}`
  }
}

function* account({ pod, resources, service }: Subject): Iterable<string> {
  if (pod.serviceAccountName !== service) yield `serviceAccountName: ${pod.serviceAccountName}`
  if (pod.automountServiceAccountToken !== false) yield "automountServiceAccountToken: the pod gets a token"
  const account = ofKind(resources, "ServiceAccount").find(({ metadata }) => metadata.name === service)
  if (account?.automountServiceAccountToken !== false)
    yield "automountServiceAccountToken: the ServiceAccount gives its pods tokens"
}

/** Types of volumes without access to the node. */
const volumeTypes: ReadonlySet<string> = new Set(["configMap", "emptyDir", "secret"])

/** With the user in the image. */
const podSecurity = (user: number) => ({
  runAsNonRoot: true,
  runAsUser: user,
  runAsGroup: user,
  seccompProfile: { type: "RuntimeDefault" }
})

const containerSecurity = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] }
}

/** The profile `restricted` of the Pod Security Standards, with a read-only root. Any other field could weaken it. */
const lockdown = ({ deployment, pod }: Subject): Iterable<string> => lockdownOf(deployment, pod, 1000)

function* lockdownOf(workload: Workload, pod: Pod, user: number): Iterable<string> {
  for (const name of Object.keys(podMetadata(workload).annotations ?? {})) {
    if (name.startsWith("container.apparmor.")) yield `annotation ${name}`
  }
  for (const namespace of ["hostNetwork", "hostPID", "hostIPC"] as const) if (pod[namespace] === true) yield namespace
  for (const { name, ...volume } of pod.volumes ?? []) {
    for (const type of Object.keys(volume)) if (!volumeTypes.has(type)) yield `volume ${name}: ${type}`
  }
  const { fsGroup = user, fsGroupChangePolicy: _, ...security } = pod.securityContext ?? {}
  if (fsGroup !== user || !isDeepStrictEqual(security, podSecurity(user))) {
    yield `securityContext: ${JSON.stringify(pod.securityContext)}`
  }
  for (const { name, ports = [], securityContext } of containersOf(pod)) {
    if (!isDeepStrictEqual(securityContext, containerSecurity)) {
      yield `${name}: securityContext: ${JSON.stringify(securityContext)}`
    }
    if (ports.some(({ hostIP, hostPort }) => hostIP !== undefined || hostPort !== undefined)) yield `${name}: hostPort`
  }
}

function* settings(subject: Subject): Iterable<string> {
  const { container, environment, installation, pod, prefix, resources, service } = subject
  if (pod.enableServiceLinks !== false) yield "enableServiceLinks: Services add variables to the environment"
  const names = [...(container.env ?? []).map(({ name }) => name), ...environment.keys()]
  const referred = new Set(
    (container.env ?? []).flatMap(({ value = "" }) => [...value.matchAll(reference)].map(([, name]) => name))
  )
  for (const name of new Set(names)) {
    const isKnown = installation.facts.settings[service].has(name) || nodeSettings.has(name) || referred.has(name)
    if (!isKnown) yield `${service} has no setting ${name}`
  }
  const env = Object.fromEntries(environment)
  const exit = Effect.runSyncExit(settingsOf(subject).parse(ConfigProvider.fromEnv({ env })))
  if (Exit.isFailure(exit)) yield String(Cause.squash(exit.cause))
  const admin = settingOf(adminOf(subject), environment)
  if (admin?.host !== "0.0.0.0") {
    yield `${prefix}_ADMIN_HOST: ${admin?.host} is not reachable from outside the container`
  }

  for (const { configMapRef, secretRef } of container.envFrom ?? []) {
    // Kustomize's hash changes with the settings, so that pods are replaced
    if (!/-[a-z0-9]{10}$/.test(configMapRef?.name ?? "")) yield `${configMapRef?.name} has no hash in its name`
    if (secretRef !== undefined) yield "a change of settings in a Secret does not replace pods"
  }
  if (service === "marketplace") {
    yield* target(environment.get("RECOMMENDATIONS_TARGET") ?? "", resources)
    const isBehindProxy = ofKind(resources, "Ingress").length + ofKind(resources, "HTTPRoute").length > 0
    if (isBehindProxy && !environment.has("MARKETPLACE_TRUSTED_PROXIES")) {
      yield "MARKETPLACE_TRUSTED_PROXIES: all readers appear to have the addresses of the proxies"
    }
  } else if (!environment.has(`${prefix}_MAX_CONNECTION_AGE`))
    yield `${prefix}_MAX_CONNECTION_AGE is not set explicitly`
}

/** The gRPC target must be the DNS name of the Service, which has an address for each replica. */
function* target(target: string, resources: ReadonlyArray<Resource>): Iterable<string> {
  const { host, port } = partsOf(target)
  const isService = ofKind(resources, "Service").some(
    ({ metadata, spec }) =>
      namesOf(metadata).includes(host) &&
      metadata.name === "recommendations" &&
      spec?.ports?.some((one) => one.port === port)
  )
  if (!isService) yield `RECOMMENDATIONS_TARGET: ${target} is not the Service of Recommendations`
}

const partsOf = (target: string) => {
  const [, host = "", port] = /^dns:\/\/\/([^:/]+):(\d+)$/.exec(target) ?? []
  return { host, port: Number(port) }
}

/** The names of a Service in DNS. */
const namesOf = ({ name, namespace }: Resource["metadata"]): ReadonlyArray<string> => [
  name,
  `${name}.${namespace}`,
  `${name}.${namespace}.svc`,
  `${name}.${namespace}.svc.cluster.local`
]

function* image({ pod, service }: { readonly pod: Pod; readonly service: string }): Iterable<string> {
  for (const { image = "", name } of containersOf(pod)) {
    const [, repository = "", tag, digest] =
      /^([^:@]+(?::\d+\/[^:@]+)?)(?::([\w][\w.-]*))?(?:@(sha256:[0-9a-f]{64}))?$/.exec(image) ?? []
    if (tag === undefined && digest === undefined) yield `${name}: ${image} has neither a tag nor a digest`
    if (tag === "latest") yield `${name}: ${image} has a tag that moves`
    if (name === service && repository.split("/").at(-1) !== service)
      yield `${name}: ${image} is not the image of ${service}`
  }
}

const databaseSecret = "recommendations-database"

/** The connections that PostgreSQL allows by default, without those that are reserved for administrators. */
const maxConnections = 97

/** Replicas share a database, whose URL is secret. */
function* database({ container, environment, resources, service, spec }: Subject): Iterable<string> {
  const variables = (container.env ?? []).filter(({ name }) => name === "DATABASE_URL")
  const valueFrom = { secretKeyRef: { name: databaseSecret, key: "url" } }
  const expected = service === "recommendations" ? [{ name: "DATABASE_URL", valueFrom }] : []
  if (!isDeepStrictEqual(variables, expected)) yield `DATABASE_URL: ${JSON.stringify(variables)}`
  const perReplica = settingOf(Database.settings, environment)?.maxConnections
  if (service !== "recommendations" || perReplica === undefined) return
  const autoscaler = ofKind(resources, "HorizontalPodAutoscaler").find(({ metadata }) => metadata.name === service)
  const replicas = (autoscaler?.spec?.maxReplicas ?? spec.replicas ?? 0) + 1
  // one more for notifications
  const connections = replicas * (perReplica + 1)
  if (connections > maxConnections) yield `DATABASE_MAX_CONNECTIONS: ${replicas} replicas open ${connections}`
}

function* ports(subject: Subject): Iterable<string> {
  const { container, mainPort, environment, installation, prefix } = subject
  const number = (variable: string) => installation.facts.ports.get(variable)
  const expected = { [mainPort.name]: number(mainPort.variable), admin: number(`${prefix}_ADMIN_PORT`) }
  const actual = Object.fromEntries((container.ports ?? []).map(({ containerPort, name }) => [name, containerPort]))
  if (!isDeepStrictEqual(actual, expected)) yield `ports: ${JSON.stringify(actual)}, not ${JSON.stringify(expected)}`
  for (const { name, protocol = "TCP" } of container.ports ?? []) if (protocol !== "TCP") yield `${name}: ${protocol}`
  for (const variable of [mainPort.variable, `${prefix}_ADMIN_PORT`]) {
    if (environment.has(variable)) yield `${variable} changes the port`
  }
}

function* catalogue({ container, environment, installation, pod, resources, service }: Subject): Iterable<string> {
  const file = environment.get("CATALOG_FILE")
  if (installation.hasOwnCatalogue && service === "recommendations" && file === undefined) {
    yield "CATALOG_FILE is not set"
  }
  if (file === undefined) return
  const volume = pod.volumes?.find(({ name }) => name === mountOf(container, file)?.name)
  const data = ofKind(resources, "ConfigMap").find(({ metadata }) => metadata.name === volume?.configMap?.name)?.data
  if (data?.[file.slice(file.lastIndexOf("/") + 1)] === undefined) yield `CATALOG_FILE: ${file} does not exist`
  if (!/-[a-z0-9]{10}$/.test(volume?.configMap?.name ?? "")) yield "a change of the catalogue does not replace pods"
}

/** The mount of the volume that contains a file, if the whole volume is mounted. */
const mountOf = (container: Container, file: string) =>
  container.volumeMounts?.find(
    ({ mountPath, subPath, subPathExpr }) =>
      mountPath === file.slice(0, file.lastIndexOf("/")) && subPath === undefined && subPathExpr === undefined
  )

/** The names that cert-manager gives to the files of a certificate, by the variables for them. */
const tlsFiles: { readonly [S in Service]: { readonly [variable: string]: string } } = {
  recommendations: {
    RECOMMENDATIONS_TLS_CERT_FILE: "tls.crt",
    RECOMMENDATIONS_TLS_KEY_FILE: "tls.key",
    RECOMMENDATIONS_TLS_CLIENT_CA_FILE: "ca.crt"
  },
  marketplace: {
    MARKETPLACE_TLS_CERT_FILE: "tls.crt",
    MARKETPLACE_TLS_KEY_FILE: "tls.key",
    MARKETPLACE_TLS_CA_FILE: "ca.crt"
  }
}

/** The Certificate whose files a service uses, and their volume. */
const certificateOf = ({ container, environment, pod, prefix, resources }: Subject) => {
  const mount = mountOf(container, environment.get(`${prefix}_TLS_CERT_FILE`) ?? "")
  const volume = pod.volumes?.find(({ name }) => name === mount?.name)
  const certificate = ofKind(resources, "Certificate").find(
    ({ spec }) => spec?.secretName === volume?.secret?.secretName
  )
  return { certificate, mount, volume }
}

function* encryption(subject: Subject): Iterable<string> {
  const { environment, installation, pod, resources, service } = subject
  const variables = Object.entries(tlsFiles[service])
  if (!installation.isEncrypted) {
    for (const [variable] of variables) if (environment.has(variable)) yield `${variable} is set`
    return
  }
  const { certificate, mount, volume } = certificateOf(subject)
  if (mount === undefined) {
    yield "the certificate's volume is not mounted, or only a part of it, which is never updated"
  }
  for (const [variable, file] of variables) {
    if (environment.get(variable) !== `${mount?.mountPath}/${file}`) yield `${variable}: ${environment.get(variable)}`
  }
  if (mount?.readOnly !== true) yield "the certificate is not mounted read-only"
  if (volume?.secret?.defaultMode !== 0o440) yield `defaultMode: ${volume?.secret?.defaultMode?.toString(8)}, not 440`
  if (volume?.secret?.items !== undefined || volume?.secret?.optional === true) yield "not all files are mounted"
  if (!(Number.isInteger(pod.securityContext?.fsGroup) && pod.securityContext?.fsGroup !== 0)) {
    yield "fsGroup: only root can read the files"
  }

  if (certificate === undefined) return yield "no Certificate writes the Secret of the files"
  const spec: Partial<NonNullable<typeof certificate.spec>> = certificate.spec ?? {}
  const { dnsNames = [], duration, isCA, privateKey, renewBefore, uris = [], usages = [] } = spec
  const auth = service === "recommendations" ? "server auth" : "client auth"
  if (!isDeepStrictEqual(new Set(usages), new Set(["digital signature", auth]))) yield `usages: ${usages.join()}`
  if (privateKey?.rotationPolicy !== "Always") yield "rotationPolicy: a stolen key stays in use"
  if (!(goDuration(renewBefore) < goDuration(duration))) yield `renewBefore: ${renewBefore} of ${duration}`
  if (isCA === true) yield "the certificate of a service can sign others"

  if (service === "recommendations") {
    const client = subjectOf(installation, "marketplace")?.environment
    const name = client?.get("MARKETPLACE_TLS_SERVER_NAME") ?? partsOf(client?.get("RECOMMENDATIONS_TARGET") ?? "").host
    if (!dnsNames.includes(name)) yield `dnsNames: ${name} is missing, which clients verify`
    for (const { metadata } of ofKind(resources, "Service").filter(({ metadata }) => metadata.name === service)) {
      for (const name of namesOf(metadata)) if (!dnsNames.includes(name)) yield `dnsNames: ${name} is missing`
    }
  } else {
    const server = subjectOf(installation, "recommendations")
    const clients = server?.environment.get("RECOMMENDATIONS_TLS_ALLOWED_CLIENTS")?.split(",") ?? []
    if (clients.length === 0) yield "RECOMMENDATIONS_TLS_ALLOWED_CLIENTS: any certificate of the authority is accepted"
    for (const client of clients) {
      if (![...dnsNames, ...uris].includes(client.trim())) {
        yield `RECOMMENDATIONS_TLS_ALLOWED_CLIENTS: no certificate has the name ${client}`
      }
    }
    const other = server === undefined ? undefined : certificateOf(server).certificate
    if (!isDeepStrictEqual(other?.spec?.issuerRef, spec.issuerRef))
      yield "issuerRef: the services do not trust each other"
  }
}

function* monitoring({ deployment, installation, resources, service }: Subject): Iterable<string> {
  const monitors = ofKind(resources, "PodMonitor").filter(({ spec }) =>
    selects(spec.selector as LabelSelector, podLabels(deployment))
  )
  if (monitors.length !== (installation.isMonitored ? 1 : 0)) yield `${monitors.length} PodMonitors`
  for (const { metadata, spec } of monitors) {
    const [endpoint, ...more] = spec.podMetricsEndpoints ?? []
    const { interval, path = "/metrics", port, scheme = "http", scrapeTimeout } = endpoint ?? {}
    if (port !== "admin" || path !== "/metrics" || scheme.toLowerCase() !== "http" || more.length > 0) {
      yield "Prometheus does not scrape /metrics from the port admin"
    }
    // the alert rules use windows of 5 minutes, in which a few samples may be missing
    if (!(goDuration(interval) <= 30)) yield `interval: ${interval}`
    if (!(goDuration(scrapeTimeout) <= goDuration(interval))) yield `scrapeTimeout: ${scrapeTimeout} of ${interval}`
    // the job's default name
    const job = `${metadata.namespace}/${metadata.name}`
    if (spec.jobLabel !== undefined || !watchedJobs(installation.facts.groups).test(job) || !job.includes(service)) {
      yield `ReplicaDown does not match the job ${job}`
    }
  }
}

/** Matches the jobs of the alert ReplicaDown. */
const watchedJobs = (groups: unknown): RegExp => {
  const all = groups as ReadonlyArray<{
    readonly rules: ReadonlyArray<{ readonly alert?: string; readonly expr: string }>
  }>
  const rule = all.flatMap(({ rules }) => rules).find(({ alert }) => alert === "ReplicaDown")
  return new RegExp(`^(?:${/job=~"([^"]+)"/.exec(rule?.expr ?? "")?.[1] ?? "$^"})$`)
}

function* tracing(subject: Subject): Iterable<string> {
  const { environment, installation, resources } = subject
  const endpoint = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
  if ((endpoint !== undefined) !== installation.isTraced) yield `OTEL_EXPORTER_OTLP_ENDPOINT: ${endpoint}`
  if (endpoint === undefined || !URL.canParse(endpoint)) return
  const { hostname, port, protocol } = new URL(endpoint)
  const [, namespace = ""] = hostname.split(".")
  const collector = podIn(namespace, "the collector", {})
  const policies = ofKind(resources, "NetworkPolicy")
  const isAllowed = NetworkPolicies.allowed(policies, peerOf(subject), collector, {
    protocol: "TCP",
    port: Number(port)
  })
  if (protocol !== "http:" || !isAllowed) {
    yield `${endpoint} is not reachable`
  }
}

/** The guarantees for each service. */
export const ofServices: Rules<Subject> = {
  "has three replicas, or an autoscaler that starts at three": replicas,
  "rolls out one replica at a time without reducing their number": rollout,
  "rolls out no faster than clients find new replicas": pace,
  "has startup, readiness and liveness probes": probing,
  "has a grace period that is long enough to drain": termination,
  "requests CPU, memory and storage, with limits": resourcesOf,
  "is spread over nodes and zones": spread,
  "is disrupted one replica at a time": disruption,
  "has a Service with its name and port": service,
  "has its own ServiceAccount, without a token": account,
  "runs with restricted privileges": lockdown,
  "gets only settings that it knows, with valid values": settings,
  "runs a pinned version of its image": image,
  "exposes its default ports": ports,
  "has a catalogue": catalogue,
  "gets its database from a Secret, and does not exhaust its connections": database,
  "uses mutual TLS with a certificate of its own": encryption,
  "is scraped by Prometheus": monitoring,
  "reaches its collector": tracing
}

const podIn = (
  namespace: string,
  name: string,
  labels: { readonly [label: string]: string },
  more: { readonly ports?: { readonly [name: string]: number }; readonly namespaceLabels?: object } = {}
): NetworkPolicies.Peer => ({
  name,
  address: "10.244.0.9",
  pod: {
    namespace,
    // Kubernetes labels each namespace with its name
    namespaceLabels: { ...more.namespaceLabels, "kubernetes.io/metadata.name": namespace },
    labels,
    ports: more.ports ?? {}
  }
})

const peerOf = ({ deployment, resources }: Subject): NetworkPolicies.Peer => peerOfWorkload(deployment, resources)

const peerOfWorkload = (workload: Workload, resources: ReadonlyArray<Resource>): NetworkPolicies.Peer => {
  const { name, namespace = "" } = workload.metadata
  const containers = workload.spec?.template.spec?.containers ?? []
  const ports = Object.fromEntries(
    containers.flatMap(({ ports = [] }) => ports.map(({ containerPort, name = "" }) => [name, containerPort]))
  )
  const namespaceLabels = ofKind(resources, "Namespace").find(({ metadata }) => metadata.name === namespace)?.metadata
    .labels
  return podIn(namespace, name, podLabels(workload), { ports, namespaceLabels: namespaceLabels ?? {} })
}

const outside = (name: string, address: string): NetworkPolicies.Peer => ({ name, address })

/** The placeholder in the base, of a network that is reserved for documentation (RFC 5737). */
const databaseAddress = "192.0.2.1"

/** PostgreSQL's default. */
const databasePort = 5432

/** Whether a connection to or from another peer is needed. */
type IsNeeded = (other: NetworkPolicies.Peer, port: NetworkPolicies.Port) => boolean

/** The connections that each pod accepts and opens. Each side is checked by itself, so that neither relies on the other. */
function* network(installation: Installation): Iterable<string> {
  const { facts, resources } = installation
  const policies = ofKind(resources, "NetworkPolicy")
  for (const { metadata, spec } of policies) {
    // the defaults of policyTypes depend on the other fields
    const isExplicit = ({ egress, ingress, policyTypes = [] }: NonNullable<typeof spec>) =>
      (ingress === undefined || policyTypes.includes("Ingress")) &&
      (egress === undefined || policyTypes.includes("Egress"))
    if (!isExplicit(spec ?? {})) yield `${metadata.name} does not set policyTypes`
  }
  const denied = { podSelector: {}, policyTypes: ["Ingress", "Egress"] }
  if (!policies.some(({ spec }) => isDeepStrictEqual(spec, denied))) {
    yield "no policy denies all other connections of every pod"
  }

  const [server, client] = services.map((service) => subjectOf(installation, service))
  if (server === undefined || client === undefined) return
  const portOf = (variable: string) => facts.ports.get(variable) ?? 0
  const http = portOf("MARKETPLACE_HTTP_PORT")
  const grpc = portOf("RECOMMENDATIONS_GRPC_PORT")
  const clientAdmin = portOf("MARKETPLACE_ADMIN_PORT")
  const serverAdmin = portOf("RECOMMENDATIONS_ADMIN_PORT")

  const { namespace = "" } = server.deployment.metadata
  const recommendations = peerOf(server)
  const marketplace = peerOf(client)
  const [own] = ofKind(resources, "StatefulSet")
  // the address of a database that somebody else runs is a placeholder
  const database = own === undefined ? outside("the database", databaseAddress) : peerOfWorkload(own, resources)
  // pods with ports of the same names must not be matched
  const named = { ports: { ...marketplace.pod?.ports, ...recommendations.pod?.ports, ...database.pod?.ports } }
  const neighbour = podIn(namespace, "another pod of the namespace", { "app.kubernetes.io/name": "neighbour" }, named)
  const solver = podIn(namespace, "cert-manager's ACME solver", {
    "acme.cert-manager.io/http01-solver": "true"
  })
  const dns = podIn("kube-system", "the name server", { "k8s-app": "kube-dns" })
  const nodeDns = outside("the name server of the node", "169.254.20.10")
  const monitoring = [
    podIn("monitoring", "Prometheus", { "app.kubernetes.io/name": "prometheus" }),
    podIn("monitoring", "the collector", { "app.kubernetes.io/name": "opentelemetry-collector" })
  ]
  const others: ReadonlyArray<NetworkPolicies.Peer> = [
    recommendations,
    marketplace,
    database,
    neighbour,
    dns,
    nodeDns,
    ...monitoring,
    podIn("default", "a pod of another namespace", {}),
    podIn("default", "Marketplace of another namespace", marketplace.pod?.labels ?? {}, named),
    podIn("default", "Recommendations of another namespace", recommendations.pod?.labels ?? {}, named),
    podIn("default", "a name server of another namespace", { "k8s-app": "kube-dns" }),
    podIn("kube-system", "another pod of the system", {}),
    outside("the cloud's metadata service", "169.254.169.254"),
    outside("the Kubernetes API", "172.20.0.1"),
    outside("the internet", "203.0.113.7"),
    outside("the internet (IPv6)", "2001:db8::7")
  ]
  const ports: ReadonlyArray<NetworkPolicies.Port> = [
    ...[53, 80, 443, 4317, 4318, databasePort, 8089, http, grpc, clientAdmin, serverAdmin].map(
      (port) => ({ port, protocol: "TCP" }) as const
    ),
    ...[53, 443, http, grpc].map((port) => ({ port, protocol: "UDP" }) as const)
  ]

  const isDns: IsNeeded = (other, { port }) => (other === dns || other === nodeDns) && port === 53
  const isTcp =
    (number: number, ...of: ReadonlyArray<NetworkPolicies.Peer>): IsNeeded =>
    (other, { port, protocol }) =>
      protocol === "TCP" && port === number && of.includes(other)
  const isCollector = isTcp(4318, ...monitoring)
  const expected: ReadonlyArray<readonly [NetworkPolicies.Peer, NetworkPolicies.Direction, ReadonlyArray<IsNeeded>]> = [
    [recommendations, "Ingress", [isTcp(grpc, marketplace), isTcp(serverAdmin, ...monitoring)]],
    [recommendations, "Egress", [isDns, isCollector, isTcp(databasePort, database)]],
    [marketplace, "Ingress", [isTcp(http, ...others), isTcp(clientAdmin, ...monitoring)]],
    [marketplace, "Egress", [isDns, isCollector, isTcp(grpc, recommendations)]],
    ...(own === undefined
      ? []
      : ([
          [database, "Ingress", [isTcp(databasePort, recommendations)]],
          [database, "Egress", [isDns]]
        ] as const)),
    [neighbour, "Ingress", []],
    [solver, "Ingress", ofKind(resources, "Ingress").length > 0 ? [isTcp(8089, ...others)] : []],
    [neighbour, "Egress", [isDns]]
  ]
  for (const [self, direction, rules] of expected) {
    for (const other of others) {
      for (const port of ports) {
        const isAllowed = NetworkPolicies.allows(policies, direction, self, other, port)
        if (isAllowed === rules.some((rule) => rule(other, port))) continue
        const [from, to] = direction === "Ingress" ? [other, self] : [self, other]
        const what = `${from.name} to ${to.name}, ${port.protocol} ${port.port}`
        yield `${direction} of ${self.name} ${isAllowed ? "allows" : "denies"} ${what}`
      }
    }
  }
}

/** PostgreSQL in one pod, where it is a part of the installation. */
function* postgres({ hasOwnDatabase, resources }: Installation): Iterable<string> {
  const sets = ofKind(resources, "StatefulSet")
  const secrets = ofKind(resources, "Secret").filter(({ metadata: { name } }) => name === databaseSecret)
  if (sets.length !== (hasOwnDatabase ? 1 : 0)) yield `${sets.length} StatefulSets`
  if (secrets.length !== (hasOwnDatabase ? 1 : 0)) yield `${secrets.length} Secrets ${databaseSecret}`
  for (const set of sets) {
    const { name } = set.metadata
    const pod = set.spec?.template.spec
    const container = pod?.containers[0]
    if (!pod || container === undefined || pod.containers.length !== 1) {
      yield "the database is not a pod of one container"
      continue
    }
    yield* lockdownOf(set, pod, 999)
    yield* resourcesOf({ container, pod })
    yield* image({ pod, service: "postgres" })
    if (set.spec?.replicas !== 1) yield `replicas: ${set.spec?.replicas}: each pod has data of its own`
    if (pod.automountServiceAccountToken !== false) yield "automountServiceAccountToken: the database gets a token"
    if (pod.enableServiceLinks !== false) yield "enableServiceLinks: Services add variables to the environment"
    if (!((pod.terminationGracePeriodSeconds ?? 0) >= 60)) yield "the grace period is too short for a checkpoint"
    if (pod.securityContext?.fsGroup !== 999) yield "fsGroup: only root can write to the volume"
    if (pod.securityContext?.fsGroupChangePolicy !== "OnRootMismatch") {
      yield "fsGroupChangePolicy: PostgreSQL refuses files that its group may write"
    }

    const environment = environmentOf(container, resources)
    const passwords = (container.env ?? []).filter(({ valueFrom }) => valueFrom !== undefined)
    const valueFrom = { secretKeyRef: { name: databaseSecret, key: "password" } }
    if (!isDeepStrictEqual(passwords, [{ name: "POSTGRES_PASSWORD", valueFrom }])) yield "the password is not secret"
    yield* databaseUrl(name, environment, secrets[0])

    const [claim, ...claims] = set.spec?.volumeClaimTemplates ?? []
    const mount = container.volumeMounts?.find(({ name }) => name === claim?.metadata?.name)
    const isPlain = mount?.subPath === undefined && mount?.subPathExpr === undefined && mount?.readOnly !== true
    if (claims.length > 0 || !isPlain) yield "the data is not on a volume of its own"
    if (!isDeepStrictEqual(claim?.spec?.accessModes, ["ReadWriteOnce"])) yield "the volume is not for one node"
    if (!(quantity(claim?.spec?.resources?.requests?.["storage"]) >= 2 ** 30)) yield "the volume is below 1 GiB"
    // the folder of a volume belongs to root
    if (!environment.get("PGDATA")?.startsWith(`${mount?.mountPath}/`)) yield "PGDATA is not below the volume"
    const writable = (container.volumeMounts ?? []).filter((one) => one !== mount).map(({ mountPath }) => mountPath)
    if (!isDeepStrictEqual(writable.toSorted(), ["/tmp", "/var/run/postgresql"])) yield `writable: ${writable.join()}`
    for (const { emptyDir, name } of pod.volumes ?? []) {
      if (!(quantity(emptyDir?.sizeLimit) <= 2 ** 24)) yield `volume ${name}: a pod could fill the disk of its node`
    }

    const command = [
      "pg_isready",
      "--host=127.0.0.1",
      `--username=${environment.get("POSTGRES_USER")}`,
      `--dbname=${environment.get("POSTGRES_DB")}`
    ]
    const budgets = { startupProbe: [300, 900], readinessProbe: [5, 15], livenessProbe: [30, 120] } as const
    for (const [probe, [from, to]] of Object.entries(budgets)) {
      const {
        exec,
        failureThreshold = 0,
        periodSeconds = 0,
        timeoutSeconds = 0
      } = container[probe as keyof typeof budgets] ?? {}
      if (!isDeepStrictEqual(exec?.command, command)) yield `${probe}: does not run ${command.join(" ")}`
      const budget = failureThreshold * periodSeconds
      if (budget < from || budget > to) yield `${probe}: acts after ${budget} s, not ${from} to ${to}`
      if (timeoutSeconds < 2 || timeoutSeconds > 5) yield `${probe}: has a timeout of ${timeoutSeconds} s`
    }
    if (
      !isDeepStrictEqual(
        container.ports?.map(({ containerPort, name }) => [name, containerPort]),
        [[name, databasePort]]
      )
    ) {
      yield `the container does not have the port ${databasePort} alone`
    }
    const services = ofKind(resources, "Service").filter(({ spec }) =>
      selects({ matchLabels: spec?.selector ?? {} }, podLabels(set))
    )
    if (services.length !== 1 || services[0]?.metadata.name !== set.spec?.serviceName)
      yield `${services.length} Services`
    for (const { metadata, spec } of services) {
      if (metadata.name !== name) yield `the Service of the database has the name ${metadata.name}`
      if (!isDeepStrictEqual(spec?.ports, [{ name, port: databasePort, targetPort: name }]))
        yield "the Service has other ports"
      if (!isDeepStrictEqual(spec?.selector, set.spec?.selector.matchLabels)) yield "the Service selects other pods too"
      if ((spec?.type ?? "ClusterIP") !== "ClusterIP") yield "the database is reachable from outside the cluster"
    }
  }
}

/** The URL in a Secret must be that of the database. */
function* databaseUrl(
  host: string,
  environment: ReadonlyMap<string, string>,
  secret: Of<"Secret"> | undefined
): Iterable<string> {
  const { password = "", url = "" } = secret?.stringData ?? {}
  const [user, name] = ["POSTGRES_USER", "POSTGRES_DB"].map((variable) => environment.get(variable))
  const expected = `postgres://${user}:${password}@${host}:${databasePort}/${name}?sslmode=disable`
  if (password === "" || url !== expected) yield `url: ${url}, not ${expected}`
}

function* admission({ resources }: Installation): Iterable<string> {
  const ofPods = new Set(workloadsOf(resources).map(({ metadata: { namespace } }) => namespace))
  const namespaces = ofKind(resources, "Namespace").filter(({ metadata: { name } }) => ofPods.has(name))
  if (namespaces.length !== 1) yield `the pods are in ${namespaces.length} namespaces`
  for (const { metadata } of namespaces) {
    for (const mode of ["enforce", "warn", "audit"]) {
      if (metadata.labels?.[`pod-security.kubernetes.io/${mode}`] !== "restricted")
        yield `pod-security.kubernetes.io/${mode} is not restricted`
    }
  }
}

/** How readers reach Marketplace: by a load balancer, an Ingress or a Gateway. */
function* entrance({ facts, isRouted, resources }: Installation): Iterable<string> {
  const service = ofKind(resources, "Service").find(({ metadata }) => metadata.name === "marketplace")
  const port = facts.ports.get("MARKETPLACE_HTTP_PORT")
  const ingresses = ofKind(resources, "Ingress")
  const gateways = ofKind(resources, "Gateway")
  const routes = ofKind(resources, "HTTPRoute")
  const hasWay = ingresses.length > 0 || gateways.length > 0
  if (hasWay !== isRouted) yield `${ingresses.length} Ingresses and ${gateways.length} Gateways`
  const type = isRouted ? "ClusterIP" : "LoadBalancer"
  if (service?.spec?.type !== type) yield `the Service of Marketplace is a ${service?.spec?.type}, not a ${type}`

  for (const { spec } of ingresses) {
    const hosts = new Set(spec?.tls?.flatMap(({ hosts = [], secretName }) => (secretName === undefined ? [] : hosts)))
    if ((spec?.rules ?? []).length === 0) yield "the Ingress has no rules"
    if (spec?.ingressClassName === undefined) yield "the Ingress has no class"
    for (const { host = "", http } of spec?.rules ?? []) {
      if (!hosts.has(host)) yield `${host} is served without TLS`
      const isWhole = http?.paths.some(
        ({ backend, path, pathType }) =>
          path === "/" && pathType === "Prefix" && backend.service?.name === "marketplace"
      )
      if (isWhole !== true) yield `${host} is not routed to Marketplace`
    }
  }
  for (const { metadata, spec } of gateways) {
    for (const { hostname, name, protocol, tls } of spec.listeners) {
      if (hostname === undefined) yield `${name} accepts every host`
      const rules = routes
        .filter((route) =>
          route.spec.parentRefs?.some(
            (to) =>
              to.name === metadata.name &&
              (to.namespace ?? route.metadata.namespace) === metadata.namespace &&
              to.sectionName === name
          )
        )
        .flatMap(({ spec }) => (spec.hostnames?.some((host) => host === hostname) === true ? (spec.rules ?? []) : []))
      if (rules.length === 0) yield `${name} has no routes`
      for (const { backendRefs = [], filters = [] } of rules) {
        const toHttps = filters.some(
          ({ requestRedirect, type }) =>
            type === "RequestRedirect" && requestRedirect?.scheme === "https" && requestRedirect.statusCode === 301
        )
        const toMarketplace = backendRefs.some((to) => to.name === "marketplace" && to.port === port)
        if (protocol === "HTTP" && (!toHttps || backendRefs.length > 0)) yield `${name} does not redirect to HTTPS`
        if (protocol === "HTTPS" && !toMarketplace) yield `${name} is not routed to Marketplace`
      }
      if (protocol === "HTTPS" && (tls?.mode !== "Terminate" || (tls.certificateRefs ?? []).length === 0)) {
        yield `${name} has no certificate`
      }
    }
    // cert-manager's route is in the namespace of the Gateway
    const acceptsChallenges = spec.listeners.some(
      ({ allowedRoutes, protocol }) =>
        protocol === "HTTP" && KubernetesReferences.acceptsRoutes(allowedRoutes, metadata.namespace, metadata.namespace)
    )
    if (!acceptsChallenges) yield "cert-manager's ACME challenges are not routed"
    if (!spec.listeners.some(({ protocol }) => protocol === "HTTPS")) yield "the Gateway has no HTTPS listener"
    if (!spec.listeners.some(({ protocol }) => protocol === "HTTP")) yield "the Gateway has no HTTP listener"
  }
}

/** Kustomize adds blank lines to some queries, which Prometheus ignores. */
const withoutBlankLines = (groups: unknown): unknown =>
  JSON.parse(JSON.stringify(groups).replaceAll(/(\\n)+/g, String.raw`\n`))

function* alerts({ facts, isMonitored, resources }: Installation): Iterable<string> {
  const rules = ofKind(resources, "PrometheusRule")
  if (rules.length !== (isMonitored ? 1 : 0)) yield `${rules.length} PrometheusRules`
  for (const { spec } of rules) {
    if (!isDeepStrictEqual(withoutBlankLines(spec.groups), withoutBlankLines(facts.groups))) {
      yield "the groups differ from ops/prometheus/rules.yaml"
    }
  }
}

function* authority({ isEncrypted, resources }: Installation): Iterable<string> {
  const certificates = ofKind(resources, "Certificate")
  if (!isEncrypted && certificates.length > 0) yield `${certificates.length} certificates`
  const leaves = certificates.filter(({ spec }) => spec?.isCA !== true)
  for (const { metadata, spec } of leaves) {
    const issuer = ofKind(resources, "Issuer").find((one) => one.metadata.name === spec?.issuerRef.name)
    const ca = certificates.find((one) => one.spec?.secretName === issuer?.spec.ca?.secretName)?.spec
    if (ca?.isCA !== true) {
      yield `${metadata.name} is not signed by the authority`
      continue
    }
    const own = ofKind(resources, "Issuer").find((one) => one.metadata.name === ca.issuerRef.name)
    if (own?.spec.selfSigned === undefined) yield "the authority is not self-signed"
    // both sides must trust a new key before it signs
    if (ca.privateKey?.rotationPolicy !== "Never") yield "the authority's key is rotated automatically"
    if (!(goDuration(ca.renewBefore) < goDuration(ca.duration))) yield "the authority is renewed never or continuously"
    if (!(goDuration(ca.renewBefore) > goDuration(spec?.duration))) yield `${metadata.name} can outlive its authority`
    if ((ca.commonName ?? "") === "") yield "the authority has no name"
  }
}

function* labels({ resources }: Installation): Iterable<string> {
  for (const { kind, metadata } of resources) {
    if (metadata.labels?.["app.kubernetes.io/part-of"] !== "online-books") {
      yield `${kind} ${metadata.name} lacks the label part-of`
    }
  }
}

/** The guarantees for an installation as a whole. */
export const ofInstallations: Rules<Installation> = {
  "has a common label": labels,
  "admits only restricted pods to its namespace": admission,
  "allows exactly the connections that are needed": network,
  "exposes Marketplace in one way": entrance,
  "has a database of its own, or none": postgres,
  "has the alerts of ops/": alerts,
  "has an authority that outlives its certificates": authority
}

/** All violations of an installation. */
export const violations = (installation: Installation): ReadonlyArray<string> => {
  const { resources } = installation
  const bySchema = resources.flatMap((resource) =>
    KubernetesSchema.violations(resource).map((violation) => `${KubernetesReferences.nameOf(resource)}: ${violation}`)
  )
  // the rules rely on valid resources
  if (bySchema.length > 0) return bySchema
  return [
    ...KubernetesReferences.violations(resources),
    ...Object.values(ofInstallations).flatMap((rule) => [...rule(installation)]),
    ...services.flatMap((service) =>
      Object.keys(ofServices).flatMap((guarantee) =>
        ofService(installation, service, guarantee).map((violation) => `${service}: ${violation}`)
      )
    )
  ]
}

/** The violations of one guarantee of a service. */
export const ofService = (installation: Installation, service: Service, guarantee: string): ReadonlyArray<string> => {
  const subject = subjectOf(installation, service)
  return subject === undefined
    ? [`the Deployment ${service} is missing`]
    : [...(ofServices[guarantee]?.(subject) ?? [])]
}
