/**
 * The scripts, files, folders, links and Kubernetes objects that the documents name exist.
 */
import { globSync } from "node:fs"
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Path } from "effect"

import project from "../../package.json" with { type: "json" }

const root = fileURLToPath(new URL("../..", import.meta.url))
const documents = globSync(["*.md", "docs/**/*.md", "{bench,k8s,ops,src/layers,test/interop}/README.md"], {
  cwd: root
}).toSorted()

/** Whether a document describes the past, so that the files that it names may have been removed. */
const isHistory = (document: string) => /^(CHANGELOG\.md|docs\/decisions\/\d.*)$/.test(document)

/** Paths from the project's root, anywhere in a text. A star matches any name. */
const paths =
  /(?<![\w./-])((?:src|test|docs|scripts|bench|ops|k8s|proto|data|\.ci|\.github|\.vscode)\/[\w./*-]*[\w/*])/g

/** The shell commands of a document, with continued lines joined. */
const commandsOf = (text: string): ReadonlyArray<string> =>
  Array.from(text.matchAll(/^```sh\n([^]*?)^```$/gm), ([, block = ""]) => block.replaceAll("\\\n", " ")).flatMap(
    (block) => block.split("\n").filter((line) => line !== "" && !line.startsWith("#"))
  )

const all = (text: string, pattern: RegExp) => Array.from(text.matchAll(pattern), ([, found = ""]) => found)

/** The names in a document that do not exist. */
const missing = Effect.fnUntraced(function* (document: string, text: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const commands = commandsOf(text).join("\n")
  const found: Array<string> = []

  const isThere = (file: string) => fs.exists(path.join(root, file))
  // `npm run x`, also in tables
  for (const script of all(text, /npm run (?:--silent )?([a-z][\w:]*)/g)) {
    if (!(script in project.scripts)) found.push(`the script ${script}`)
  }
  // files that commands read: -f and --file of Docker, -k of kubectl, our own --manifests, programs of Node
  const files = all(commands, /(?<= )(?:-f|--file|-k|--manifests|node)[ =](?!-)([\w./-]+[\w/])/g)
  for (const file of files) if (!(yield* isThere(file))) found.push(`the file ${file}`)
  // links within the project, and their headings
  for (const link of all(text, /\]\((?!https?:)([^)\s]+)\)/g)) {
    const [file = "", heading] = link.split("#")
    const target = file === "" ? document : path.join(path.dirname(document), file)
    if (!(yield* isThere(target))) {
      found.push(`the link ${link}`)
    } else if (heading !== undefined) {
      const headings = all(yield* fs.readFileString(path.join(root, target)), /^#+ (.+)$/gm).map((title) =>
        title
          .toLowerCase()
          .replaceAll(/[^\w\- ]/g, "")
          .replaceAll(" ", "-")
      )
      if (!headings.includes(heading)) found.push(`the heading ${link}`)
    }
  }
  if (!isHistory(document)) {
    // files in code spans, relative to the document's folder or to the root
    for (const file of new Set(all(text, /`([\w.-]+\/[\w./-]+\.(?:ts|mjs|md|ya?ml|json|csv|proto|env))`/g))) {
      const isFound = (yield* isThere(file)) || (yield* isThere(path.join(path.dirname(document), file)))
      if (!isFound) found.push(`the file ${file}`)
    }
    for (const file of new Set(all(text, paths))) {
      if (globSync(file, { cwd: root }).length === 0) found.push(`the path ${file}`)
    }
  }
  // Kubernetes objects and namespaces
  for (const [, kind = "", name = ""] of commands.matchAll(/\b(deployment|service)\/([a-z-]+)/g)) {
    const file = path.join(root, "k8s/base", name, `${kind}.yaml`)
    if (!(yield* fs.exists(file))) found.push(`${kind}/${name}`)
  }
  const kustomization = yield* fs.readFileString(path.join(root, "k8s/base/kustomization.yaml"))
  for (const namespace of all(commands, /kubectl.* -n (\S+)/g)) {
    if (!kustomization.includes(`namespace: ${namespace}\n`)) found.push(`the namespace ${namespace}`)
  }
  return found
})

layer(NodeServices.layer, { excludeTestServices: true })("the documents", (it) => {
  it.effect.each(documents)("name existing things only: %s", (document) =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      assert.deepStrictEqual(yield* missing(document, yield* fs.readFileString(`${root}${document}`)), [])
    })
  )

  it.effect("are checked for missing scripts, files, links, paths and Kubernetes objects", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const text = [
        "`npm run nothing`, `src/Nothing.ts`, src/*/main.ts, `layers/Nothing.ts`, [a link](nowhere.md), [a heading](README.md#nothing-there)",
        "```sh",
        "docker compose -f compose.yaml \\",
        "  -f compose.nothing.yaml up",
        "kubectl apply -k k8s/overlays/nothing",
        "kubectl -n elsewhere rollout status deployment/nothing",
        "```"
      ].join("\n")
      assert.deepStrictEqual(yield* missing("README.md", text), [
        "the script nothing",
        "the file compose.nothing.yaml",
        "the file k8s/overlays/nothing",
        "the link nowhere.md",
        "the heading README.md#nothing-there",
        "the file src/Nothing.ts",
        "the file layers/Nothing.ts",
        "the path src/Nothing.ts",
        "the path k8s/overlays/nothing",
        "deployment/nothing",
        "the namespace elsewhere"
      ])
      // commands are found in the documents
      const { length } = commandsOf(yield* fs.readFileString(`${root}k8s/README.md`))
      assert.isAbove(length, 15)
    })
  )

  it.effect("list every decision record, each with a number of its own", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const records = globSync("docs/decisions/[0-9]*.md", { cwd: root }).map((file) => file.split("/").at(-1))
      const index = yield* fs.readFileString(`${root}docs/decisions/README.md`)
      assert.deepStrictEqual(all(index, /\]\((\d[^)]+)\)/g), records.toSorted())
      assert.strictEqual(new Set(records.map((record) => record?.slice(0, 4))).size, records.length)
    })
  )

  it.effect("k8s/base has the version of package.json", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const tags = all(yield* fs.readFileString(`${root}k8s/base/kustomization.yaml`), /newTag: (\S+)/g)
      assert.deepStrictEqual(tags, [project.version, project.version])
    })
  )

  it.effect("CONTRIBUTING.md lists every script", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const [, table = ""] = (yield* fs.readFileString(`${root}CONTRIBUTING.md`)).split("\n## Scripts\n")
      const listed = all(table, /`([\w:]+)`(?=[^|]*\|)/g)
      const unlisted = Object.keys(project.scripts).filter(
        (script) => !script.startsWith("pre") && !listed.includes(script)
      )
      assert.deepStrictEqual(unlisted, [])
    })
  )
})
