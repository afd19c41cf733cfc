/**
 * The network policies open the ports that are needed, and no others.
 */
import { Effect } from "effect"

import * as Kubectl from "../Kubectl.ts"
import { check, NotDone, type Scenario } from "../Scenario.ts"
import * as Scripts from "../Scripts.ts"
import { namespaces, pods, settled, Shop } from "../Shop.ts"

const ports = {
  recommendations: { grpc: 50051, admin: 9101 },
  marketplace: { http: 5000, admin: 9102 },
  postgres: { postgres: 5432 }
} as const

/** The ports that may be connected to, by namespace of the client. The pod in the namespace of the shop belongs to no service. */
const allowed: Record<string, ReadonlyArray<string>> = {
  [namespaces.shop]: [],
  [namespaces.readers]: ["marketplace http"],
  [namespaces.monitoring]: ["marketplace http", "marketplace admin", "recommendations admin"]
}

const name = "probe"

const start = Effect.fnUntraced(function* (namespace: string) {
  const { image } = yield* Shop
  yield* Scripts.install(namespace)
  const command = ["node", "--eval", "setInterval(() => {}, 1e6)"]
  yield* Scripts.start({ name, namespace, image, command })
})

/** The targets ("HOST:PORT") that can be connected to. */
const probe = Effect.fnUntraced(function* (namespace: string, targets: ReadonlyArray<string>) {
  const output = yield* Scripts.exec(namespace, name, ["/scripts/probe.mjs", ...targets])
  const open = JSON.parse(output) as Readonly<Record<string, boolean>>
  return targets.filter((target) => open[target])
})

/** Each port of a pod of each service, as HOST:PORT. */
const targets = Effect.gen(function* () {
  const found = new Map<string, string>()
  const { hasDatabase } = yield* Shop
  for (const service of ["recommendations", "marketplace", ...(hasDatabase ? (["postgres"] as const) : [])] as const) {
    const [pod] = yield* pods(service)
    for (const [port, number] of Object.entries(ports[service])) {
      found.set(`${pod?.status.podIP}:${number}`, `${service} ${port}`)
    }
  }
  return found
})

/** Fails if the network of the cluster ignores policies: a pod with a policy that denies everything can be connected to. */
const requireEnforcement = Effect.gen(function* () {
  const namespace = namespaces.monitoring
  const { image } = yield* Shop
  const command = ["node", "--eval", "require('net').createServer().listen(8080)"]
  yield* Scripts.start({ name: "closed", namespace, image, command })
  const { status } = yield* Kubectl.get<{ readonly status: { readonly podIP: string } }>(
    "pod",
    "closed",
    "--namespace",
    namespace
  )
  const isOpen = Effect.map(probe(namespaces.readers, [`${status.podIP}:8080`]), (open) => open.length > 0)
  yield* Kubectl.until("the pod listens", isOpen)
  yield* Effect.acquireRelease(
    Kubectl.run(["create", "--filename", "-"], {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: {
        name: "closed",
        namespace
      },
      spec: {
        podSelector: {},
        policyTypes: ["Ingress"]
      }
    }),
    () => Effect.ignore(Kubectl.run(["delete", "networkpolicy", "closed", "--namespace", namespace]))
  )
  // a policy takes effect after a moment
  yield* Kubectl.until(
    "closed",
    Effect.map(isOpen, (open) => !open)
  ).pipe(
    Effect.timeoutOrElse({
      duration: "20 seconds",
      orElse: () => Effect.fail(new NotDone({ reason: "the network of the cluster does not enforce policies" }))
    })
  )
}).pipe(Effect.scoped)

export const policies: Scenario = {
  name: "policies",
  description: "Connects to each port from three namespaces",
  run: Effect.gen(function* () {
    const { apply } = yield* Shop
    for (const namespace of Object.values(namespaces)) yield* start(namespace)
    yield* requireEnforcement
    yield* apply({ patches: yield* renamedMonitoring })
    yield* settled
    const all = yield* targets
    for (const [namespace, expected] of Object.entries(allowed)) {
      const isAsExpected = Effect.map(probe(namespace, [...all.keys()]), (open) => {
        const names = open.map((target) => all.get(target)!)
        return { names, wrong: [...all.values()].filter((port) => names.includes(port) !== expected.includes(port)) }
      })
      // policies for new pods take effect after a moment
      const { names, wrong } = yield* isAsExpected.pipe(
        Effect.repeat({ times: 5, until: ({ wrong }) => wrong.length === 0 })
      )
      yield* check(wrong.length === 0, `from ${namespace}, open: ${names.join(", ") || "none"}`)
    }
    yield* apply({})
  }).pipe(Effect.scoped)
}

interface NetworkPolicy extends Kubectl.Resource {
  readonly spec: unknown
}

/** Patches that make the policies name the namespace of the run in place of `monitoring`. */
const renamedMonitoring = Effect.map(
  Kubectl.list<NetworkPolicy>("networkpolicies", "--namespace", namespaces.shop),
  (found) =>
    found.map(({ metadata: { name }, spec }) => ({
      target: { kind: "NetworkPolicy", name },
      patch: [
        {
          op: "replace",
          path: "/spec",
          value: JSON.parse(JSON.stringify(spec).replaceAll('"monitoring"', JSON.stringify(namespaces.monitoring)))
        }
      ]
    }))
)
