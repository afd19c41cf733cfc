/**
 * The shop under rehearsal: the manifests of a folder, installed in a namespace of their own.
 */
import { Context, DateTime, Effect, FileSystem, Layer, Option, Path, Redacted, Schedule, Schema } from "effect"

import * as Kustomize from "../system/Kustomize.ts"
import * as Kubectl from "./Kubectl.ts"
import * as Scripts from "./Scripts.ts"

/** The namespaces of a run: the shop, the readers, and one that the shop's network policies allow. */
export const namespaces = {
  shop: "online-books-rehearsal",
  readers: "online-books-rehearsal-readers",
  monitoring: "online-books-rehearsal-monitoring"
} as const

export const services = ["recommendations", "marketplace"] as const
export type Service = (typeof services)[number]

/** Marks what a run has made. Its value is the time at which the run was last alive, in milliseconds since the epoch. */
const mark = "online-books-rehearsal/renewed"
const markedLabel = "online-books-rehearsal"

const renewal = "10 seconds"

/** A run that has not renewed its mark for this long has ended, in milliseconds. */
const expiry = 60_000

export class NamespaceInUse extends Schema.TaggedError<NamespaceInUse>()("NamespaceInUse", {
  namespace: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `Namespace ${this.namespace} exists: ${this.reason}`
  }
}

/** Changes of the manifests, in Kustomize's terms. */
export interface Changes {
  /** Lines NAME=VALUE, merged into the settings of a service. */
  readonly settings?: Partial<Record<Service, ReadonlyArray<string>>>
  readonly images?: Partial<Record<Service, string>>
  /** Folders, relative to the project's root. */
  readonly components?: ReadonlyArray<string>
  readonly patches?: ReadonlyArray<Patch>
}

export interface Patch {
  readonly target: { readonly kind: string; readonly name?: string }
  /** A JSON patch (RFC 6902) as an array, or a strategic merge patch. */
  readonly patch: unknown
}

interface Autoscaler extends Kubectl.Resource {
  readonly spec: { readonly minReplicas: number }
}

interface Deployment extends Kubectl.Resource {
  readonly spec: { readonly replicas: number }
  readonly status: {
    readonly observedGeneration?: number
    readonly replicas?: number
    readonly updatedReplicas?: number
    readonly availableReplicas?: number
  }
}

export interface Pod extends Kubectl.Resource {
  readonly spec: { readonly nodeName?: string }
  readonly status: {
    readonly podIP?: string
    readonly phase: string
    readonly conditions?: ReadonlyArray<{ readonly type: string; readonly status: string }>
    readonly containerStatuses?: ReadonlyArray<{
      readonly restartCount: number
      readonly state: { readonly waiting?: { readonly reason: string } }
    }>
  }
}

export const isReady = ({ metadata, status }: Pod): boolean =>
  metadata.deletionTimestamp === undefined &&
  status.conditions?.some(({ status, type }) => type === "Ready" && status === "True") === true

/** Runs kubectl in the namespace of the shop. */
export const run = (args: ReadonlyArray<string>, stdin?: unknown) =>
  Kubectl.run(["--namespace", namespaces.shop, ...args], stdin)

const allPods = (service: Service | "postgres") =>
  Kubectl.list<Pod>("pods", "--namespace", namespaces.shop, "--selector", `app.kubernetes.io/name=${service}`)

/** The pods of a service that are not being deleted. */
export const pods = (service: Service | "postgres") =>
  Effect.map(allPods(service), (all) => all.filter(({ metadata }) => metadata.deletionTimestamp === undefined))

const autoscalers = Kubectl.list<Autoscaler>("horizontalpodautoscalers", "--namespace", namespaces.shop)

const deployment = (service: Service) => Kubectl.get<Deployment>("deployment", service, "--namespace", namespaces.shop)

/** Whether all replicas of a service are available, of the current version, and the only pods. */
const isSettled = Effect.fnUntraced(function* (service: Service) {
  const { metadata, spec, status } = yield* deployment(service)
  const autoscaler = (yield* autoscalers).find(({ metadata }) => metadata.name === service)
  const live = (yield* allPods(service)).filter(({ status }) => !["Failed", "Succeeded"].includes(status.phase))
  return (
    (status.observedGeneration ?? 0) >= (metadata.generation ?? 0) &&
    spec.replicas >= (autoscaler?.spec.minReplicas ?? 1) &&
    [status.replicas, status.updatedReplicas, status.availableReplicas].every((count) => count === spec.replicas) &&
    live.length === spec.replicas &&
    live.every(isReady)
  )
})

/** Waits until both services are settled. */
export const settled = Effect.forEach(services, (service) =>
  Kubectl.until(`all replicas of ${service} available`, isSettled(service))
)

/** Waits until PostgreSQL is ready, if it is a part of the manifests. */
export const databaseSettled = Kubectl.until(
  "the database ready",
  Effect.map(allPods("postgres"), (all) => all.every(isReady))
)

export const replicas = (service: Service) => Effect.map(deployment(service), ({ spec }) => spec.replicas)

/** Restarts both services at once, as `kubectl rollout restart` does, and waits. */
export const restart = Effect.andThen(run(["rollout", "restart", "deployment"]), settled)

export type Images = Partial<Record<Service, string>>

export interface Options {
  /** The folder of the manifests. */
  readonly folder: string
  readonly images: Images
  /** Images of the version before. */
  readonly previous?: Images | undefined
  /** The URL of a PostgreSQL. Without one, `components/postgres` is added where the manifests lack it. */
  readonly databaseUrl?: Redacted.Redacted | undefined
}

export class Shop extends Context.Service<
  Shop,
  {
    /** The image of Marketplace, which has Node. */
    readonly image: string
    /** Whether the manifests have mutual TLS between the services. */
    readonly isSecured: boolean
    readonly hasAutoscalers: boolean
    /** Whether PostgreSQL is a part of the manifests. */
    readonly hasDatabase: boolean
    /** Images of the version before. */
    readonly previous: Images | undefined
    /** The address of the shop inside of the cluster. */
    readonly url: string
    /** Applies the manifests with changes, and without those of earlier calls. Does not wait. */
    readonly apply: (changes: Changes) => Effect.Effect<void, Kubectl.KubectlError, Kubectl.Kubectl>
  }
>()("onlinebooks/test/cluster/Shop") {
  /** Installs the manifests of a folder, and removes all namespaces of the run at the end. */
  static readonly layer = ({ databaseUrl, folder, images, previous }: Options) =>
    Layer.effect(
      Shop,
      Effect.gen(function* () {
        const rendered = yield* Kustomize.render(folder)
        yield* claim
        const apply = yield* makeApply(folder, rendered, images, databaseChanges(rendered, databaseUrl))
        yield* apply({})
        yield* Scripts.install(namespaces.readers)
        yield* databaseSettled
        yield* settled
        const { spec } = yield* Kubectl.get<{ readonly spec: { readonly clusterIP: string } }>(
          "service",
          "marketplace",
          "--namespace",
          namespaces.shop
        )
        return {
          image: images.marketplace ?? imageOf(rendered, "marketplace"),
          isSecured: rendered.some((resource) => JSON.stringify(resource).includes("RECOMMENDATIONS_TLS_CERT_FILE")),
          hasAutoscalers: rendered.some(({ kind }) => kind === "HorizontalPodAutoscaler"),
          hasDatabase: databaseUrl === undefined,
          previous,
          url: `http://${spec.clusterIP}:5000/`,
          apply
        }
      })
    )
}

/** Makes the namespaces of the run, and removes them at the end of the scope. The first one to be made is the lock. */
const claim = Effect.gen(function* () {
  yield* requireNoOther
  yield* remove
  const create = Effect.fnUntraced(function* (name: string) {
    const labels = { [markedLabel]: "true", "pod-security.kubernetes.io/enforce": "restricted" }
    const metadata = { name, labels, annotations: { [mark]: yield* now } }
    yield* Kubectl.run(["create", "--filename", "-"], { apiVersion: "v1", kind: "Namespace", metadata })
  })
  const [first, ...others] = Object.values(namespaces)
  yield* Effect.acquireRelease(create(first!), () => Effect.orDie(remove))
  yield* Effect.forEach(others, create)
  const renew = Effect.flatMap(now, (time) =>
    Kubectl.run(["annotate", "--overwrite", "namespace", ...Object.values(namespaces), `${mark}=${time}`])
  )
  yield* Effect.forkScoped(Effect.repeat(Effect.ignore(renew), Schedule.spaced(renewal)))
})

const now = Effect.map(DateTime.now, (time) => String(DateTime.toEpochMillis(time)))

const found = Effect.map(Kubectl.list("namespaces"), (all) =>
  all.filter(({ metadata }) => Object.values<string>(namespaces).includes(metadata.name))
)

/** Fails if a namespace of these names is not ours, or belongs to a run that is still alive. */
export const requireNoOther = Effect.gen(function* () {
  for (const { metadata } of yield* found) {
    const namespace = metadata.name
    if (metadata.labels?.[markedLabel] === undefined) {
      return yield* new NamespaceInUse({ namespace, reason: "no rehearsal has made it" })
    }
    const age = Number(yield* now) - Number(metadata.annotations?.[mark] ?? 0)
    if (age < expiry && metadata.deletionTimestamp === undefined) {
      return yield* new NamespaceInUse({ namespace, reason: `a rehearsal used it ${Math.round(age / 1_000)} s ago` })
    }
  }
})

/** Removes the namespaces of a run, without waiting for pods to drain. */
export const remove = Effect.gen(function* () {
  const ours = (yield* found).filter(({ metadata }) => metadata.labels?.[markedLabel] !== undefined)
  const names = ours.map(({ metadata }) => metadata.name)
  if (names.length === 0) return
  yield* Kubectl.run(["delete", "namespace", ...names, "--wait=false"])
  for (const name of names) {
    yield* Effect.ignore(Kubectl.run(["delete", "pods", "--all", "--namespace", name, "--grace-period=1"]))
  }
  yield* Kubectl.until(
    `namespaces ${names.join(", ")} removed`,
    Effect.map(found, (left) => !left.some(({ metadata }) => names.includes(metadata.name)))
  )
})

/** Writes an overlay of the manifests for each change, and applies it. */
const makeApply = Effect.fnUntraced(function* (
  folder: string,
  rendered: ReadonlyArray<Kustomize.Resource>,
  images: Images,
  database: object & Pick<Changes, "components" | "patches">
) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  // kustomize needs a relative path without symbolic links
  const overlay = yield* Effect.flatMap(fs.makeTempDirectoryScoped({ prefix: "rehearsal-" }), fs.realPath)
  const relative = (to: string) => Effect.map(fs.realPath(to), (real) => path.relative(overlay, real))
  const resource = yield* relative(folder)
  const original = rendered.find(({ kind }) => kind === "Deployment")?.metadata.namespace
  return Effect.fnUntraced(
    function* (changes: Changes) {
      const kustomization = {
        ...database,
        apiVersion: "kustomize.config.k8s.io/v1beta1",
        kind: "Kustomization",
        namespace: namespaces.shop,
        resources: [resource],
        components: yield* Effect.forEach([...(database.components ?? []), ...(changes.components ?? [])], relative),
        images: services.flatMap((service) => {
          const image = changes.images?.[service] ?? images[service]
          return image === undefined ? [] : [{ name: nameOf(imageOf(rendered, service)), ...toKustomize(image) }]
        }),
        configMapGenerator: Object.entries(changes.settings ?? {}).map(([name, literals]) => ({
          name,
          namespace: original,
          behavior: "merge",
          literals
        })),
        patches: [...withoutExposure(rendered), ...(database.patches ?? []), ...(changes.patches ?? [])].map(
          ({ patch, target }) => ({
            target,
            patch: JSON.stringify(patch)
          })
        )
      }
      yield* fs.writeFileString(path.join(overlay, "kustomization.yaml"), JSON.stringify(kustomization))
      yield* Kubectl.run(["apply", "--server-side", "--force-conflicts", "--kustomize", overlay])
    },
    Effect.catchTag("PlatformError", (error) => Effect.die(error))
  )
})

const databaseSecret = "recommendations-database"

/** The fields of a kustomization that give the shop its database. */
const databaseChanges = (rendered: ReadonlyArray<Kustomize.Resource>, databaseUrl: Redacted.Redacted | undefined) => {
  if (databaseUrl === undefined) {
    const isThere = rendered.some(({ kind, metadata }) => kind === "StatefulSet" && metadata.name === "postgres")
    return { components: isThere ? [] : ["k8s/components/postgres"] }
  }
  const url = Redacted.value(databaseUrl)
  const hasSecret = rendered.some(({ kind, metadata }) => kind === "Secret" && metadata.name === databaseSecret)
  const ports = [{ protocol: "TCP", port: Number(new URL(url).port || 5432) }]
  return {
    ...(hasSecret
      ? {}
      : {
          secretGenerator: [
            { name: databaseSecret, literals: [`url=${url}`], options: { disableNameSuffixHash: true } }
          ]
        }),
    patches: [
      // the address of a name is not known to a policy
      {
        target: { kind: "NetworkPolicy", name: databaseSecret },
        patch: [{ op: "replace", path: "/spec/egress/0", value: { ports } }]
      },
      ...(hasSecret
        ? [
            {
              target: { kind: "Secret", name: databaseSecret },
              patch: [{ op: "replace", path: "/stringData/url", value: url }]
            }
          ]
        : [])
    ]
  }
}

/** Nothing of a rehearsal can be reached from outside of the cluster, and nothing pays for a load balancer. */
const withoutExposure = (rendered: ReadonlyArray<Kustomize.Resource>): ReadonlyArray<Patch> => [
  ...rendered
    .filter(({ kind }) => kind === "Service")
    .map(({ metadata: { name } }) => ({ target: { kind: "Service", name }, patch: asClusterIp })),
  ...["Ingress", "Gateway", "HTTPRoute"].map((kind) => ({
    target: { kind },
    patch: { $patch: "delete", apiVersion: "v1", kind, metadata: { name: "any" } }
  }))
]

/** A ClusterIP has none of these fields. */
const asClusterIp = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "any" },
  spec: {
    type: "ClusterIP",
    externalTrafficPolicy: null,
    loadBalancerClass: null,
    loadBalancerSourceRanges: null,
    healthCheckNodePort: null
  }
}

const imageOf = (rendered: ReadonlyArray<Kustomize.Resource>, service: Service): string =>
  Option.fromNullishOr(
    rendered.find(({ kind, metadata }) => kind === "Deployment" && metadata.name === service) as
      | (Kustomize.Resource & { readonly spec: { readonly template: { readonly spec: PodSpec } } })
      | undefined
  ).pipe(
    Option.map(({ spec }) => spec.template.spec.containers[0]?.image ?? ""),
    Option.getOrElse(() => "")
  )

interface PodSpec {
  readonly containers: ReadonlyArray<{ readonly image: string }>
}

/** The parts of an image: its name, and its tag or digest. A registry may have a port. */
const partsOf = (image: string) => /^(.+?)(?::([\w.-]+))?(?:@(sha256:\w+))?$/.exec(image) ?? []

const nameOf = (image: string): string => partsOf(image)[1] ?? image

const toKustomize = (image: string) => {
  const [, newName, newTag, digest] = partsOf(image)
  return { newName, ...(digest === undefined ? { newTag: newTag ?? "latest" } : { digest }) }
}
