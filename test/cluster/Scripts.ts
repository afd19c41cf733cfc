/**
 * Pods that run the scripts of this folder with the Node of the service's image.
 */
import { fileURLToPath } from "node:url"

import { Effect, FileSystem } from "effect"

import * as Kubectl from "./Kubectl.ts"

const scripts = ["load.mjs", "probe.mjs"]

const configMap = "scripts"

/** Makes the ConfigMap with the scripts, for the pods of a namespace. */
export const install = Effect.fnUntraced(function* (namespace: string) {
  const fs = yield* FileSystem.FileSystem
  const read = (name: string) => fs.readFileString(fileURLToPath(new URL(name, import.meta.url)))
  const texts = yield* Effect.orDie(Effect.forEach(scripts, (name) => Effect.map(read(name), (text) => [name, text])))
  yield* Kubectl.run(["apply", "--filename", "-"], {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: {
      name: configMap,
      namespace
    },
    data: Object.fromEntries(texts)
  })
})

/** A pod that pod security's `restricted` admits. */
export const pod = (options: {
  readonly name: string
  readonly namespace: string
  readonly image: string
  readonly command: ReadonlyArray<string>
  /** The requested CPU, 50m if undefined. */
  readonly cpu?: string
  readonly env?: Readonly<Record<string, string>>
}) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: options.name, namespace: options.namespace },
  spec: {
    restartPolicy: "Never",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: 1,
    securityContext: { runAsNonRoot: true, runAsUser: 1_000, seccompProfile: { type: "RuntimeDefault" } },
    containers: [
      {
        name: "script",
        image: options.image,
        imagePullPolicy: "IfNotPresent",
        command: options.command,
        env: Object.entries(options.env ?? {}).map(([name, value]) => ({ name, value })),
        resources: { requests: { cpu: options.cpu ?? "50m", memory: "64Mi" } },
        securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
        volumeMounts: [{ name: "scripts", mountPath: "/scripts", readOnly: true }]
      }
    ],
    volumes: [{ name: "scripts", configMap: { name: configMap } }]
  }
})

/** Runs a pod until the end of the scope. */
export const start = Effect.fnUntraced(function* (options: Parameters<typeof pod>[0]) {
  const { name, namespace } = options
  const which = [name, "--namespace", namespace]
  yield* Effect.acquireRelease(Kubectl.run(["create", "--filename", "-"], pod(options)), () =>
    Effect.ignore(Kubectl.run(["delete", "pod", ...which, "--grace-period=1"]))
  )
  yield* Kubectl.run(["wait", "pod", ...which, "--for=condition=Ready", "--timeout=120s"])
})

/** Runs a program of Node in a container, and returns what it prints. */
export const exec = (namespace: string, pod: string, args: ReadonlyArray<string>) =>
  Kubectl.run(["exec", pod, "--namespace", namespace, "--", "node", ...args])
