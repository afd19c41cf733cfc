/**
 * Mutation tests of the rules: if a line of the manifests is removed or changed, a rule must find a violation. Lines that can be
 * removed are listed with the reason, so a new line in the manifests needs a rule or an entry in that list.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"

import { nameOf } from "./KubernetesReferences.ts"
import type { Resource } from "./Kustomize.ts"
import { Manifests, type Of, type Overlay, overlays } from "./Manifests.ts"
import * as NetworkPolicies from "./NetworkPolicies.ts"
import * as Policy from "./Policy.ts"

/** A JSON pointer, as in the patches of Kustomize. */
type Pointer = string

const keysOf = (pointer: Pointer) =>
  pointer
    .split("/")
    .slice(1)
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"))

type Json = { [key: string]: Json }

/** Replaces a part of a resource. The value undefined removes it, and `-` appends to a list. */
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

/** The lines that can be removed without a violation, by resource and pointer. */
const dispensable: ReadonlyArray<RegExp> = [
  // for people and their queries; no selector uses them
  /^(Deployment|StatefulSet) \S+ \/spec\/template\/metadata\/labels\/app\.kubernetes\.io~1part-of$/,
  /^\w+ \S+ \/metadata\/labels\/app\.kubernetes\.io~1name$/,
  /^Deployment \S+ \/spec\/template\/metadata\/annotations(\/kubectl\.kubernetes\.io~1default-container)?$/,
  // defaults of Kubernetes
  /^Namespace \S+ \/metadata\/labels\/pod-security\.kubernetes\.io~1\w+-version$/,
  /^Deployment \S+ \/spec\/revisionHistoryLimit$/,
  /^(Deployment|StatefulSet) \S+ \/spec\/template\/spec\/containers\/0\/imagePullPolicy$/,
  /^(Deployment|StatefulSet) \S+ \/spec\/template\/spec\/containers\/0\/ports\/\d\/protocol$/,
  /^NetworkPolicy \S+\/(marketplace|recommendations|recommendations-database|postgres|acme-solver) \/spec\/\w+\/\d\/ports\/\d\/protocol$/,
  /^NetworkPolicy \S+\/dns \/spec\/egress\/0\/ports\/1\/protocol$/,
  // the mount of a ConfigMap is always read-only
  /^Deployment \S+\/recommendations \/spec\/template\/spec\/containers\/0\/volumeMounts\/0\/readOnly$/,
  // defaults of the services
  /^ConfigMap \S+ \/data\/(DRAIN_TIMEOUT|MARKETPLACE_RESOLUTION_INTERVAL)$/,
  // defaults of cert-manager, or values that could differ
  /^Certificate \S+\/online-books-ca \/spec\/issuerRef\/(kind|group)$/,
  /^Certificate \S+ \/spec\/privateKey\/(algorithm|size)$/,
  /^Certificate \S+\/marketplace \/spec\/uris(\/0)?$/,
  // a default of the operator
  /^PodMonitor \S+ \/spec\/podMetricsEndpoints\/0\/path$/
]

/** Leaves out names, without which Kustomize does not render. */
const isNamed = (pointer: Pointer) => pointer !== "/metadata" && pointer !== "/metadata/name"

const environment = Layer.mergeAll(Manifests.layer, Policy.Facts.layer).pipe(Layer.provideMerge(NodeServices.layer))

const overlay = (name: string): Overlay => {
  const found = overlays.find((overlay) => overlay.name === name)
  if (found === undefined) throw new Error(`the overlay ${name} is missing`)
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

/** Overlays that together contain every resource. */
const every = [
  "base",
  "overlays/tls + monitoring + postgres + tracing",
  "examples/gateway",
  "examples/ingress",
  "examples/own-catalogue"
].map(overlay)

layer(environment, { excludeTestServices: true })("removing a line", (it) => {
  it.effect(
    "violates a rule, unless the line is listed",
    () =>
      Effect.gen(function* () {
        const seen = new Set<string>()
        const missed = new Set<string>()
        for (const overlay of every) {
          const installation = yield* installationOf(overlay)
          for (const resource of installation.resources) {
            assert.isNotEmpty(replaced(installation, resource, []), `${overlay.name} without ${nameOf(resource)}`)
            // it is compared with ops/ as a whole
            const pointers = resource.kind === "PrometheusRule" ? ["/spec/groups/0"] : pointersInto(resource)
            for (const pointer of [...pointers].filter(isNamed)) {
              const other = changed(resource, pointer, undefined)
              const text = JSON.stringify(other)
              // overlays share resources
              if (seen.has(text)) continue
              seen.add(text)
              if (replaced(installation, resource, [other]).length === 0) missed.add(`${nameOf(resource)} ${pointer}`)
            }
          }
        }
        assert.isAbove(seen.size, 1000)
        const unlisted = [...missed].filter((line) => !dispensable.some((pattern) => pattern.test(line)))
        assert.deepStrictEqual(unlisted, [], "no rule finds a violation without these lines")
        const unused = dispensable.filter((pattern) => ![...missed].some((line) => pattern.test(line)))
        assert.deepStrictEqual(unused, [], "these entries are unused")
      }),
    180_000
  )
})

type Change = readonly [pointer: Pointer, part: unknown, finds: RegExp]

/** Changes by the kind and name of the resource. The name of a ConfigMap is without its hash. */
interface Changes {
  readonly [resource: string]: ReadonlyArray<Change>
}

const container = "/spec/template/spec/containers/0"
const pod = "/spec/template/spec"

/** Changes that a cluster would reject. */
const mistakes: Changes = {
  "Deployment recommendations": [
    [`${container}/readinesProbe`, {}, /containers\[0\]\.readinesProbe is an unknown field/],
    [`${container}/securityContext/capabilities/dropped`, [], /capabilities\.dropped is an unknown field/],
    ["/spec/template/metadata/lables", {}, /template\.metadata\.lables is an unknown field/],
    ["/spce", {}, /spce is an unknown field/],
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
    ["/metadata/labels/-name", "x", /labels\.-name is not a valid key/],
    ["/metadata/annotations", { "a/b/c": "x" }, /annotations\["a\/b\/c"\] is not a valid key/],
    ["/metadata/name", "Books", /metadata\.name cannot be "Books"/],
    ["/apiVersion", "apps/v1beta1", /apps\/v1beta1 Deployment is an unknown kind/],
    ["/kind", "Deploiment", /apps\/v1 Deploiment is an unknown kind/]
  ],
  "Service recommendations": [
    ["/spec/port", 1, /spec\.port is an unknown field/],
    ["/metadata/name", "1-recommendations", /metadata\.name cannot be/],
    ["/spec/selector/app.kubernetes.io~1name", "a b", /spec\.selector\["app\.kubernetes\.io\/name"\] cannot be "a b"/]
  ],
  "ConfigMap recommendations": [["/data/LOG_LEVEL", 3, /data\.LOG_LEVEL must be string/]],
  "NetworkPolicy recommendations": [
    ["/spec/ingres", [], /spec\.ingres is an unknown field/],
    ["/spec/ingress/0/form", [], /spec\.ingress\[0\]\.form is an unknown field/]
  ],
  "PodDisruptionBudget recommendations": [
    ["/spec/unhealthyPodEvictionPolicy", "Always", /unhealthyPodEvictionPolicy/],
    ["/spec/maxUnavailible", 1, /spec\.maxUnavailible is an unknown field/]
  ],
  "HorizontalPodAutoscaler recommendations": [
    ["/spec/behavior/scaleDown/policy", [], /scaleDown\.policy is an unknown field/],
    ["/spec/metrics/0/resource/target/utilisation", 80, /target\.utilisation is an unknown field/]
  ],
  "Certificate recommendations": [
    ["/spec/dnsName", [], /spec\.dnsName is an unknown field/],
    ["/spec/privateKey/rotationPolicy", "Sometimes", /rotationPolicy must be equal to one of the allowed values/]
  ],
  "Issuer online-books-ca": [["/spec/ca/secret", "x", /spec\.ca\.secret is an unknown field/]],
  "PodMonitor recommendations": [
    ["/spec/podMetricsEndpoints/0/intervall", "1s", /podMetricsEndpoints\[0\]\.intervall is an unknown field/],
    ["/spec/podMetricsEndpoints/0/interval", "15 s", /interval must match pattern/]
  ],
  "PrometheusRule online-books": [
    ["/spec/groups/0/rules/0/expression", "1", /rules\[0\]\.expression is an unknown field/]
  ],
  "Gateway shop": [["/spec/listeners/0/hostName", "x", /listeners\[0\]\.hostName is an unknown field/]],
  "HTTPRoute shop": [["/spec/rules/0/backendRefs/0/prot", 1, /backendRefs\[0\]\.prot is an unknown field/]],
  "Ingress shop": [["/spec/rules/0/http/paths/0/service", {}, /paths\[0\]\.service is an unknown field/]],
  "Secret recommendations-database": [["/stringDate", {}, /stringDate is an unknown field/]],
  "StatefulSet postgres": [
    ["/spec/volumeClaimTemplates/0/spec/storageClass", "fast", /spec\.storageClass is an unknown field/],
    [`${container}/startupProbe/exec/commands`, [], /exec\.commands is an unknown field/]
  ]
}

/** References to things that do not exist. */
const danglers: Changes = {
  "Deployment marketplace": [
    [`${container}/envFrom/0/configMapRef/name`, "marketplace", /ConfigMap marketplace does not exist/],
    [`${pod}/serviceAccountName`, "shop", /ServiceAccount shop does not exist/],
    [`${pod}/volumes/0/secret/secretName`, "shop-tls", /Secret shop-tls does not exist/],
    [`${pod}/volumes/-`, { name: "more", emptyDir: {} }, /volume more is not mounted/],
    [`${container}/volumeMounts/0/name`, "certificates", /volume certificates does not exist/],
    [`${container}/readinessProbe/httpGet/port`, "probes", /no container has a port probes/],
    [`${container}/env/1/name`, "POD", /OTEL_RESOURCE_ATTRIBUTES refers to \$\(POD_NAME\)/],
    [`${pod}/topologySpreadConstraints/0/labelSelector/matchLabels`, { app: "x" }, /does not select its own pods/],
    ["/spec/selector/matchLabels", { app: "x" }, /does not select its own pods/],
    ["/spec/template/metadata/annotations/kubectl.kubernetes.io~1default-container", "x", /container x does not exist/],
    ["/metadata/namespace", "books", /namespace books does not exist/],
    ["/metadata/namespace", undefined, /has no namespace/]
  ],
  "Deployment recommendations": [
    [`${container}/env/1/valueFrom/secretKeyRef/name`, "database", /Secret database does not exist/],
    [`${container}/env/1/valueFrom/secretKeyRef/key`, "URL", /recommendations-database has no key URL/]
  ],
  "StatefulSet postgres": [
    [`${container}/volumeMounts/0/name`, "books", /volume books does not exist/],
    ["/spec/serviceName", "database", /Service database does not exist/],
    ["/spec/selector/matchLabels", { app: "x" }, /does not select its own pods/]
  ],
  "Service marketplace": [
    ["/spec/selector/app.kubernetes.io~1name", "shop", /selects no pods by/],
    ["/spec/ports/0/targetPort", "https", /no container has a port https/],
    ["/metadata/name", "recommendations", /Service online-books\/recommendations: occurs twice/]
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
    ["/spec/scaleTargetRef/name", "shop", /apps\/v1 Deployment shop does not exist/],
    ["/spec/scaleTargetRef/kind", "StatefulSet", /apps\/v1 StatefulSet marketplace does not exist/]
  ],
  "Certificate marketplace": [
    ["/spec/issuerRef/name", "letsencrypt", /Issuer letsencrypt does not exist/],
    ["/spec/secretName", "shop-tls", /Secret marketplace-tls does not exist/]
  ],
  "Issuer online-books-ca": [["/spec/ca/secretName", "ca", /Secret ca does not exist/]],
  "Gateway shop": [["/metadata/annotations", undefined, /Secret shop-tls does not exist/]],
  "HTTPRoute shop": [
    ["/spec/rules/0/backendRefs/0/name", "shop", /Service shop does not exist/],
    ["/spec/rules/0/backendRefs/0/port", 80, /Service marketplace has no port 80/],
    ["/spec/parentRefs/0/name", "other", /Gateway shop-gateway\/other does not exist/],
    ["/spec/parentRefs/0/sectionName", "tls", /Gateway shop has no listener tls/],
    ["/spec/hostnames/0", "www.example.com", /Gateway shop does not accept www\.example\.com/]
  ],
  "Ingress shop": [
    ["/spec/rules/0/http/paths/0/backend/service/name", "shop", /Service shop does not exist/],
    ["/spec/rules/0/http/paths/0/backend/service/port", { number: 80 }, /Service marketplace has no port 80/],
    ["/metadata/annotations", undefined, /Secret shop-tls does not exist/]
  ]
}

/** Changes that a cluster accepts but that violate a guarantee. */
const breaches: Changes = {
  "Deployment marketplace": [
    ["/spec/replicas", 5, /replicas: each apply would overwrite/],
    ["/spec/strategy/type", "Recreate", /strategy: Recreate/],
    ["/spec/strategy/rollingUpdate/maxUnavailable", 1, /maxUnavailable: 1, not 0/],
    ["/spec/strategy/rollingUpdate/maxSurge", "100%", /maxSurge: 100%, not 1/],
    ["/spec/minReadySeconds", 10, /minReadySeconds: 10, but load balancers .* after 15 s/],
    ["/spec/progressDeadlineSeconds", 90, /progressDeadlineSeconds: 90 can pass/],
    [`${container}/startupProbe/failureThreshold`, 20, /startupProbe: acts after 20 s/],
    [`${container}/readinessProbe/httpGet/path`, "/livez", /readinessProbe: does not request \/readyz/],
    [`${container}/readinessProbe/httpGet/port`, "http", /readinessProbe: does not request/],
    [`${container}/readinessProbe/periodSeconds`, 30, /readinessProbe: acts after 60 s/],
    [`${container}/livenessProbe/httpGet/path`, "/readyz", /livenessProbe: does not request \/livez/],
    [`${container}/livenessProbe/failureThreshold`, 1, /livenessProbe: acts on a single failure/],
    [`${container}/livenessProbe/timeoutSeconds`, 1, /livenessProbe: has a timeout of 1 s/],
    [`${container}/livenessProbe/httpGet/host`, "127.0.0.1", /livenessProbe: does not request/],
    [`${container}/lifecycle`, { preStop: { sleep: { seconds: 5 } } }, /marketplace: a lifecycle hook/],
    [`${pod}/terminationGracePeriodSeconds`, 44, /terminationGracePeriodSeconds: 44, but draining takes 15 \+ 25 s/],
    [`${container}/resources/limits/memory`, "512Mi", /memory: 384Mi requested, but the limit is 512Mi/],
    [`${container}/resources/requests/cpu`, "3", /the CPU request exceeds its limit/],
    [`${container}/resources/limits/cpu`, "900m", /the CPU limit is not above one CPU/],
    [`${container}/resources/requests/ephemeral-storage`, undefined, /requests\.ephemeral-storage: undefined/],
    [`${container}/resources/requests/ephemeral-storage`, "1Gi", /the ephemeral-storage request exceeds its limit/],
    [`${container}/resources/limits/ephemeral-storage`, undefined, /is less than its log can take/],
    [`${container}/resources/limits/ephemeral-storage`, "50Mi", /is less than its log can take/],
    [
      `${pod}/topologySpreadConstraints/0/whenUnsatisfiable`,
      "DoNotSchedule",
      /not spread over kubernetes\.io\/hostname/
    ],
    [`${pod}/topologySpreadConstraints/1/maxSkew`, 2, /not spread over topology\.kubernetes\.io\/zone/],
    [`${pod}/automountServiceAccountToken`, true, /the pod gets a token/],
    [`${pod}/serviceAccountName`, "recommendations", /serviceAccountName: recommendations/],
    [`${pod}/hostNetwork`, true, /hostNetwork/],
    [`${pod}/hostPID`, true, /hostPID/],
    [
      "/spec/template/metadata/annotations/container.apparmor.security.beta.kubernetes.io~1recommendations",
      "unconfined",
      /container\.apparmor/
    ],
    [`${pod}/hostIPC`, true, /hostIPC/],
    [`${pod}/volumes/-`, { name: "node", hostPath: { path: "/" } }, /volume node: hostPath/],
    [`${pod}/securityContext/runAsUser`, 0, /securityContext: .*"runAsUser":0/],
    [`${pod}/securityContext/sysctls`, [{ name: "kernel.msgmax", value: "1" }], /securityContext: .*"sysctls":/],
    [`${pod}/initContainers`, [{ name: "first", image: "busybox:1" }], /first: securityContext: undefined/],
    [`${pod}/initContainers`, [{ name: "first", image: "busybox:1" }], /first: requests\.cpu/],
    [`${pod}/initContainers`, [{ name: "first", image: "busybox" }], /busybox has neither a tag nor a digest/],
    [`${container}/securityContext/procMount`, "Unmasked", /marketplace: securityContext: .*"procMount":"Unmasked"/],
    [`${container}/securityContext/capabilities/add`, ["NET_BIND_SERVICE"], /marketplace: securityContext/],
    [`${container}/ports/0/hostPort`, 5000, /hostPort/],
    [`${container}/ports/0/containerPort`, 8080, /ports: \{"http":8080,"admin":9102\}, not/],
    [`${pod}/enableServiceLinks`, true, /enableServiceLinks/],
    [`${container}/image`, "ghcr.io/online-books-for-you/marketplace", /neither a tag nor a digest/],
    [`${container}/image`, "ghcr.io/online-books-for-you/marketplace:latest", /has a tag that moves/],
    [`${container}/image`, "localhost:5000/recommendations:1.0.0", /is not the image of marketplace/],
    [`${container}/env/0/value`, "127.0.0.1", /127\.0\.0\.1 is not reachable/],
    [`${container}/env/-`, { name: "MARKETPLACE_HTTP_PORT", value: "8080" }, /MARKETPLACE_HTTP_PORT changes the port/],
    [`${container}/env/-`, { name: "MARKETPLACE_PORT", value: "5000" }, /marketplace has no setting MARKETPLACE_PORT/],
    [
      `${container}/env/-`,
      { name: "RECOMMENDATIONS_MAX_QUEUE", value: "1" },
      /marketplace has no setting RECOMMENDATIONS_MAX_QUEUE/
    ],
    [
      `${container}/envFrom/-`,
      { secretRef: { name: "marketplace-tls" } },
      /a change of settings in a Secret does not replace pods/
    ],
    [`${container}/volumeMounts/0/subPath`, "tls.crt", /or only a part of it, which is never updated/],
    [`${container}/volumeMounts/0/mountPath`, "/certificates", /MARKETPLACE_TLS_CERT_FILE: \/tls\/tls\.crt/],
    [`${pod}/volumes/0/secret/defaultMode`, 0o444, /defaultMode: 444, not 440/],
    [`${pod}/volumes/0/secret/items`, [{ key: "tls.crt", path: "tls.crt" }], /not all files are mounted/],
    [`${pod}/volumes/0/secret/secretName`, "recommendations-tls", /usages: digital signature,server auth/]
  ],
  "Deployment recommendations": [
    ["/spec/minReadySeconds", 31, /minReadySeconds: 31, but clients .* after 1 \+ 30 s/],
    [`${container}/env/1`, { name: "DATABASE_URL", value: "postgres://postgres/x" }, /DATABASE_URL: .*postgres\/x/],
    [
      `${container}/env/-`,
      { name: "RECOMMENDATIONS_PORT", value: "1" },
      /recommendations has no setting RECOMMENDATIONS_PORT/
    ]
  ],
  "ConfigMap marketplace": [
    ["/data/MARKETPLACE_PAGE_BUDGETS", "1 second", /marketplace has no setting MARKETPLACE_PAGE_BUDGETS/],
    ["/data/MARKETPLACE_RESOLUTION_INTERVAL", "5 seconds", /minReadySeconds: 35, but clients .* after 5 \+ 30 s/],
    ["/data/DRAIN_DELAY", "0 seconds", /DRAIN_DELAY: the service stops listening/],
    ["/data/DRAIN_TIMEOUT", "31s", /but draining takes 15 \+ 31 s/],
    ["/data/DRAIN_TIMEOUT", "25 secnds", /DRAIN_TIMEOUT="25 secnds": expected a duration/],
    ["/data/RECOMMENDATIONS_TARGET", "recommendations:50051", /is not the Service of Recommendations/],
    ["/data/RECOMMENDATIONS_TARGET", "dns:///recommendations:50052", /is not the Service of Recommendations/],
    ["/data/MARKETPLACE_TLS_CA_FILE", "/tls/ca.pem", /MARKETPLACE_TLS_CA_FILE: \/tls\/ca\.pem/],
    ["/data/MARKETPLACE_TLS_SERVER_NAME", "books.example.com", /dnsNames: books\.example\.com is missing/],
    ["/data/OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.monitoring:4317", /4317 is not reachable/],
    ["/data/OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.otel:4318", /4318 is not reachable/],
    ["/metadata/name", "marketplace", /ConfigMap marketplace-\w+ does not exist/]
  ],
  "ConfigMap recommendations": [
    ["/data/DATABASE_MAX_CONNECTIONS", "10", /13 replicas open 143/],
    ["/data/DATABASE_MAX_CONNECTIONS", "6 each", /DATABASE_MAX_CONNECTIONS="6 each": expected/],
    ["/data/RECOMMENDATIONS_MAX_CONNECTION_AGE", "5 minuts", /MAX_CONNECTION_AGE="5 minuts": expected/],
    [
      "/data/RECOMMENDATIONS_TLS_ALLOWED_CLIENTS",
      "shop",
      /RECOMMENDATIONS_TLS_ALLOWED_CLIENTS: no certificate has the name shop/
    ],
    ["/data/RECOMMENDATIONS_TLS_CLIENT_CA_FILE", undefined, /RECOMMENDATIONS_TLS_CLIENT_CA_FILE/],
    ["/data/CATALOG_FILE", "/catalogue/books.csv", /CATALOG_FILE: \/catalogue\/books\.csv does not exist/]
  ],
  "Namespace online-books": [
    ["/metadata/labels/pod-security.kubernetes.io~1enforce", "baseline", /enforce is not restricted/]
  ],
  "StatefulSet postgres": [
    ["/spec/replicas", 2, /replicas: 2: each pod has data of its own/],
    [`${pod}/securityContext/runAsUser`, 0, /securityContext: .*"runAsUser":0/],
    [`${pod}/securityContext/fsGroup`, 1000, /securityContext: .*"fsGroup":1000/],
    [`${pod}/securityContext/fsGroupChangePolicy`, "Always", /PostgreSQL refuses files/],
    [`${container}/securityContext/readOnlyRootFilesystem`, false, /postgres: securityContext/],
    [`${pod}/terminationGracePeriodSeconds`, 30, /too short for a checkpoint/],
    [`${container}/env/2`, { name: "POSTGRES_PASSWORD", value: "online-books" }, /the password is not secret/],
    [`${container}/env/1/value`, "postgres", /url: postgres:.*, not postgres:.*\/postgres\?/],
    [`${container}/env/3/value`, "/var/lib/postgresql/data", /PGDATA is not below the volume/],
    [`${container}/volumeMounts/-`, { name: "tmp", mountPath: "/etc" }, /writable: .*\/etc/],
    [
      `${container}/livenessProbe/exec/command/1`,
      "--host=/var/run/postgresql",
      /livenessProbe: does not run pg_isready/
    ],
    [`${container}/startupProbe/failureThreshold`, 10, /startupProbe: acts after 20 s/],
    [`${container}/ports/0/containerPort`, 5433, /does not have the port 5432/],
    [`${container}/image`, "docker.io/library/postgres:latest", /has a tag that moves/],
    [`${pod}/volumes/0/emptyDir`, {}, /volume run: a pod could fill the disk/],
    ["/spec/volumeClaimTemplates/0/spec/accessModes/0", "ReadWriteMany", /the volume is not for one node/],
    ["/spec/volumeClaimTemplates/0/spec/resources/requests/storage", "10Mi", /the volume is below 1 GiB/]
  ],
  "Secret recommendations-database": [
    ["/stringData/url", "postgres://online_books:x@postgres:5432/online_books?sslmode=disable", /url: .*:x@postgres/],
    ["/stringData/password", "", /url: /]
  ],
  "Service postgres": [
    ["/spec/type", "LoadBalancer", /the database is reachable from outside/],
    ["/spec/ports/0/port", 5433, /the Service has other ports/],
    ["/metadata/name", "database", /the Service of the database has the name database/]
  ],
  "ServiceAccount marketplace": [["/automountServiceAccountToken", true, /the ServiceAccount gives its pods tokens/]],
  "Service marketplace": [
    ["/spec/type", "NodePort", /is a NodePort, not a LoadBalancer/],
    ["/spec/ports/0/port", 80, /ports: not/],
    ["/spec/ports/0/appProtocol", "grpc", /ports: not/],
    ["/spec/selector", { "app.kubernetes.io/part-of": "online-books" }, /the Service selects other pods too/]
  ],
  "Service recommendations": [
    ["/spec/clusterIP", undefined, /not headless/],
    ["/spec/type", "LoadBalancer", /reachable from outside the cluster/],
    ["/spec/publishNotReadyAddresses", true, /clients call replicas that are not ready/],
    ["/spec/ports/0/port", 443, /ports: not/],
    ["/spec/ports/0/appProtocol", "kubernetes.io/h2c", /ports: not/]
  ],
  "PodDisruptionBudget marketplace": [
    ["/spec/maxUnavailable", "50%", /maxUnavailable: 50%, not 1/],
    ["/spec/unhealthyPodEvictionPolicy", "IfHealthyBudget", /a replica that is not ready blocks/],
    ["/spec/selector/matchLabels", { "app.kubernetes.io/part-of": "online-books" }, /2 PodDisruptionBudgets/]
  ],
  "HorizontalPodAutoscaler marketplace": [
    ["/spec/minReplicas", 2, /minReplicas: 2, not 3/],
    ["/spec/maxReplicas", 3, /maxReplicas: 3 does not exceed/],
    ["/spec/metrics/0/resource/name", "memory", /does not use CPU utilization/],
    ["/spec/behavior/scaleDown/policies/0/value", 2, /not removed one at a time/],
    ["/spec/behavior/scaleDown/policies/0/periodSeconds", 30, /not removed one at a time/]
  ],
  "NetworkPolicy default-deny": [
    [
      "/spec/podSelector",
      { matchLabels: { "app.kubernetes.io/name": "marketplace" } },
      /no policy denies all other connections/
    ],
    ["/spec/ingress", [{}], /allows the internet to recommendations, TCP 50051/],
    ["/spec/egress", [{}], /allows recommendations to the internet, TCP 443/]
  ],
  "NetworkPolicy dns": [
    ["/spec/egress/0/to/0/namespaceSelector", {}, /allows .* to a name server of another namespace, UDP 53/],
    ["/spec/egress/0/to/1/ipBlock/cidr", "169.254.0.0/16", /allows .* to the cloud's metadata service, TCP 53/],
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
  "NetworkPolicy postgres": [
    ["/spec/ingress/0/from", [], /allows the internet to postgres, TCP 5432/],
    ["/spec/ingress/0/from/0/podSelector", {}, /allows marketplace to postgres, TCP 5432/],
    ["/spec/ingress/0/ports", [], /allows recommendations to postgres, TCP 80/]
  ],
  "NetworkPolicy recommendations-database": [
    ["/spec/egress/0/to/0/podSelector", {}, /allows recommendations to another pod of the namespace, TCP 5432/],
    ["/spec/egress/0/ports", [], /allows recommendations to postgres, TCP 80/]
  ],
  "Certificate recommendations": [
    ["/spec/dnsNames/0", "books", /dnsNames: recommendations is missing, which clients verify/],
    ["/spec/privateKey/rotationPolicy", "Never", /a stolen key stays in use/],
    ["/spec/renewBefore", "2160h", /renewBefore: 2160h of 2160h/],
    ["/spec/duration", "9000h", /recommendations can outlive its authority/],
    ["/spec/isCA", true, /the certificate of a service can sign others/],
    ["/spec/usages/1", "client auth", /usages: digital signature,client auth/],
    ["/spec/issuerRef/name", "self-signed", /recommendations is not signed by the authority/]
  ],
  "Certificate online-books-ca": [
    ["/spec/isCA", false, /is not signed by the authority/],
    ["/spec/privateKey/rotationPolicy", "Always", /the authority's key is rotated automatically/]
  ],
  "PodMonitor marketplace": [
    ["/spec/podMetricsEndpoints/0/port", "http", /does not scrape \/metrics from the port admin/],
    ["/spec/podMetricsEndpoints/0/path", "/livez", /does not scrape \/metrics from the port admin/],
    ["/spec/podMetricsEndpoints/0/scrapeTimeout", "20s", /scrapeTimeout: 20s of 15s/],
    ["/metadata/name", "shop", /ReplicaDown does not match the job online-books\/shop/]
  ],
  "PrometheusRule online-books": [["/spec/groups/0/rules/0/expr", "1", /differ from ops\/prometheus\/rules\.yaml/]]
}

/** The same for certain overlays. */
const breachesElsewhere: { readonly [overlay: string]: Changes } = {
  base: {
    "Deployment marketplace": [["/spec/replicas", 2, /replicas: 2, not 3/]],
    "Service marketplace": [["/spec/type", "ClusterIP", /is a ClusterIP, not a LoadBalancer/]],
    "Service recommendations": [["/spec/ports/0/appProtocol", "https", /ports: not/]],
    "NetworkPolicy recommendations-database": [
      ["/spec/egress/0/to/0/ipBlock/cidr", "0.0.0.0/0", /allows recommendations to the internet, TCP 5432/],
      ["/spec/egress/0/ports/0/port", 5433, /denies recommendations to the database, TCP 5432/]
    ],
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
      ["/spec/rules/0/http/paths/0/path", "/shop", /shop\.example\.com is not routed to Marketplace/]
    ]
  },
  "examples/own-catalogue": {
    "Deployment recommendations": [
      [`${container}/volumeMounts/0/mountPath`, "/books", /CATALOG_FILE: \/catalogue\/books\.csv does not exist/]
    ],
    "ConfigMap recommendations": [
      ["/data/CATALOG_FILE", "/catalogue/catalogue.csv", /CATALOG_FILE: .* does not exist/],
      ["/data/CATALOG_FILE", undefined, /CATALOG_FILE is not set/]
    ]
  }
}

/** Additions that violate nothing. */
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

/** Overlays with every kind of resource and all components. */
const whole = ["overlays/tls + monitoring + postgres + tracing", "examples/gateway", "examples/ingress"].map(overlay)

const isCalled = (resource: Resource, called: string) => {
  const [kind, name = ""] = called.split(" ")
  const hasName = resource.metadata.name === name
  return resource.kind === kind && (hasName || (kind === "ConfigMap" && resource.metadata.name.startsWith(`${name}-`)))
}

/** The violations after a change, in the first of the overlays that contains the resource. */
const foundIn = Effect.fnUntraced(function* (overlays: ReadonlyArray<Overlay>, called: string, change: Change) {
  const [pointer, part] = change
  for (const overlay of overlays) {
    const installation = yield* installationOf(overlay)
    const resource = installation.resources.find((resource) => isCalled(resource, called))
    if (resource !== undefined) return replaced(installation, resource, [changed(resource, pointer, part)])
  }
  return yield* Effect.die(new Error(`no overlay contains ${called}`))
})

const casesOf = (changes: Changes, overlays: ReadonlyArray<Overlay> = whole) =>
  Object.entries(changes).flatMap(([called, changes]) =>
    changes.map((change) => {
      const value = JSON.stringify(change[1]) ?? "nothing"
      return { overlays, called, change, title: `${called}: ${change[0]} is ${value}` }
    })
  )

const suites = {
  "is found if a cluster would reject it": casesOf(mistakes),
  "is found if it refers to something that does not exist": casesOf(danglers),
  "is found if it violates a guarantee": [
    ...casesOf(breaches),
    ...Object.entries(breachesElsewhere).flatMap(([name, changes]) => casesOf(changes, [overlay(name)]))
  ]
}

layer(environment, { excludeTestServices: true })("changing a line", (it) => {
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

  describe("is allowed if it violates nothing", () => {
    it.effect.each(casesOf(additions))("$title", ({ called, change, overlays }) =>
      Effect.map(foundIn(overlays, called, change), (found) => assert.deepStrictEqual(found, []))
    )
  })
})

/** A pod with a port named `http`. */
const podOf = (namespace: string, app: string): NetworkPolicies.Peer => ({
  name: app,
  address: "10.0.0.1",
  pod: { namespace, namespaceLabels: { name: namespace }, labels: { app }, ports: { http: 5000 } }
})

const shop = podOf("shop", "shop")
const books = podOf("shop", "books")
const stranger = podOf("street", "stranger")
const outside: NetworkPolicies.Peer = { name: "outside", address: "203.0.113.7" }
const outside6: NetworkPolicies.Peer = { name: "outside6", address: "2001:db8::7" }

/** A policy in the namespace shop. */
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
  it.each<{ policy: string; spec: NonNullable<Of<"NetworkPolicy">["spec"]>; allows: string }>([
    { policy: "that selects other pods", spec: { podSelector: { matchLabels: { app: "x" } } }, allows: "all" },
    { policy: "without rules", spec: toShop, allows: "" },
    { policy: "of egress", spec: { ...toShop, policyTypes: ["Egress"] }, allows: "all" },
    { policy: "with an empty rule", spec: { ...toShop, ingress: [{}] }, allows: "all" },
    { policy: "with an empty list of peers", spec: { ...toShop, ingress: [{ from: [] }] }, allows: "all" },
    {
      policy: "of pods in its namespace",
      spec: { ...toShop, ingress: [{ from: [{ podSelector: {} }] }] },
      allows: "books"
    },
    {
      policy: "of a namespace",
      spec: { ...toShop, ingress: [{ from: [{ namespaceSelector: { matchLabels: { name: "street" } } }] }] },
      allows: "stranger"
    },
    {
      policy: "of all namespaces",
      spec: { ...toShop, ingress: [{ from: [{ namespaceSelector: {} }] }] },
      allows: "books stranger"
    },
    {
      policy: "with In",
      spec: { ...toShop, ingress: [{ from: [expression("In", ["books"])] }] },
      allows: "books"
    },
    {
      policy: "with NotIn",
      spec: { ...toShop, ingress: [{ from: [expression("NotIn", ["books"])] }] },
      allows: "stranger"
    },
    {
      policy: "with Exists",
      spec: { ...toShop, ingress: [{ from: [expression("Exists")] }] },
      allows: "books stranger"
    },
    { policy: "with DoesNotExist", spec: { ...toShop, ingress: [{ from: [expression("DoesNotExist")] }] }, allows: "" },
    {
      policy: "of addresses",
      spec: { ...toShop, ingress: [{ from: [block("0.0.0.0/0", ["10.0.0.0/8"])] }] },
      allows: "outside"
    },
    { policy: "of IPv6 addresses", spec: { ...toShop, ingress: [{ from: [block("::/0")] }] }, allows: "outside6" },
    { policy: "of a port", spec: { ...toShop, ingress: [{ ports: [{ port: 5000 }] }] }, allows: "all" },
    { policy: "of a named port", spec: { ...toShop, ingress: [{ ports: [{ port: "http" }] }] }, allows: "all" },
    {
      policy: "of a range of ports",
      spec: { ...toShop, ingress: [{ ports: [{ port: 4000, endPort: 6000 }] }] },
      allows: "all"
    },
    { policy: "of another port", spec: { ...toShop, ingress: [{ ports: [{ port: 5001 }] }] }, allows: "" },
    {
      policy: "of an unknown named port",
      spec: { ...toShop, ingress: [{ ports: [{ port: "unknown" }] }] },
      allows: ""
    },
    { policy: "of UDP", spec: { ...toShop, ingress: [{ ports: [{ port: 5000, protocol: "UDP" }] }] }, allows: "" }
  ])("$policy allows: $allows", ({ allows, spec }) => {
    const all = [books, stranger, outside, outside6]
    const isAllowed = (from: NetworkPolicies.Peer) =>
      NetworkPolicies.allowed([policyOf(spec)], from, shop, { protocol: "TCP", port: 5000 })
    const expected = allows === "all" ? all : all.filter(({ name }) => allows.split(" ").includes(name))
    assert.deepStrictEqual(all.filter(isAllowed), expected)
  })

  it("allows a connection only if egress and ingress both allow it", () => {
    const out = policyOf({ ...toShop, egress: [{ to: [{ podSelector: {} }], ports: [{ port: "http" }] }] })
    const into = policyOf({ podSelector: { matchLabels: { app: "books" } }, ingress: [{ from: [toShop] }] })
    const isAllowed = (from: NetworkPolicies.Peer, to: NetworkPolicies.Peer, port = 5000) =>
      NetworkPolicies.allowed([out, into], from, to, { protocol: "TCP", port })
    assert.isTrue(isAllowed(shop, books))
    assert.isFalse(isAllowed(shop, books, 5001))
    assert.isFalse(isAllowed(shop, stranger))
    assert.isFalse(isAllowed(shop, outside))
    assert.isFalse(isAllowed(stranger, books))
    assert.isTrue(isAllowed(books, stranger))
  })
})
