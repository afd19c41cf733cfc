/**
 * What the rendered manifests say of how replicas run, in the form that the cluster in little goes by. What a manifest leaves
 * out is as Kubernetes has it by default.
 */
import { Duration, Effect, Schema } from "effect"

import type { Resource } from "./Kustomize.ts"

/** Manifests that the cluster in little cannot perform: something in them is missing, or is more than it knows of. */
export class ManifestError extends Schema.TaggedError<ManifestError>()("ManifestError", {
  resource: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.resource}: ${this.reason}`
  }
}

/** A probe that asks by HTTP. */
export interface Probe {
  readonly path: string
  readonly port: number
  readonly initialDelay: Duration.Duration
  readonly period: Duration.Duration
  readonly timeout: Duration.Duration
  /** So many successes, or failures, in a row count as one. */
  readonly successThreshold: number
  readonly failureThreshold: number
}

/** A variable of a container; `text` may refer to others as `$(NAME)`, `field` is a field of its pod. */
export type Variable =
  | { readonly name: string; readonly text: string }
  | { readonly name: string; readonly field: string }

/** Files that a container has in a folder: those of a ConfigMap, or those that a certificate is kept in. */
export interface Mount {
  readonly path: string
  readonly source: { readonly configMap: string } | { readonly secret: string }
}

/** A Deployment of one container, with the settings of its ConfigMaps. */
export interface Workload {
  readonly name: string
  readonly namespace: string
  readonly labels: { readonly [label: string]: string }
  /** As the Deployment has it, or the least of its autoscaler. */
  readonly replicas: number
  /** How many may be there beyond `replicas`, and how many may be missing, while they are replaced. */
  readonly maxSurge: (replicas: number) => number
  readonly maxUnavailable: (replicas: number) => number
  readonly minReady: Duration.Duration
  /** How long nothing may change while it is not yet what it should be. */
  readonly progressDeadline: Duration.Duration
  /** How long a pod that is told to leave has before it is killed. */
  readonly grace: Duration.Duration
  /** The last part of its image's name. */
  readonly program: string
  /** In the order in which they are read: later ones win, and may refer to those before. */
  readonly environment: ReadonlyArray<Variable>
  readonly mounts: ReadonlyArray<Mount>
  readonly ports: { readonly [name: string]: number }
  readonly startup: Probe | undefined
  readonly readiness: Probe | undefined
  readonly liveness: Probe | undefined
}

/** A Service: a name for pods that are ready. */
export interface Exposed {
  readonly name: string
  readonly selector: { readonly [label: string]: string }
  /** Whether the name is that of the pods themselves, and no balancer is before them. */
  readonly isHeadless: boolean
  /** The number, or the name, of the port of a pod. */
  readonly targetPort: number | string
}

/** A certificate that somebody has to issue, and the Secret that it is kept in. */
export interface Requested {
  readonly secret: string
  readonly commonName: string | undefined
  /** As `DNS:name` and `URI:uri`. */
  readonly names: ReadonlyArray<string>
  readonly usage: "client" | "server"
}

export interface Manifests {
  readonly workloads: ReadonlyArray<Workload>
  readonly services: ReadonlyArray<Exposed>
  readonly configMaps: ReadonlyMap<string, { readonly [file: string]: string }>
  readonly certificates: ReadonlyArray<Requested>
}

const Labels = Schema.Record(Schema.String, Schema.String)
const IntOrString = Schema.Union([Schema.Int, Schema.String])

const HttpProbe = Schema.Struct({
  httpGet: Schema.Struct({ path: Schema.String, port: IntOrString }),
  initialDelaySeconds: Schema.optionalKey(Schema.Int),
  periodSeconds: Schema.optionalKey(Schema.Int),
  timeoutSeconds: Schema.optionalKey(Schema.Int),
  successThreshold: Schema.optionalKey(Schema.Int),
  failureThreshold: Schema.optionalKey(Schema.Int)
})

const Container = Schema.Struct({
  name: Schema.String,
  image: Schema.String,
  ports: Schema.optionalKey(Schema.Array(Schema.Struct({ name: Schema.String, containerPort: Schema.Int }))),
  envFrom: Schema.optionalKey(Schema.Array(Schema.Struct({ configMapRef: Schema.Struct({ name: Schema.String }) }))),
  env: Schema.optionalKey(
    Schema.Array(
      Schema.Struct({
        name: Schema.String,
        value: Schema.optionalKey(Schema.String),
        valueFrom: Schema.optionalKey(Schema.Struct({ fieldRef: Schema.Struct({ fieldPath: Schema.String }) }))
      })
    )
  ),
  volumeMounts: Schema.optionalKey(Schema.Array(Schema.Struct({ name: Schema.String, mountPath: Schema.String }))),
  startupProbe: Schema.optionalKey(HttpProbe),
  readinessProbe: Schema.optionalKey(HttpProbe),
  livenessProbe: Schema.optionalKey(HttpProbe)
})

const Deployment = Schema.Struct({
  metadata: Schema.Struct({ name: Schema.String, namespace: Schema.String }),
  spec: Schema.Struct({
    replicas: Schema.optionalKey(Schema.Int),
    minReadySeconds: Schema.optionalKey(Schema.Int),
    progressDeadlineSeconds: Schema.optionalKey(Schema.Int),
    strategy: Schema.optionalKey(
      Schema.Struct({
        type: Schema.optionalKey(Schema.Literal("RollingUpdate")),
        rollingUpdate: Schema.optionalKey(
          Schema.Struct({ maxSurge: Schema.optionalKey(IntOrString), maxUnavailable: Schema.optionalKey(IntOrString) })
        )
      })
    ),
    template: Schema.Struct({
      metadata: Schema.Struct({ labels: Labels }),
      spec: Schema.Struct({
        terminationGracePeriodSeconds: Schema.optionalKey(Schema.Int),
        containers: Schema.Tuple([Container]),
        volumes: Schema.optionalKey(
          Schema.Array(
            Schema.Struct({
              name: Schema.String,
              configMap: Schema.optionalKey(Schema.Struct({ name: Schema.String })),
              secret: Schema.optionalKey(Schema.Struct({ secretName: Schema.String }))
            })
          )
        )
      })
    })
  })
})

const Service = Schema.Struct({
  metadata: Schema.Struct({ name: Schema.String }),
  spec: Schema.Struct({
    clusterIP: Schema.optionalKey(Schema.String),
    selector: Labels,
    ports: Schema.Tuple([Schema.Struct({ port: Schema.Int, targetPort: Schema.optionalKey(IntOrString) })])
  })
})

const ConfigMap = Schema.Struct({ metadata: Schema.Struct({ name: Schema.String }), data: Schema.optionalKey(Labels) })

const Autoscaler = Schema.Struct({
  spec: Schema.Struct({
    scaleTargetRef: Schema.Struct({ name: Schema.String }),
    minReplicas: Schema.optionalKey(Schema.Int)
  })
})

const Certificate = Schema.Struct({
  spec: Schema.Struct({
    secretName: Schema.String,
    isCA: Schema.optionalKey(Schema.Boolean),
    commonName: Schema.optionalKey(Schema.String),
    dnsNames: Schema.optionalKey(Schema.Array(Schema.String)),
    uris: Schema.optionalKey(Schema.Array(Schema.String)),
    usages: Schema.optionalKey(Schema.Array(Schema.String))
  })
})

const decodeAll = <A>(schema: Schema.Decoder<A>, kind: string, resources: ReadonlyArray<Resource>) =>
  Effect.forEach(
    resources.filter((resource) => resource.kind === kind),
    (resource) =>
      Effect.mapError(
        Schema.decodeEffect(schema)(resource),
        ({ message }) => new ManifestError({ resource: `${kind} ${resource.metadata.name}`, reason: message })
      )
  )

/** A number of replicas, or a share of them: of those that may be too many it is rounded up, else down. */
const share = (value: number | string, round: (replicas: number) => number) => (replicas: number) =>
  typeof value === "number" ? value : round((Number.parseFloat(value) / 100) * replicas)

/** Reads what `kubectl kustomize` has rendered. */
export const read = Effect.fnUntraced(function* (resources: ReadonlyArray<Resource>) {
  const configMaps = new Map(
    (yield* decodeAll(ConfigMap, "ConfigMap", resources)).map(({ data, metadata }) => [metadata.name, data ?? {}])
  )
  const least = new Map(
    (yield* decodeAll(Autoscaler, "HorizontalPodAutoscaler", resources)).map(({ spec }) => [
      spec.scaleTargetRef.name,
      spec.minReplicas ?? 1
    ])
  )
  const deployments = yield* decodeAll(Deployment, "Deployment", resources)
  const workloads = yield* Effect.forEach(
    deployments,
    Effect.fnUntraced(function* ({ metadata, spec }) {
      const fail = (reason: string) => new ManifestError({ resource: `Deployment ${metadata.name}`, reason })
      const { template } = spec
      const [container] = template.spec.containers
      const ports = Object.fromEntries((container.ports ?? []).map(({ containerPort, name }) => [name, containerPort]))

      const settings = yield* Effect.forEach(container.envFrom ?? [], ({ configMapRef: { name } }) => {
        const data = configMaps.get(name)
        return data === undefined ? Effect.fail(fail(`there is no ConfigMap ${name}`)) : Effect.succeed(data)
      })
      const variables = (container.env ?? []).map(({ name, value, valueFrom }): Variable =>
        valueFrom === undefined ? { name, text: value ?? "" } : { name, field: valueFrom.fieldRef.fieldPath }
      )

      const mounts = yield* Effect.forEach(container.volumeMounts ?? [], ({ mountPath, name }) => {
        const volume = template.spec.volumes?.find((volume) => volume.name === name)
        if (volume?.configMap !== undefined) {
          return Effect.succeed<Mount>({ path: mountPath, source: { configMap: volume.configMap.name } })
        }
        if (volume?.secret !== undefined) {
          return Effect.succeed<Mount>({ path: mountPath, source: { secret: volume.secret.secretName } })
        }
        return Effect.fail(fail(`the volume ${name} is neither a ConfigMap nor a Secret`))
      })

      const probe = (probe: typeof HttpProbe.Type | undefined): Probe | undefined => {
        if (probe === undefined) return undefined
        const { path, port } = probe.httpGet
        return {
          path,
          port: typeof port === "number" ? port : (ports[port] ?? 0),
          initialDelay: Duration.seconds(probe.initialDelaySeconds ?? 0),
          period: Duration.seconds(probe.periodSeconds ?? 10),
          timeout: Duration.seconds(probe.timeoutSeconds ?? 1),
          successThreshold: probe.successThreshold ?? 1,
          failureThreshold: probe.failureThreshold ?? 3
        }
      }

      return {
        name: metadata.name,
        namespace: metadata.namespace,
        labels: template.metadata.labels,
        replicas: spec.replicas ?? least.get(metadata.name) ?? 1,
        maxSurge: share(spec.strategy?.rollingUpdate?.maxSurge ?? "25%", Math.ceil),
        maxUnavailable: share(spec.strategy?.rollingUpdate?.maxUnavailable ?? "25%", Math.floor),
        minReady: Duration.seconds(spec.minReadySeconds ?? 0),
        progressDeadline: Duration.seconds(spec.progressDeadlineSeconds ?? 600),
        grace: Duration.seconds(template.spec.terminationGracePeriodSeconds ?? 30),
        program: /([^/:@]+)(?:[:@][^/]*)?$/.exec(container.image)?.[1] ?? container.image,
        environment: [
          ...settings.flatMap((data) => Object.entries(data).map(([name, text]): Variable => ({ name, text }))),
          ...variables
        ],
        mounts,
        ports,
        startup: probe(container.startupProbe),
        readiness: probe(container.readinessProbe),
        liveness: probe(container.livenessProbe)
      } satisfies Workload
    })
  )
  const services = (yield* decodeAll(Service, "Service", resources)).map(
    ({ metadata, spec: { clusterIP, ports, selector } }): Exposed => ({
      name: metadata.name,
      selector,
      isHeadless: clusterIP === "None",
      targetPort: ports[0].targetPort ?? ports[0].port
    })
  )
  const certificates = (yield* decodeAll(Certificate, "Certificate", resources))
    .filter(({ spec }) => spec.isCA !== true)
    .map(({ spec }): Requested => ({
      secret: spec.secretName,
      commonName: spec.commonName,
      names: [...(spec.dnsNames ?? []).map((name) => `DNS:${name}`), ...(spec.uris ?? []).map((uri) => `URI:${uri}`)],
      usage: spec.usages?.includes("client auth") === true ? "client" : "server"
    }))
  return { workloads, services, configMaps, certificates } satisfies Manifests as Manifests
})
