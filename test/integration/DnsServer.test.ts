import { promises } from "node:dns"

import { assert, it } from "@effect/vitest"
import { Effect } from "effect"

import * as DnsServer from "./DnsServer.ts"

it.live("DnsServer responds with the current addresses", () =>
  Effect.gen(function* () {
    const server = yield* DnsServer.make
    const resolver = new promises.Resolver()
    resolver.setServers([`127.0.0.1:${server.port}`])
    const name = "recommendations.test"
    const resolve4 = (name: string) => Effect.promise(() => resolver.resolve4(name))
    const codeOf = (ask: () => Promise<unknown>) =>
      Effect.flip(Effect.tryPromise({ try: ask, catch: (error) => (error as { readonly code?: string }).code }))

    assert.strictEqual(yield* codeOf(() => resolver.resolve4(name)), "ENOTFOUND")
    yield* server.set(name, ["127.0.1.1", "127.0.1.2"])
    assert.sameMembers(yield* resolve4(name), ["127.0.1.1", "127.0.1.2"])
    assert.sameMembers(yield* resolve4(name.toUpperCase()), ["127.0.1.1", "127.0.1.2"])
    yield* server.set(name, ["127.0.1.3"])
    assert.deepStrictEqual(yield* resolve4(name), ["127.0.1.3"])
    assert.strictEqual(yield* codeOf(() => resolver.resolve6(name)), "ENODATA")
    assert.strictEqual(yield* codeOf(() => resolver.resolveTxt(name)), "ENODATA")
    yield* server.set(name, [])
    assert.strictEqual(yield* codeOf(() => resolver.resolve4(name)), "ENODATA")
    assert.strictEqual(yield* server.queries(name), 5)
  })
)
