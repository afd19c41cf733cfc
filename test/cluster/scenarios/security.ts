/**
 * The pods are locked down.
 */
import { Effect } from "effect"

import { addProblem, check, type Scenario } from "../Scenario.ts"
import * as Scripts from "../Scripts.ts"
import { namespaces, pods, run, services, Shop } from "../Shop.ts"

/** Prints what a container may do. */
const program = `
const { writeFileSync, readFileSync } = require("node:fs")
const canWrite = (file) => { try { writeFileSync(file, ""); return true } catch { return false } }
const status = readFileSync("/proc/self/status", "utf8")
const field = (name) => new RegExp("^" + name + ":\\\\s*(\\\\S+)", "m").exec(status)[1]
console.log(JSON.stringify({
  user: process.getuid(),
  written: ["/x", "/tmp/x", "/app/x", "/home/x", "/var/x"].filter(canWrite),
  capabilities: field("CapEff"),
  noNewPrivileges: field("NoNewPrivs")
}))`

interface Found {
  readonly user: number
  readonly written: ReadonlyArray<string>
  readonly capabilities: string
  readonly noNewPrivileges: string
}

export const security: Scenario = {
  name: "security",
  description: "Tries a pod that is not locked down, and what the containers of the shop may do",
  run: Effect.gen(function* () {
    const { image } = yield* Shop
    const locked = Scripts.pod({ name: "open", namespace: namespaces.shop, image, command: ["node"] })
    const [container] = locked.spec.containers
    const openPods = {
      "a pod as root": { ...locked, spec: { ...locked.spec, securityContext: { runAsUser: 0 } } },
      "a privileged pod": {
        ...locked,
        spec: { ...locked.spec, containers: [{ ...container, securityContext: { privileged: true } }] }
      },
      "a pod with the network of its node": { ...locked, spec: { ...locked.spec, hostNetwork: true } }
    }
    yield* run(["create", "--dry-run=server", "--filename", "-"], locked)
    for (const [what, pod] of Object.entries(openPods)) {
      yield* run(["create", "--dry-run=server", "--filename", "-"], pod).pipe(
        Effect.andThen(addProblem(`${what} was admitted`)),
        Effect.catchIf(
          ({ reason }) => reason.includes("violates PodSecurity"),
          () => Effect.void
        )
      )
    }
    for (const service of services) {
      const [pod] = yield* pods(service)
      const output = yield* Scripts.exec(namespaces.shop, pod!.metadata.name, ["--eval", program])
      const { capabilities, noNewPrivileges, user, written } = JSON.parse(output) as Found
      yield* check(user !== 0, `${service} runs as root`)
      yield* check(written.length === 0, `${service} can write ${written.join(", ")}`)
      yield* check(/^0+$/.test(capabilities), `${service} has capabilities: ${capabilities}`)
      yield* check(noNewPrivileges === "1", `${service} can raise its privileges`)
    }
  })
}
