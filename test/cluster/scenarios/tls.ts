/**
 * The calls between the services change to mutual TLS, and certificates are renewed.
 */
import { fileURLToPath } from "node:url"

import { Clock, DateTime, Effect } from "effect"

import { type Authority, issue, makeAuthority } from "../../../scripts/certificates.ts"
import * as Kubectl from "../Kubectl.ts"
import { NotDone, type Scenario, underLoad } from "../Scenario.ts"
import { namespaces, pods, run, services, settled, Shop } from "../Shop.ts"

const components = [fileURLToPath(new URL("../../../k8s/components/tls", import.meta.url))]

/** How the shop gets its certificates. */
interface Source {
  readonly install: Effect.Effect<void, Kubectl.KubectlError, Kubectl.Kubectl | Shop>
  readonly renew: Effect.Effect<void, Kubectl.KubectlError, Kubectl.Kubectl>
}

interface Certificate extends Kubectl.Resource {
  readonly status: { readonly conditions: ReadonlyArray<{ readonly type: string }> }
}

/** As `cmctl renew` does. */
const renewCertificate = Effect.fnUntraced(function* (name: string) {
  const { status } = yield* Kubectl.get<Certificate>("certificate", name, "--namespace", namespaces.shop)
  const issuing = {
    type: "Issuing",
    status: "True",
    reason: "ManuallyTriggered",
    message: "Renewed by a rehearsal",
    lastTransitionTime: DateTime.formatIso(yield* DateTime.now)
  }
  const conditions = [...status.conditions.filter(({ type }) => type !== "Issuing"), issuing]
  const patch = JSON.stringify({ status: { conditions } })
  yield* run(["patch", "certificate", name, "--subresource=status", "--type=merge", "--patch", patch])
})

const certManager: Source = {
  install: Effect.flatMap(Shop, ({ apply }) => apply({ components })),
  renew: Effect.forEach(services, renewCertificate, { discard: true })
}

/** Certificates that the rehearsal issues itself. */
const ownSecrets = (authority: Authority): Source => {
  const write = Effect.gen(function* () {
    for (const service of services) {
      const usage = service === "recommendations" ? "server" : "client"
      const { cert, key } = yield* Effect.promise(() => issue(authority, { names: [`DNS:${service}`], usage }))
      yield* run(["apply", "--filename", "-"], {
        apiVersion: "v1",
        kind: "Secret",
        type: "kubernetes.io/tls",
        metadata: {
          name: `${service}-tls`,
          namespace: namespaces.shop
        },
        stringData: {
          "ca.crt": authority.cert,
          "tls.crt": cert,
          "tls.key": key
        }
      })
    }
  })
  const patches = ["Issuer", "Certificate"].map((kind) => ({
    target: { kind },
    patch: { $patch: "delete", apiVersion: "cert-manager.io/v1", kind, metadata: { name: "any" } }
  }))
  const apply = Effect.flatMap(Shop, ({ apply }) => apply({ components, patches }))
  return { install: Effect.andThen(write, apply), renew: write }
}

/** Waits until every pod has logged that it reloaded its certificate. */
const reloaded = Effect.gen(function* () {
  const since = DateTime.formatIso(DateTime.makeUnsafe(yield* Clock.currentTimeMillis))
  const hasReloaded = (pod: string) =>
    Effect.map(run(["logs", pod, `--since-time=${since}`]), (log) => /TLS certificates of the \w+ reloaded/.test(log))
  const names = (yield* Effect.forEach(services, pods)).flat().map(({ metadata }) => metadata.name)
  return Kubectl.until(
    "certificates reloaded by all pods",
    Effect.map(Effect.forEach(names, hasReloaded), (all) => all.every((has) => has))
  )
})

export const tls: Scenario = {
  name: "tls",
  description: "Changes to mutual TLS, and renews both certificates",
  run: Effect.gen(function* () {
    const { isSecured } = yield* Shop
    if (isSecured) return yield* new NotDone({ reason: "the manifests have mutual TLS already" })
    const hasCertManager = yield* Kubectl.exists("customresourcedefinition", "certificates.cert-manager.io")
    const source = hasCertManager ? certManager : ownSecrets(yield* Effect.promise(() => makeAuthority()))
    const by = hasCertManager ? "cert-manager" : "Secrets of the rehearsal"
    yield* underLoad(`changed to mutual TLS, by ${by}`, Effect.andThen(source.install, settled))
    yield* underLoad(
      "both certificates renewed",
      Effect.flatMap(reloaded, (wait) => Effect.andThen(source.renew, wait))
    )
  })
}
