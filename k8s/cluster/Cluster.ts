/**
 * The cluster in little: the rendered manifests, performed on one machine. Each replica is a process at an address of its own;
 * those that are ready are published by a name server, as those of a headless Service are, or are behind a load balancer.
 *
 * Everything of how replicas run is read from the manifests. What has to differ is in {@link differences}.
 */
import path from "node:path"
import { fileURLToPath } from "node:url"

import { Context, Duration, Effect, FileSystem, Layer } from "effect"

import { type Issued, issue, makeAuthority } from "../../scripts/certificates.ts"
import * as DnsServer from "../../test/integration/DnsServer.ts"
import * as Deployment from "./Deployment.ts"
import { ManifestError, type Manifests, type Variable, type Workload } from "./Manifests.ts"
import * as Pod from "./Pod.ts"

/** How long a name server of a cluster keeps an answer: CoreDNS' default, for as long as which it may be out of date. */
const keepsAnswers = Duration.seconds(30)

/** How late load balancers are. */
const balancerDelay = Duration.seconds(1)

/** What is not as the manifests have it. */
export const differences: ReadonlyArray<string> = [
  "A container is a process of this machine's Node, dist/<the image's name>.js: not its image, with no limits, no lock-down " +
    "and no network policies.",
  "A pod listens at its own address, 127.0.2.<n>, and not at all that there are: <SERVICE>_{GRPC,HTTP,ADMIN}_HOST.",
  "RECOMMENDATIONS_TARGET names the name server: it has no place in resolv.conf.",
  "Volumes are folders of this machine, and variables that lead into them lead there. Certificates are issued here, once.",
  `The name server keeps answers for ${Duration.format(keepsAnswers)}, and load balancers learn of pods after ` +
    `${Duration.format(balancerDelay)}.`
]

/** Where a service is reached. */
export interface Endpoint {
  readonly host: string
  readonly port: number
}

const root = fileURLToPath(new URL("../..", import.meta.url))

export class Cluster extends Context.Service<
  Cluster,
  {
    readonly deployments: ReadonlyArray<Deployment.Deployment>
    /** The replicas behind a Service, as a load balancer knows them. */
    readonly endpoints: (service: string) => ReadonlyArray<Endpoint>
    /** The target that leads a gRPC client to the replicas of a headless Service. */
    readonly target: (service: string) => string
    /** What a client of a service needs to be let in: a Secret that is not the server's, with the authority. */
    readonly identity: (secret: string) => (Issued & { readonly ca: string }) | undefined
  }
>()("onlinebooks/k8s/Cluster") {
  /** Starts everything; a pod is killed with the scope if it has not left before. */
  static readonly layer = (manifests: Manifests) => Layer.effect(Cluster, make(manifests))
}

const make = Effect.fnUntraced(function* ({ certificates, configMaps, services, workloads }: Manifests) {
  const fs = yield* FileSystem.FileSystem
  const scope = yield* Effect.scope
  const dns = yield* DnsServer.makeKeeping(keepsAnswers)
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "cluster-" })

  // an authority is made only when somebody wants something signed
  const authority = yield* Effect.cached(Effect.promise(() => makeAuthority()))
  const secrets = new Map(
    yield* Effect.forEach(
      certificates,
      Effect.fnUntraced(function* ({ commonName, names, secret, usage }) {
        const issuer = yield* authority
        const issued = yield* Effect.promise(() =>
          issue(issuer, { names, usage, ...(commonName === undefined ? {} : { commonName }) })
        )
        return [secret, { ...issued, ca: issuer.cert }] as const
      })
    )
  )

  /** The files of a mount, in a folder of this machine. */
  const mount = Effect.fnUntraced(function* ({ mounts, name }: Workload) {
    const folders = new Map<string, string>()
    for (const { path: mountPath, source } of mounts) {
      const secret = "secret" in source ? secrets.get(source.secret) : undefined
      const files =
        "configMap" in source
          ? configMaps.get(source.configMap)
          : secret && { "tls.crt": secret.cert, "tls.key": secret.key, "ca.crt": secret.ca }
      if (files === undefined) {
        return yield* new ManifestError({
          resource: `Deployment ${name}`,
          reason: `nothing is to be mounted at ${mountPath}`
        })
      }
      const target = path.join(folder, name, mountPath)
      yield* fs.makeDirectory(target, { recursive: true })
      yield* Effect.forEach(Object.entries(files), ([file, text]) => fs.writeFileString(path.join(target, file), text))
      folders.set(mountPath, target)
    }
    return folders
  })

  /** What the pods behind a name are, as of now, and as a load balancer knows it. */
  const ready = new Map<string, ReadonlyArray<Endpoint>>()
  const balanced = new Map<string, ReadonlyArray<Endpoint>>()

  const publish = Effect.fnUntraced(function* (workload: Workload, pods: ReadonlyArray<Pod.Pod>) {
    for (const { isHeadless, name, selector, targetPort } of services) {
      if (!Object.entries(selector).every(([label, value]) => workload.labels[label] === value)) continue
      const port = typeof targetPort === "number" ? targetPort : (workload.ports[targetPort] ?? 0)
      const endpoints = pods.map(({ address }): Endpoint => ({ host: address, port }))
      ready.set(name, endpoints)
      if (isHeadless) {
        yield* dns.set(
          name,
          endpoints.map(({ host }) => host)
        )
      } else {
        yield* Effect.sync(() => balanced.set(name, endpoints)).pipe(Effect.delay(balancerDelay), Effect.forkIn(scope))
      }
    }
  })

  /** The target of a client, which names the name server that it is to ask. */
  const rewriteTarget = (target: string) => target.replace(/^dns:\/\/\/?(?=[^/]+$)/, `dns://127.0.0.1:${dns.port}/`)

  let addresses = 0
  const startPod = (workload: Workload, folders: ReadonlyMap<string, string>) => {
    const service = workload.program.toUpperCase()
    return Effect.fnUntraced(function* (revision: number, onChange: Effect.Effect<void>) {
      const address = `127.0.2.${++addresses}`
      const name = `${workload.name}-${revision}-${addresses}`
      const fields: { readonly [field: string]: string } = {
        "metadata.name": name,
        "metadata.namespace": workload.namespace,
        "spec.nodeName": "localhost",
        "status.podIP": address
      }
      const environment: Record<string, string> = {}
      for (const variable of workload.environment) environment[variable.name] = valueOf(variable, fields, environment)
      for (const [variable, value] of Object.entries(environment)) {
        for (const [mountPath, target] of folders) {
          if (value.startsWith(`${mountPath}/`)) environment[variable] = target + value.slice(mountPath.length)
        }
      }
      const target = environment["RECOMMENDATIONS_TARGET"]
      return yield* Pod.start(
        {
          name,
          address,
          revision,
          file: path.join(root, "dist", `${workload.program}.js`),
          environment: {
            ...environment,
            [`${service}_GRPC_HOST`]: address,
            [`${service}_HTTP_HOST`]: address,
            [`${service}_ADMIN_HOST`]: address,
            ...(target === undefined ? {} : { RECOMMENDATIONS_TARGET: rewriteTarget(target) }),
            // without it grpc-js asks the system, whatever the target says
            GRPC_NODE_USE_ALTERNATIVE_RESOLVER: "true"
          }
        },
        workload,
        onChange
      )
    })
  }

  const deployments = yield* Effect.forEach(
    workloads,
    Effect.fnUntraced(function* (workload) {
      const file = path.join(root, "dist", `${workload.program}.js`)
      if (!(yield* fs.exists(file))) {
        return yield* new ManifestError({
          resource: `Deployment ${workload.name}`,
          reason: `its image would be ${file}, which is not there`
        })
      }
      return yield* Deployment.make(workload, startPod(workload, yield* mount(workload)), (pods) =>
        publish(workload, pods)
      )
    })
  )

  return Cluster.of({
    deployments,
    endpoints: (service) => balanced.get(service) ?? [],
    target: (service) => rewriteTarget(`dns:///${service}:${ready.get(service)?.[0]?.port ?? 0}`),
    identity: (secret) => secrets.get(secret)
  })
})

/** The value of a variable, with those that it refers to: `$(NAME)`, of those that were set before it. */
const valueOf = (
  variable: Variable,
  fields: { readonly [field: string]: string },
  environment: { readonly [name: string]: string }
): string =>
  "field" in variable
    ? (fields[variable.field] ?? "")
    : variable.text.replaceAll(/\$\(([A-Za-z_]\w*)\)/g, (reference, name: string) => environment[name] ?? reference)
