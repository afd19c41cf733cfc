/**
 * The example overlay of k8s/README.md, placed beside a checkout of the project.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, FileSystem, Path } from "effect"

import * as Kustomize from "./Kustomize.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

it.live("the example overlay of k8s/README.md renders with its images, settings and components", () =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-k8s-" })
    yield* fs.copy(path.join(root, "k8s"), path.join(folder, "online-books-for-you", "k8s"))
    const readme = yield* fs.readFileString(path.join(root, "k8s/README.md"))
    const example = /^```yaml\n(apiVersion: kustomize[^]*?)^```$/m.exec(readme)?.[1] ?? ""
    yield* fs.makeDirectory(path.join(folder, "mine"))
    yield* fs.writeFileString(
      path.join(folder, "mine", "kustomization.yaml"),
      example.replaceAll("sha256:…", `sha256:${"0".repeat(64)}`)
    )

    const resources = yield* Kustomize.render(path.join(folder, "mine"))
    const text = JSON.stringify(resources)
    for (const service of ["recommendations", "marketplace"]) {
      assert.include(text, `"image":"registry.example.com/shop/${service}@sha256:000`)
    }
    assert.include(text, `"MARKETPLACE_PAGE_BUDGET":"500 millis"`)
    const kinds = new Set(resources.map(({ kind }) => kind))
    assert.includeMembers([...kinds], ["HorizontalPodAutoscaler", "PodMonitor", "PrometheusRule"])
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
)
