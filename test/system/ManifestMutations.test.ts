/**
 * Each rule detects violations: for every line of the manifests that is removed or changed, a rule reports one. Lines that may be removed are
 * in a list with the reason, so a new line has to be covered by a rule or added to the list.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"

import type { Resource } from "../../k8s/cluster/Kustomize.ts"
import { nameOf } from "./KubernetesReferences.ts"
import { Manifests, type Of, type Overlay, overlays } from "./Manifests.ts"
import * as NetworkPolicies from "./NetworkPolicies.ts"
import * as Policy from "./Policy.ts"

/** A JSON pointer, as in patches of Kustomize. */
type Pointer = string

const keysOf = (pointer: Pointer) =>
  pointer
    .split("/")
    .slice(1)
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"))

type Json = { [key: string]: Json }

/** A value with a changed part; undefined removes it, and `-` appends to a list. */
const changed = (value: Resource, pointer: Pointer, part: unknown): Resource => {
  const copy = structuredClone(value)
  const keys = keysOf(pointer)
  const last = keys.pop() ?? ""
  const parent = keys.reduce((within, key) => (within[key] ??= {}), copy as unknown as Json)
  if (Array.isArray(parent) && part === undefined) parent.splice(Number(last), 1)
  else if (Array.isArray(parent) && last === "-") parent.push(part)
  else if (part === undefined) delete parent[last]
  else parent[last] = part as Json
  return copy
}

function* pointersInto(value: unknown, pointer: Pointer = ""): Iterable<Pointer> {
  if (typeof value !== "object" || value === null) return
  for (const [key, part] of Object.entries(value)) {
    const to = `${pointer}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`
    yield to
    yield* pointersInto(part, to)
  }
}

/** Lines that no rule needs, by resource and line. */
const dispensable: ReadonlyArray<RegExp> = [
  // for people and queries; no selector uses them
  /^Deployment \S+ \/spec\/template\/metadata\/labels\/app\.kubernetes\.io~1part-of$/,
  /^\w+ \S+ \/metadata\/labels\/app\.kubernetes\.io~1name$/,
  /^Deployment \S+ \/spec\/template\/metadata\/annotations(\/kubectl\.kubernetes\.io~1default-container)?$/,
  // defaults of Kubernetes
  /^Namespace \S+ \/metadata\/labels\/pod-security\.kubernetes\.io~1\w+-version$/,
  /^Deployment \S+ \/spec\/revisionHistoryLimit$/,
  /^Deployment \S+ \/spec\/template\/spec\/containers\/0\/imagePullPolicy$/,
  /^Deployment \S+ \/spec\/template\/spec\/containers\/0\/ports\/\d\/protocol$/,
  /^NetworkPolicy \S+\/(marketplace|recommendations|acme-solver) \/spec\/\w+\/\d\/ports\/\d\/protocol$/,
  /^NetworkPolicy \S+\/dns \/spec\/egress\/0\/ports\/1\/protocol$/,
  // a ConfigMap cannot be written to anyway
  /^Deployment \S+\/recommendations \/spec\/template\/spec\/containers\/0\/volumeMounts\/0\/readOnly$/,
  // as it is by default, in the services
  /^ConfigMap \S+ \/data\/(DRAIN_TIMEOUT|MARKETPLACE_RESOLUTION_INTERVAL)$/,
  // as it is by default, in cert-manager, or would do as well
  /^Certificate \S+\/online-books-ca \/spec\/issuerRef\/(kind|group)$/,
  /^Certificate \S+ \/spec\/privateKey\/(algorithm|size)$/,
  /^Certificate \S+\/marketplace \/spec\/uris(\/0)?$/,
  // as it is by default, in the operator
  /^PodMonitor \S+ \/spec\/podMetricsEndpoints\/0\/path$/
]

/** Kustomize renders nothing without a name. */
const isNamed = (pointer: Pointer) => pointer !== "/metadata" && pointer !== "/metadata/name"

const environment = Layer.mergeAll(Manifests.layer, Policy.Facts.layer).pipe(Layer.provideMerge(NodeServices.layer))

const overlay = (name: string): Overlay => {
  const found = overlays.find((overlay) => overlay.name === name)
  if (found === undefined) throw new Error(`there is no ${name}`)
  return found
}

const installationOf = Effect.fnUntraced(function* (overlay: Overlay) {
  return Policy.installation(overlay, yield* (yield* Manifests).of(overlay), yield* Policy.Facts)
})

const replaced = (installation: Policy.Installation, resource: Resource, other: ReadonlyArray<Resource>) =>
  Policy.violations({
    ...installation,
    resources: installation.resources.flatMap((one) => (one === resource ? other : one))
  })

/** What together has every resource that there is. */
const every = [
  "base",
  "overlays/tls + monitoring + tracing",
  "examples/gateway",
  "examples/ingress",
  "examples/own-catalogue"
].map(overlay)

layer(environment, { excludeTestServices: true })("a line that is taken out", (it) => {
  it.effect(
    "breaks a promise, unless it is listed",
    () =>
      Effect.gen(function* () {
        const seen = new Set<string>()
        const missed = new Set<string>()
        for (const overlay of every) {
          const installation = yield* installationOf(overlay)
          for (const resource of installation.resources) {
            assert.isNotEmpty(replaced(installation, resource, []), `${overlay.name} without ${nameOf(resource)}`)
            // all of it is compared with ops/
            const pointers = resource.kind === "PrometheusRule" ? ["/spec/groups/0"] : pointersInto(resource)
            for (const pointer of [...pointers].filter(isNamed)) {
              const other = changed(resource, pointer, undefined)
              const text = JSON.stringify(other)
              // the same resource is in many overlays
              if (seen.has(text)) continue
              seen.add(text)
              if (replaced(installation, resource, [other]).length === 0) missed.add(`${nameOf(resource)} ${pointer}`)
            }
          }
        }
        assert.isAbove(seen.size, 1000)
        const unlisted = [...missed].filter((line) => !dispensable.some((pattern) => pattern.test(line)))
        assert.deepStrictEqual(unlisted, [], "no rule says anything of these")
        const unused = dispensable.filter((pattern) => ![...missed].some((line) => pattern.test(line)))
        assert.deepStrictEqual(unused, [], "a rule says something of these, or they are no more")
      }),
    180_000
  )
})

type Change = readonly [pointer: Pointer, part: unknown, finds: RegExp]

/** What is changed, by the kind and the name of the resource. A ConfigMap is called as it was before its hash. */
interface Changes {
  readonly [resource: string]: ReadonlyArray<Change>
}

const container = "/spec/template/spec/containers/0"
const pod = "/spec/template/spec"

/** What a cluster would not take, or not understand. */
const mistakes: Changes = {
  "Deployment recommendations": [
    [`${container}/readinesProbe`, {}, /containers\[0\]\.readinesProbe is no field/],
    ["/spec/strategy/rollingUpdate/maxUnavalable", 0, /spec\.strategy\.rollingUpdate\.maxUnavalable is no field/],
    [
      `${container}/securityContext/allowPrivilegeEscalaton`,
      false,
      /securityContext\.allowPrivilegeEscalaton is no field/
    ],
    [`${container}/securityContext/capabilities/dropped`, [], /capabilities\.dropped is no field/],
    [`${container}/env/0/vale`, "x", /env\[0\]\.vale is no field/],
    [`${container}/livenessProbe/httpGet/pathh`, "/", /httpGet\.pathh is no field/],
    [`${pod}/topologySpreadConstraints/1/matchLabels`, {}, /topologySpreadConstraints\[1\]\.matchLabels is no field/],
    ["/spec/template/metadata/lables", {}, /template\.metadata\.lables is no field/],
    ["/metadata/lables", {}, /metadata\.lables is no field/],
    ["/spce", {}, /spce is no field/],
    ["/spec/replicas", "3", /spec\.replicas must be integer/],
    ["/spec/selector/matchLabels", [], /spec\.selector\.matchLabels must be object/],
    [`${container}/env/0/value`, 0, /env\[0\]\.value must be string/],
    [`${container}/resources/limits/memory`, "384 MB", /resources\.limits\.memory must/],
    [`${container}/imagePullPolicy`, "Sometimes", /imagePullPolicy must be equal to one of the allowed values/],
    [`${pod}/topologySpreadConstraints/0/whenUnsatisfiable`, "Never", /whenUnsatisfiable must be equal to one of/],
    [`${pod}/containers/0/name`, undefined, /containers\[0\] must have required property name/],
    [`${container}/readinessProbe`, null, /readinessProbe is empty/],
    [`${pod}/containers/0/name`, "Recommendations", /name cannot be "Recommendations"/],
    [`${container}/ports/0/name`, "grpc-of-the-books", /name cannot be "grpc-of-the-books"/],
    [`${container}/livenessProbe/httpGet/port`, "Admin", /port cannot be "Admin"/],
    [`${container}/env/1/name`, "MARKETPLACE-ADMIN", /name cannot be "MARKETPLACE-ADMIN"/],
    [`${container}/env/1/name`, "RECOMMENDATIONS_ADMIN_HOST", /env has RECOMMENDATIONS_ADMIN_HOST more than once/],
    [`${container}/env/1/value`, "both", /env\[1\] has 2 values/],
    ["/spec/template/metadata/labels/part-of", "x".repeat(64), /labels\.part-of cannot be "xx/],
    ["/metadata/labels/-name", "x", /labels\.-name cannot be called that/],
    ["/metadata/annotations", { "a/b/c": "x" }, /annotations\["a\/b\/c"\] cannot be called that/],
    ["/metadata/name", "Books", /metadata\.name cannot be "Books"/],
    ["/apiVersion", "apps/v1beta1", /apps\/v1beta1 Deployment is no kind/],
    ["/kind", "Deploiment", /apps\/v1 Deploiment is no kind/]
  ],
  "Service recommendations": [
    ["/spec/port", 1, /spec\.port is no field/],
    ["/metadata/name", "1-recommendations", /metadata\.name cannot be/],
    ["/spec/selector/app.kubernetes.io~1name", "a b", /spec\.selector\["app\.kubernetes\.io\/name"\] cannot be "a b"/]
  ],
  "ConfigMap recommendations": [["/data/LOG_LEVEL", 3, /data\.LOG_LEVEL must be string/]],
  "NetworkPolicy recommendations": [
    ["/spec/ingres", [], /spec\.ingres is no field/],
    ["/spec/ingress/0/form", [], /spec\.ingress\[0\]\.form is no field/]
  ],
  "PodDisruptionBudget recommendations": [
    ["/spec/unhealthyPodEvictionPolicy", "Always", /unhealthyPodEvictionPolicy/],
    ["/spec/maxUnavailible", 1, /spec\.maxUnavailible is no field/]
  ],
  "HorizontalPodAutoscaler recommendations": [
    ["/spec/behavior/scaleDown/policy", [], /scaleDown\.policy is no field/],
    ["/spec/metrics/0/resource/target/utilisation", 80, /target\.utilisation is no field/]
  ],
  "Certificate recommendations": [
    ["/spec/dnsName", [], /spec\.dnsName is no field/],
    ["/spec/privateKey/rotatonPolicy", "Always", /privateKey\.rotatonPolicy is no field/],
    ["/spec/privateKey/rotationPolicy", "Sometimes", /rotationPolicy must be equal to one of the allowed values/],
    ["/spec/usages/0", "server", /usages\[0\] must be equal to one of the allowed values/]
  ],
  "Issuer online-books-ca": [["/spec/ca/secret", "x", /spec\.ca\.secret is no field/]],
  "PodMonitor recommendations": [
    ["/spec/podMetricsEndpoints/0/intervall", "1s", /podMetricsEndpoints\[0\]\.intervall is no field/],
    ["/spec/podMetricsEndpoints/0/interval", "15 s", /interval must match pattern/]
  ],
  "PrometheusRule online-books": [["/spec/groups/0/rules/0/expression", "1", /rules\[0\]\.expression is no field/]],
  "Gateway shop": [["/spec/listeners/0/hostName", "x", /listeners\[0\]\.hostName is no field/]],
  "HTTPRoute shop": [["/spec/rules/0/backendRefs/0/prot", 1, /backendRefs\[0\]\.prot is no field/]],
  "Ingress shop": [["/spec/rules/0/http/paths/0/service", {}, /paths\[0\]\.service is no field/]]
}

/** What names something that is not there. */
const danglers: Changes = {
  "Deployment marketplace": [
    [`${container}/envFrom/0/configMapRef/name`, "marketplace", /there is no ConfigMap marketplace/],
    [`${pod}/serviceAccountName`, "shop", /there is no ServiceAccount shop/],
    [`${pod}/volumes/0/secret/secretName`, "shop-tls", /there is no Secret shop-tls/],
    [`${pod}/volumes/-`, { name: "more", emptyDir: {} }, /nothing is done with the volume more/],
    [`${container}/volumeMounts/0/name`, "certificates", /there is no volume certificates/],
    [`${container}/readinessProbe/httpGet/port`, "probes", /no container has a port probes/],
    [`${container}/env/1/name`, "POD", /OTEL_RESOURCE_ATTRIBUTES refers to \$\(POD_NAME\)/],
    [`${pod}/topologySpreadConstraints/0/labelSelector/matchLabels`, { app: "x" }, /spreads other pods/],
    ["/spec/selector/matchLabels", { app: "x" }, /does not select its own pods/],
    ["/spec/template/metadata/annotations/kubectl.kubernetes.io~1default-container", "x", /there is no container x/],
    ["/metadata/namespace", "books", /there is no namespace books/],
    ["/metadata/namespace", undefined, /says no namespace/]
  ],
  "Service marketplace": [
    ["/spec/selector/app.kubernetes.io~1name", "shop", /selects no pods by/],
    ["/spec/ports/0/targetPort", "https", /no container has a port https/],
    ["/metadata/name", "recommendations", /Service online-books\/recommendations: is there twice/]
  ],
  "PodDisruptionBudget marketplace": [["/spec/selector/matchLabels", { app: "x" }, /selects no pods/]],
  "PodMonitor marketplace": [
    ["/spec/selector/matchLabels", { app: "x" }, /selects no pods/],
    ["/spec/podMetricsEndpoints/0/port", "metrics", /no container has a port metrics/]
  ],
  "NetworkPolicy marketplace": [
    ["/spec/podSelector/matchLabels", { app: "x" }, /selects no pods/],
    ["/spec/ingress/0/ports/0/port", "https", /no container has a port https/],
    ["/spec/egress/0/ports/0/port", "http", /no container has a port http/],
    ["/spec/egress/0/to/0/podSelector/matchLabels", { app: "x" }, /selects no pods/]
  ],
  "HorizontalPodAutoscaler marketplace": [
    ["/spec/scaleTargetRef/name", "shop", /there is no apps\/v1 Deployment shop/],
    ["/spec/scaleTargetRef/kind", "StatefulSet", /there is no apps\/v1 StatefulSet marketplace/]
  ],
  "Certificate marketplace": [
    ["/spec/issuerRef/name", "letsencrypt", /there is no Issuer letsencrypt/],
    ["/spec/secretName", "shop-tls", /there is no Secret marketplace-tls/]
  ],
  "Issuer online-books-ca": [["/spec/ca/secretName", "ca", /there is no Secret ca/]],
  "Gateway shop": [["/metadata/annotations", undefined, /there is no Secret shop-tls/]],
  "HTTPRoute shop": [
    ["/spec/rules/0/backendRefs/0/name", "shop", /there is no Service shop/],
    ["/spec/rules/0/backendRefs/0/port", 80, /Service marketplace has no port 80/],
    ["/spec/parentRefs/0/name", "door", /there is no Gateway shop-gateway\/door/],
    ["/spec/parentRefs/0/sectionName", "tls", /Gateway shop has no listener tls/],
    ["/spec/hostnames/0", "www.example.com", /Gateway shop does not listen for www\.example\.com/]
  ],
  "Ingress shop": [
    ["/spec/rules/0/http/paths/0/backend/service/name", "shop", /there is no Service shop/],
    ["/spec/rules/0/http/paths/0/backend/service/port", { number: 80 }, /Service marketplace has no port 80/],
    ["/metadata/annotations", undefined, /there is no Secret shop-tls/]
  ]
}

/** What a cluster takes, and what is promised no longer. */
const breaches: Changes = {
  "Deployment marketplace": [
    ["/spec/replicas", 5, /replicas: each apply would undo/],
    ["/spec/strategy/type", "Recreate", /strategy: Recreate/],
    ["/spec/strategy/rollingUpdate/maxUnavailable", 1, /maxUnavailable: 1, not 0/],
    ["/spec/strategy/rollingUpdate/maxSurge", "100%", /maxSurge: 100%, not 1/],
    ["/spec/minReadySeconds", 10, /minReadySeconds: 10, when load balancers take 15 s/],
    ["/spec/progressDeadlineSeconds", 90, /progressDeadlineSeconds: 90 may pass/],
    [`${container}/startupProbe/failureThreshold`, 20, /startupProbe: acts after 20 s/],
    [`${container}/readinessProbe/httpGet/path`, "/livez", /readinessProbe: does not request \/readyz/],
    [`${container}/readinessProbe/httpGet/port`, "http", /readinessProbe: does not request/],
    [`${container}/readinessProbe/periodSeconds`, 30, /readinessProbe: acts after 60 s/],
    [`${container}/livenessProbe/httpGet/path`, "/readyz", /livenessProbe: does not request \/livez/],
    [`${container}/livenessProbe/failureThreshold`, 1, /livenessProbe: fails after a single late response/],
    [`${container}/livenessProbe/timeoutSeconds`, 1, /livenessProbe: waits 1 s/],
    [`${container}/livenessProbe/httpGet/host`, "127.0.0.1", /livenessProbe: asks another host/],
    [`${container}/lifecycle`, { preStop: { sleep: { seconds: 5 } } }, /marketplace: a lifecycle hook/],
    [`${pod}/terminationGracePeriodSeconds`, 44, /terminationGracePeriodSeconds: 44, when draining takes 15 \+ 25 s/],
    [`${container}/resources/limits/memory`, "512Mi", /memory: 384Mi requested, 512Mi allowed/],
    [`${container}/resources/requests/cpu`, "3", /more CPU requested than the limit/],
    [`${container}/resources/limits/cpu`, "900m", /throttled/],
    [`${container}/resources/requests/ephemeral-storage`, undefined, /requests\.ephemeral-storage: undefined/],
    [`${container}/resources/requests/ephemeral-storage`, "1Gi", /more ephemeral storage requested than the limit/],
    [`${container}/resources/limits/ephemeral-storage`, undefined, /evicted for its log/],
    [`${container}/resources/limits/ephemeral-storage`, "50Mi", /evicted for its log/],
    [`${pod}/topologySpreadConstraints/0/whenUnsatisfiable`, "DoNotSchedule", /not over kubernetes\.io\/hostname/],
    [`${pod}/topologySpreadConstraints/1/maxSkew`, 2, /not over topology\.kubernetes\.io\/zone/],
    [`${pod}/automountServiceAccountToken`, true, /the pod gets a token/],
    [`${pod}/serviceAccountName`, "recommendations", /serviceAccountName: recommendations/],
    [`${pod}/hostNetwork`, true, /hostNetwork/],
    [`${pod}/hostPID`, true, /hostPID/],
    [`${pod}/hostIPC`, true, /hostIPC/],
    [`${pod}/volumes/-`, { name: "node", hostPath: { path: "/" } }, /volume node: hostPath/],
    [`${pod}/securityContext/runAsNonRoot`, false, /runAsNonRoot/],
    [`${pod}/securityContext/runAsUser`, 0, /runAsUser: 0/],
    [`${pod}/securityContext/runAsGroup`, 0, /runAsGroup: 0/],
    [`${pod}/securityContext/seccompProfile/type`, "Unconfined", /seccompProfile: Unconfined/],
    [`${pod}/securityContext/sysctls`, [{ name: "kernel.msgmax", value: "1" }], /sysctl kernel\.msgmax/],
    [`${pod}/initContainers`, [{ name: "first", image: "busybox:1" }], /first: allowPrivilegeEscalation/],
    [`${pod}/initContainers`, [{ name: "first", image: "busybox:1" }], /first: requests\.cpu/],
    [`${pod}/initContainers`, [{ name: "first", image: "busybox" }], /busybox has neither a tag nor a digest/],
    [`${container}/securityContext/allowPrivilegeEscalation`, true, /allowPrivilegeEscalation/],
    [`${container}/securityContext/privileged`, true, /privileged/],
    [`${container}/securityContext/readOnlyRootFilesystem`, false, /readOnlyRootFilesystem/],
    [`${container}/securityContext/runAsUser`, 0, /root/],
    [`${container}/securityContext/seccompProfile`, { type: "Unconfined" }, /seccompProfile: Unconfined/],
    [`${container}/securityContext/procMount`, "Unmasked", /procMount: Unmasked/],
    [`${container}/securityContext/capabilities/drop/0`, "NET_RAW", /capabilities/],
    [`${container}/securityContext/capabilities/add`, ["NET_BIND_SERVICE"], /capabilities/],
    [`${container}/ports/0/hostPort`, 5000, /hostPort/],
    [`${container}/ports/0/containerPort`, 8080, /ports: \{"http":8080,"admin":9102\}, not/],
    [`${pod}/enableServiceLinks`, true, /enableServiceLinks/],
    [`${container}/image`, "ghcr.io/online-books-for-you/marketplace", /neither a tag nor a digest/],
    [`${container}/image`, "ghcr.io/online-books-for-you/marketplace:latest", /changes over time/],
    [`${container}/image`, "localhost:5000/recommendations:1.0.0", /is not the service/],
    [`${container}/env/0/value`, "127.0.0.1", /127\.0\.0\.1 is not reachable/],
    [
      `${container}/env/-`,
      { name: "MARKETPLACE_HTTP_PORT", value: "8080" },
      /MARKETPLACE_HTTP_PORT is set to another port/
    ],
    [
      `${container}/env/-`,
      { name: "MARKETPLACE_PORT", value: "5000" },
      /MARKETPLACE_PORT is not a setting of marketplace/
    ],
    [
      `${container}/env/-`,
      { name: "RECOMMENDATIONS_MAX_QUEUE", value: "1" },
      /MAX_QUEUE is not a setting of marketplace/
    ],
    [
      `${container}/envFrom/-`,
      { secretRef: { name: "marketplace-tls" } },
      /changed settings of a Secret are not rolled out/
    ],
    [`${container}/volumeMounts/0/subPath`, "tls.crt", /not as a whole, so that it is never renewed/],
    [`${container}/volumeMounts/0/mountPath`, "/certificates", /MARKETPLACE_TLS_CERT_FILE: \/tls\/tls\.crt/],
    [`${pod}/volumes/0/secret/defaultMode`, 0o444, /defaultMode: 444, not 440/],
    [`${pod}/volumes/0/secret/items`, [{ key: "tls.crt", path: "tls.crt" }], /not all files are mounted/],
    [`${pod}/volumes/0/secret/secretName`, "recommendations-tls", /usages: digital signature,server auth/]
  ],
  "Deployment recommendations": [
    ["/spec/minReadySeconds", 31, /minReadySeconds: 31, when clients take 1 \+ 30 s/],
    [`${container}/env/-`, { name: "RECOMMENDATIONS_PORT", value: "1" }, /RECOMMENDATIONS_PORT is not a setting/]
  ],
  "ConfigMap marketplace": [
    ["/data/MARKETPLACE_PAGE_BUDGETS", "1 second", /MARKETPLACE_PAGE_BUDGETS is not a setting of marketplace/],
    ["/data/MARKETPLACE_RESOLUTION_INTERVAL", "5 seconds", /minReadySeconds: 35, when clients take 5 \+ 30 s/],
    ["/data/DRAIN_DELAY", "0 seconds", /DRAIN_DELAY: it stops listening/],
    ["/data/DRAIN_TIMEOUT", "31s", /when draining takes 15 \+ 31 s/],
    ["/data/DRAIN_TIMEOUT", "25 secnds", /DRAIN_TIMEOUT="25 secnds": expected a duration/],
    ["/data/RECOMMENDATIONS_TARGET", "recommendations:50051", /is not the Service of Recommendations/],
    ["/data/RECOMMENDATIONS_TARGET", "dns:///recommendations:50052", /is not the Service of Recommendations/],
    ["/data/MARKETPLACE_TLS_CA_FILE", "/tls/ca.pem", /MARKETPLACE_TLS_CA_FILE: \/tls\/ca\.pem/],
    ["/data/MARKETPLACE_TLS_SERVER_NAME", "books.example.com", /dnsNames: not books\.example\.com/],
    ["/data/OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.monitoring:4317", /4317 cannot be reached/],
    ["/data/OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.otel:4318", /4318 cannot be reached/],
    ["/metadata/name", "marketplace", /there is no ConfigMap marketplace-/]
  ],
  "ConfigMap recommendations": [
    ["/data/RECOMMENDATIONS_MAX_CONNECTION_AGE", "5 minuts", /MAX_CONNECTION_AGE="5 minuts": expected/],
    [
      "/data/RECOMMENDATIONS_TLS_ALLOWED_CLIENTS",
      "shop",
      /RECOMMENDATIONS_TLS_ALLOWED_CLIENTS: shop has no certificate/
    ],
    ["/data/RECOMMENDATIONS_TLS_CLIENT_CA_FILE", undefined, /RECOMMENDATIONS_TLS_CLIENT_CA_FILE/],
    ["/data/CATALOG_FILE", "/catalogue/books.csv", /CATALOG_FILE: there is no \/catalogue\/books\.csv/]
  ],
  "Namespace online-books": [
    ["/metadata/labels/pod-security.kubernetes.io~1enforce", "baseline", /enforce is not restricted/]
  ],
  "ServiceAccount marketplace": [["/automountServiceAccountToken", true, /the ServiceAccount gives its pods tokens/]],
  "Service marketplace": [
    ["/spec/type", "NodePort", /is a NodePort, not a LoadBalancer/],
    ["/spec/ports/0/port", 80, /ports: not/],
    ["/spec/ports/0/appProtocol", "grpc", /ports: not/],
    ["/spec/selector", { "app.kubernetes.io/part-of": "online-books" }, /the Service selects others too/],
    ["/metadata/name", "recommendations-grpc", /RECOMMENDATIONS_GRPC_PORT is both a setting and a variable of/]
  ],
  "Service recommendations": [
    ["/spec/clusterIP", undefined, /not headless/],
    ["/spec/type", "LoadBalancer", /it is reachable from outside/],
    ["/spec/publishNotReadyAddresses", true, /replicas that are not ready get calls/],
    ["/spec/ports/0/port", 443, /ports: not/],
    ["/spec/ports/0/appProtocol", "kubernetes.io/h2c", /ports: not/]
  ],
  "PodDisruptionBudget marketplace": [
    ["/spec/maxUnavailable", "50%", /maxUnavailable: 50%, not 1/],
    ["/spec/unhealthyPodEvictionPolicy", "IfHealthyBudget", /a replica that is not ready blocks the drain of its node/],
    ["/spec/selector/matchLabels", { "app.kubernetes.io/part-of": "online-books" }, /2 PodDisruptionBudgets/]
  ],
  "HorizontalPodAutoscaler marketplace": [
    ["/spec/minReplicas", 2, /minReplicas: 2, not 3/],
    ["/spec/maxReplicas", 3, /maxReplicas: 3 leaves nothing/],
    ["/spec/metrics/0/resource/name", "memory", /it does not scale on CPU utilization/],
    ["/spec/behavior/scaleDown/policies/0/value", 2, /are not removed one at a time/],
    ["/spec/behavior/scaleDown/policies/0/periodSeconds", 30, /are not removed one at a time/]
  ],
  "NetworkPolicy default-deny": [
    [
      "/spec/podSelector",
      { matchLabels: { "app.kubernetes.io/name": "marketplace" } },
      /no default policy that denies everything/
    ],
    ["/spec/ingress", [{}], /allows the internet to recommendations, TCP 50051/],
    ["/spec/egress", [{}], /allows recommendations to the internet, TCP 443/]
  ],
  "NetworkPolicy dns": [
    ["/spec/egress/0/to/0/namespaceSelector", {}, /allows .* to a name server of another namespace, UDP 53/],
    ["/spec/egress/0/to/1/ipBlock/cidr", "169.254.0.0/16", /allows .* to the metadata of the cloud, TCP 53/],
    ["/spec/egress/0/to/1/ipBlock/cidr", "0.0.0.0/0", /allows .* to the internet, UDP 53/],
    ["/spec/egress/0/ports/0/protocol", "TCP", /denies .* to the name server, UDP 53/]
  ],
  "NetworkPolicy recommendations": [
    ["/spec/ingress/0/from/0", { namespaceSelector: {} }, /allows a pod of another namespace to recommendations/],
    ["/spec/ingress/0/from", [], /allows the internet to recommendations, TCP 50051/],
    ["/spec/ingress/1/from/0/namespaceSelector", {}, /allows another pod of the namespace to .*, TCP 9101/],
    ["/spec/egress/0/ports/0/port", 4317, /denies recommendations to the collector, TCP 4318/],
    ["/spec/egress/-", { to: [{ ipBlock: { cidr: "0.0.0.0/0" } }] }, /allows recommendations to the internet/],
    ["/spec/egress/-", { to: [{ ipBlock: { cidr: "::/0" } }] }, /allows recommendations to the internet \(IPv6\)/]
  ],
  "Certificate recommendations": [
    ["/spec/dnsNames/0", "books", /dnsNames: not recommendations, the name that clients call/],
    ["/spec/privateKey/rotationPolicy", "Never", /keys are not renewed/],
    ["/spec/renewBefore", "2160h", /renewBefore: 2160h of 2160h/],
    ["/spec/duration", "9000h", /recommendations may outlive its CA/],
    ["/spec/isCA", true, /the certificate of a service is a CA/],
    ["/spec/usages/1", "client auth", /usages: digital signature,client auth/],
    ["/spec/issuerRef/name", "self-signed", /recommendations has no issuer/]
  ],
  "Certificate online-books-ca": [
    ["/spec/isCA", false, /has no issuer/],
    ["/spec/privateKey/rotationPolicy", "Always", /the key of the CA is renewed automatically/]
  ],
  "PodMonitor marketplace": [
    ["/spec/podMetricsEndpoints/0/port", "http", /\/metrics of the port admin is not scraped/],
    ["/spec/podMetricsEndpoints/0/path", "/livez", /\/metrics of the port admin is not scraped/],
    ["/spec/podMetricsEndpoints/0/scrapeTimeout", "20s", /scrapeTimeout: 20s of 15s/],
    ["/metadata/name", "shop", /ReplicaDown does not cover the job online-books\/shop/]
  ],
  "PrometheusRule online-books": [["/spec/groups/0/rules/0/expr", "1", /not those of ops\/prometheus\/rules\.yaml/]]
}

/** The same, where it depends on what is installed. */
const breachesElsewhere: { readonly [overlay: string]: Changes } = {
  base: {
    "Deployment marketplace": [["/spec/replicas", 2, /replicas: 2, not 3/]],
    "Service marketplace": [["/spec/type", "ClusterIP", /is a ClusterIP, not a LoadBalancer/]],
    "Service recommendations": [["/spec/ports/0/appProtocol", "https", /ports: not/]],
    "ConfigMap recommendations": [
      ["/data/RECOMMENDATIONS_TLS_CERT_FILE", "/tls/tls.crt", /RECOMMENDATIONS_TLS_CERT_FILE is set/],
      ["/data/OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.monitoring:4318", /OTEL_EXPORTER_OTLP_ENDPOINT/]
    ]
  },
  "examples/gateway": {
    "Service marketplace": [["/spec/type", "LoadBalancer", /is a LoadBalancer, not a ClusterIP/]],
    "HTTPRoute shop": [["/spec/parentRefs/0/sectionName", "http", /http does not redirect to HTTPS/]],
    "HTTPRoute shop-redirect": [
      ["/spec/rules/0/filters/0/requestRedirect/scheme", "http", /http does not redirect to HTTPS/]
    ],
    "Gateway shop": [["/spec/listeners/1/tls/certificateRefs", [], /https has no certificate/]]
  },
  "examples/ingress": {
    "Service marketplace": [["/spec/type", "LoadBalancer", /is a LoadBalancer, not a ClusterIP/]],
    "Ingress shop": [
      ["/spec/tls/0/hosts/0", "www.example.com", /shop\.example\.com is served without TLS/],
      ["/spec/rules/0/http/paths/0/path", "/shop", /shop\.example\.com does not route to Marketplace/]
    ]
  },
  "examples/own-catalogue": {
    "Deployment recommendations": [
      [`${container}/volumeMounts/0/mountPath`, "/books", /CATALOG_FILE: there is no \/catalogue\/books\.csv/]
    ],
    "ConfigMap recommendations": [
      ["/data/CATALOG_FILE", "/catalogue/catalogue.csv", /CATALOG_FILE: there is no/],
      ["/data/CATALOG_FILE", undefined, /CATALOG_FILE is not set/]
    ]
  }
}

/** What anybody may add: what is known, and what may be called anything. */
const additions: Changes = {
  "Deployment recommendations": [
    [`${container}/env/-`, { name: "NODE_OPTIONS", value: "--enable-source-maps" }, /./],
    [`${container}/env/-`, { name: "RECOMMENDATIONS_MAX_CONCURRENCY", value: "200" }, /./],
    ["/metadata/labels/team", "books", /./],
    ["/metadata/annotations", { "example.com/anything": "any thing: {}" }, /./],
    [`${container}/resources/limits/cpu`, 2.5, /./]
  ],
  "ConfigMap marketplace": [["/data/LOG_LEVEL", "Debug", /./]],
  "Namespace online-books": [["/metadata/annotations", { "a.b": "{}" }, /./]],
  "PrometheusRule online-books": [["/metadata/labels/release", "prometheus", /./]]
}

/** What has each kind of resource once, and all components. */
const whole = ["overlays/tls + monitoring + tracing", "examples/gateway", "examples/ingress"].map(overlay)

const isCalled = (resource: Resource, called: string) => {
  const [kind, name = ""] = called.split(" ")
  const hasName = resource.metadata.name === name
  return resource.kind === kind && (hasName || (kind === "ConfigMap" && resource.metadata.name.startsWith(`${name}-`)))
}

/** Everything that is found wrong after a change, in the first of some overlays that has the resource. */
const foundIn = Effect.fnUntraced(function* (overlays: ReadonlyArray<Overlay>, called: string, change: Change) {
  const [pointer, part] = change
  for (const overlay of overlays) {
    const installation = yield* installationOf(overlay)
    const resource = installation.resources.find((resource) => isCalled(resource, called))
    if (resource !== undefined) return replaced(installation, resource, [changed(resource, pointer, part)])
  }
  return yield* Effect.die(new Error(`there is no ${called}`))
})

const casesOf = (changes: Changes, overlays: ReadonlyArray<Overlay> = whole) =>
  Object.entries(changes).flatMap(([called, changes]) =>
    changes.map((change) => {
      const value = JSON.stringify(change[1]) ?? "nothing"
      return { overlays, called, change, title: `${called}: ${change[0]} is ${value}` }
    })
  )

const suites = {
  "what a cluster would not understand is found": casesOf(mistakes),
  "what is not there is found": casesOf(danglers),
  "what is promised no longer is found": [
    ...casesOf(breaches),
    ...Object.entries(breachesElsewhere).flatMap(([name, changes]) => casesOf(changes, [overlay(name)]))
  ]
}

layer(environment, { excludeTestServices: true })("a line that is another one", (it) => {
  for (const [suite, cases] of Object.entries(suites)) {
    describe(suite, () => {
      it.effect.each(cases)("$title", ({ called, change, overlays }) =>
        Effect.gen(function* () {
          const found = yield* foundIn(overlays, called, change)
          assert.match(found.join("\n"), change[2])
        })
      )
    })
  }

  describe("what may be added is not", () => {
    it.effect.each(casesOf(additions))("$title", ({ called, change, overlays }) =>
      Effect.map(foundIn(overlays, called, change), (found) => assert.deepStrictEqual(found, []))
    )
  })
})

/** A pod with a port that is called `door`. */
const podOf = (namespace: string, app: string): NetworkPolicies.Peer => ({
  name: app,
  address: "10.0.0.1",
  pod: { namespace, namespaceLabels: { name: namespace }, labels: { app }, ports: { door: 5000 } }
})

const shop = podOf("shop", "shop")
const books = podOf("shop", "books")
const stranger = podOf("street", "stranger")
const outside: NetworkPolicies.Peer = { name: "outside", address: "203.0.113.7" }
const outside6: NetworkPolicies.Peer = { name: "outside6", address: "2001:db8::7" }

/** For the pods of the shop. */
const policyOf = (spec: NonNullable<Of<"NetworkPolicy">["spec"]>): Of<"NetworkPolicy"> => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "policy", namespace: "shop" },
  spec
})

const toShop = { podSelector: { matchLabels: { app: "shop" } } }
const expression = (operator: string, values?: Array<string>) => ({
  namespaceSelector: {},
  podSelector: { matchExpressions: [{ key: "app", operator, ...(values === undefined ? {} : { values }) }] }
})
const block = (cidr: string, except?: Array<string>) => ({
  ipBlock: { cidr, ...(except === undefined ? {} : { except }) }
})

describe("a network policy", () => {
  it.each<{ policy: string; spec: NonNullable<Of<"NetworkPolicy">["spec"]>; lets: string }>([
    { policy: "for other pods", spec: { podSelector: { matchLabels: { app: "x" } } }, lets: "all" },
    { policy: "without rules", spec: toShop, lets: "" },
    { policy: "for what goes out", spec: { ...toShop, policyTypes: ["Egress"] }, lets: "all" },
    { policy: "with a rule for all", spec: { ...toShop, ingress: [{}] }, lets: "all" },
    { policy: "of no peers", spec: { ...toShop, ingress: [{ from: [] }] }, lets: "all" },
    { policy: "of pods beside it", spec: { ...toShop, ingress: [{ from: [{ podSelector: {} }] }] }, lets: "books" },
    {
      policy: "of a namespace",
      spec: { ...toShop, ingress: [{ from: [{ namespaceSelector: { matchLabels: { name: "street" } } }] }] },
      lets: "stranger"
    },
    {
      policy: "of all namespaces",
      spec: { ...toShop, ingress: [{ from: [{ namespaceSelector: {} }] }] },
      lets: "books stranger"
    },
    {
      policy: "of some labels",
      spec: { ...toShop, ingress: [{ from: [expression("In", ["books"])] }] },
      lets: "books"
    },
    {
      policy: "of all labels but some",
      spec: { ...toShop, ingress: [{ from: [expression("NotIn", ["books"])] }] },
      lets: "stranger"
    },
    { policy: "of a label", spec: { ...toShop, ingress: [{ from: [expression("Exists")] }] }, lets: "books stranger" },
    { policy: "of no label", spec: { ...toShop, ingress: [{ from: [expression("DoesNotExist")] }] }, lets: "" },
    {
      policy: "of addresses",
      spec: { ...toShop, ingress: [{ from: [block("0.0.0.0/0", ["10.0.0.0/8"])] }] },
      lets: "outside"
    },
    { policy: "of addresses of IPv6", spec: { ...toShop, ingress: [{ from: [block("::/0")] }] }, lets: "outside6" },
    { policy: "of a port", spec: { ...toShop, ingress: [{ ports: [{ port: 5000 }] }] }, lets: "all" },
    { policy: "of a port by name", spec: { ...toShop, ingress: [{ ports: [{ port: "door" }] }] }, lets: "all" },
    { policy: "of ports", spec: { ...toShop, ingress: [{ ports: [{ port: 4000, endPort: 6000 }] }] }, lets: "all" },
    { policy: "of another port", spec: { ...toShop, ingress: [{ ports: [{ port: 5001 }] }] }, lets: "" },
    { policy: "of a name that is none", spec: { ...toShop, ingress: [{ ports: [{ port: "window" }] }] }, lets: "" },
    { policy: "of UDP", spec: { ...toShop, ingress: [{ ports: [{ port: 5000, protocol: "UDP" }] }] }, lets: "" }
  ])("$policy lets in what it says", ({ lets, spec }) => {
    const all = [books, stranger, outside, outside6]
    const isLet = (from: NetworkPolicies.Peer) =>
      NetworkPolicies.allowed([policyOf(spec)], from, shop, { protocol: "TCP", port: 5000 })
    const expected = lets === "all" ? all : all.filter(({ name }) => lets.split(" ").includes(name))
    assert.deepStrictEqual(all.filter(isLet), expected)
  })

  it("lets out what it says, and into what has one of its own what that says", () => {
    const out = policyOf({ ...toShop, egress: [{ to: [{ podSelector: {} }], ports: [{ port: "door" }] }] })
    const into = policyOf({ podSelector: { matchLabels: { app: "books" } }, ingress: [{ from: [toShop] }] })
    const isLet = (from: NetworkPolicies.Peer, to: NetworkPolicies.Peer, port = 5000) =>
      NetworkPolicies.allowed([out, into], from, to, { protocol: "TCP", port })
    assert.isTrue(isLet(shop, books))
    assert.isFalse(isLet(shop, books, 5001))
    assert.isFalse(isLet(shop, stranger))
    assert.isFalse(isLet(shop, outside))
    assert.isFalse(isLet(stranger, books))
    assert.isTrue(isLet(books, stranger))
  })
})
