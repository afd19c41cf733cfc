/**
 * Every overlay of k8s/ is rendered by kubectl, is valid, and satisfies the rules of Policy.ts. The tests fail without kubectl: a skipped
 * test would look like one that passed.
 */
import path from "node:path"

import { NodeServices } from "@effect/platform-node"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, FileSystem, Layer } from "effect"
import { parse, parseAllDocuments } from "yaml"

import * as CatalogFile from "../../src/recommendations/catalog/CatalogFile.ts"
import * as KubernetesReferences from "./KubernetesReferences.ts"
import * as KubernetesSchema from "./KubernetesSchema.ts"
import type { Resource } from "./Kustomize.ts"
import {
  components,
  containersOf,
  files,
  folders,
  type KustomizationFile,
  Manifests,
  ofKind,
  type Overlay,
  overlays,
  parts,
  read,
  workloadsOf
} from "./Manifests.ts"
import * as Policy from "./Policy.ts"

const environment = Layer.mergeAll(Manifests.layer, Policy.Facts.layer).pipe(Layer.provideMerge(NodeServices.layer))

const render = (overlay: Overlay) => Effect.flatMap(Manifests, (manifests) => manifests.of(overlay))

const installationOf = Effect.fnUntraced(function* (overlay: Overlay) {
  return Policy.installation(overlay, yield* render(overlay), yield* Policy.Facts)
})

const none: ReadonlyArray<string> = []

const schemaViolations = (resources: ReadonlyArray<Resource>) =>
  resources.flatMap((resource) =>
    KubernetesSchema.violations(resource).map((violation) => `${KubernetesReferences.nameOf(resource)}: ${violation}`)
  )

const named = (folder: string): Overlay => {
  const overlay = folders.find(({ name }) => name === folder)
  if (overlay === undefined) throw new Error(`the folder ${folder} is missing`)
  return overlay
}

layer(environment, { excludeTestServices: true })("the manifests", (it) => {
  it.effect.each(parts)("$name is valid", (part) =>
    Effect.map(render(part), (resources) => assert.deepStrictEqual(schemaViolations(resources), none))
  )

  for (const overlay of overlays) {
    describe(overlay.name, () => {
      it.effect("is valid", () =>
        Effect.map(render(overlay), (resources) => assert.deepStrictEqual(schemaViolations(resources), none))
      )

      it.effect("has no dangling references", () =>
        Effect.map(render(overlay), (resources) =>
          assert.deepStrictEqual(KubernetesReferences.violations(resources), none)
        )
      )

      for (const [guarantee, rule] of Object.entries(Policy.ofInstallations)) {
        it.effect(guarantee, () =>
          Effect.map(installationOf(overlay), (installation) => assert.deepStrictEqual([...rule(installation)], none))
        )
      }

      for (const service of Policy.services) {
        it.effect.each(Object.keys(Policy.ofServices))(`${service} %s`, (guarantee) =>
          Effect.map(installationOf(overlay), (installation) =>
            assert.deepStrictEqual(Policy.ofService(installation, service, guarantee), none)
          )
        )
      }
    })
  }

  it.effect.each(Policy.services)("replace the pods of %s when one of its settings changes", (service) =>
    Effect.gen(function* () {
      const { changed } = yield* Manifests
      const before = yield* render(named("base"))
      const after = yield* changed(named("base"), {
        [`base/${service}/settings.env`]: (text) => text.replace("DRAIN_TIMEOUT=25 seconds", "DRAIN_TIMEOUT=24 seconds")
      })
      const settingsOf = (resources: ReadonlyArray<Resource>) =>
        ofKind(resources, "Deployment").map(({ metadata: { name }, spec }) => {
          const [from] = containersOf(spec?.template.spec).flatMap(({ envFrom = [] }) => envFrom)
          const data = ofKind(resources, "ConfigMap").find(
            ({ metadata }) => metadata.name === from?.configMapRef?.name
          )?.data
          return { name, configMap: from?.configMapRef?.name, timeout: data?.["DRAIN_TIMEOUT"] }
        })
      for (const [index, { configMap, name, timeout }] of settingsOf(after).entries()) {
        const isChanged = name === service
        assert.strictEqual(timeout, isChanged ? "24 seconds" : "25 seconds", name)
        assert.strictEqual(configMap !== settingsOf(before)[index]?.configMap, isChanged, name)
      }
    })
  )

  it.effect.each(overlays)("run the images of the kustomizations: $name", (overlay) =>
    Effect.gen(function* () {
      const names = [...Policy.services, ...(overlay.uses.has("components/postgres") ? ["postgres"] : [])]
      const expected = names.map((service) => {
        let [name, version] = [service, ""]
        // an overlay overrides the images of the folders that it includes
        for (const folder of [...overlay.uses].toReversed()) {
          const { images = [] } = parse(read(`k8s/${folder}/kustomization.yaml`)) as KustomizationFile
          const image = images.find((image) => image.name === name)
          if (image === undefined) continue
          name = image.newName ?? name
          if (image.newTag !== undefined) version = `:${image.newTag}`
          if (image.digest !== undefined) version = `@${image.digest}`
        }
        return name + version
      })
      const images = workloadsOf(yield* render(overlay)).flatMap(({ spec }) =>
        containersOf(spec?.template.spec).map(({ image }) => image)
      )
      assert.deepStrictEqual(images.toSorted(), expected.toSorted())
    })
  )

  it.effect("have an example catalogue that Recommendations can read", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const catalogues = ofKind(yield* render(named("examples/own-catalogue")), "ConfigMap").flatMap(({ data = {} }) =>
        Object.entries(data).filter(([file]) => file.endsWith(".csv"))
      )
      assert.strictEqual(catalogues.length, 1)
      for (const [name, text] of catalogues) {
        const file = path.join(yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-catalogue-" }), name)
        yield* fs.writeFileString(file, text)
        const catalog = { variable: "CATALOG_FILE", path: file, maxSize: text.length * 3 }
        assert.isAbove((yield* CatalogFile.read(catalog, () => Effect.void)).bookCount, 0)
      }
    })
  )
})

describe("files of k8s/", () => {
  it("contain the alerts of ops/", () => {
    const { groups } = parse(read("ops/prometheus/rules.yaml")) as { readonly groups: unknown }
    const { spec } = parse(read("k8s/components/monitoring/prometheusrule.yaml")) as { readonly spec: unknown }
    assert.deepStrictEqual(spec, { groups }, "run `npm run rules` to generate one from the other")
  })

  it("include the expected overlays and components", () => {
    assert.includeMembers(
      folders.map(({ name }) => name),
      ["base", "overlays/local", "overlays/production", "overlays/tls", "examples/gateway", "examples/own-catalogue"]
    )
    assert.includeMembers(
      [...components],
      ["components/monitoring", "components/postgres", "components/tls", "components/tracing"]
    )
    assert.deepStrictEqual(
      parts.map(({ name }) => name),
      ["base/marketplace", "base/recommendations"]
    )
  })

  it.each(files)("%s is valid YAML and used by its kustomization", (file) => {
    for (const { errors, warnings } of parseAllDocuments(read(`k8s/${file}`))) {
      assert.deepStrictEqual([...errors, ...warnings], [])
    }
    const [folder, name] = [path.dirname(file), path.basename(file)]
    if (name !== "kustomization.yaml") assert.include(read(`k8s/${folder}/kustomization.yaml`), name)
  })

  it.each(files)("%s sets versions of images only in kustomizations", (file) => {
    const text = read(`k8s/${file}`)
    const canSetImages = /^(base|components\/postgres|overlays\/[\w-]+)\/kustomization\.yaml$/.test(file)
    if (!canSetImages) assert.notMatch(text, /\b(images|newName|newTag|digest):|sha256:|ghcr\.io/)
    // patches of containers must not set them either
    for (const [, image = ""] of text.matchAll(/\bimage: *(\S+)/g))
      assert.include([...Policy.services, "postgres"], image)
    assert.notMatch(text, /\/image$/m)
    assert.notMatch(text, /latest$(?<!-version: latest)/m)
  })
})
