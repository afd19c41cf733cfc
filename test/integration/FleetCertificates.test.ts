/**
 * Certificate rotation while both services run under load over mutual TLS.
 */
import { writeSync } from "node:fs"

import { assert, layer } from "@effect/vitest"
import { credentials } from "@grpc/grpc-js"
import { Effect, Exit, Schedule, Scope } from "effect"

import { issue, type Issued, makeAuthority } from "../../scripts/certificates.ts"
import * as Tls from "../layers/tls/Tls.ts"
import * as CertificateFolder from "./CertificateFolder.ts"
import { Fleet } from "./Fleet.ts"
import { Installation } from "./Installation.ts"
import * as Load from "./Load.ts"
import * as PageLoad from "./PageLoad.ts"
import * as RpcLoad from "./RpcLoad.ts"

/** Pages a second. */
const rate = Number(process.env["FLEET_RATE"] ?? 100)

const say = (line: string) => Effect.sync(() => writeSync(1, `${line}\n`))

layer(Installation.layer, { excludeTestServices: true })("certificates", (it) => {
  it.effect("are rotated ten times without a failed page or call", () =>
    Effect.gen(function* () {
      const { authority: old, client, environment, identity, server } = yield* CertificateFolder.makeBoth("rotation")
      const next = yield* Effect.promise(() => makeAuthority({ commonName: "Next CA" }))
      const both = old.cert + next.cert

      yield* Effect.gen(function* () {
        const { backends, complaints, replicas, target } = yield* Fleet
        const recommendations = yield* replicas("recommendations")
        const [marketplace] = yield* replicas("marketplace")

        /** Clients without certificate files, which trust both authorities from the start. */
        const startCalls = (identity: Issued) =>
          Effect.gen(function* () {
            const options: RpcLoad.Options = {
              rate: 20,
              target,
              dnsWindow: 1_000,
              credentials: credentials.createSsl(
                Buffer.from(both),
                Buffer.from(identity.key),
                Buffer.from(identity.cert)
              )
            }
            return [yield* RpcLoad.first(options), yield* RpcLoad.v1(options)] as const
          })
        const pages = yield* PageLoad.start({ rate, backends, retry: "reused" })
        const oldClients = yield* Scope.make()
        const oldCalls = yield* Scope.provide(startCalls(identity), oldClients)

        /** The certificate of a client that inspects the servers. */
        let visitor = identity
        const look = ({ host, port }: PageLoad.Backend) =>
          Effect.scoped(
            Effect.tap(
              Tls.handshake(port, { host, servername: CertificateFolder.serverName, ca: both, ...visitor }),
              ({ socket }) => Tls.served(socket)
            )
          )
        const first = yield* look(recommendations[0]!)
        /** Waits until all replicas present a certificate on new connections; version and cipher must not change. */
        const shown = Effect.fnUntraced(function* ({ cert }: Issued) {
          const fingerprint = Tls.fingerprintOf(cert)
          for (const replica of recommendations) {
            const seen = yield* Effect.repeat(look(replica), {
              until: (seen) => seen.fingerprint === fingerprint,
              schedule: Schedule.spaced("50 millis")
            })
            assert.deepStrictEqual([seen.version, seen.cipher], [first.version, first.cipher])
          }
        })
        /** Waits until all replicas have a connection from a client with a name. */
        const known = (name: string) =>
          Effect.forEach(recommendations, ({ running }) => running.written(name), { discard: true })
        const loaded = pages.answered(rate)

        let number = 0
        const clientOf = Effect.fnUntraced(function* (authority: typeof old) {
          const name = `spiffe://shop/marketplace/${++number}`
          return { name, identity: yield* CertificateFolder.issueClient(authority, [`URI:${name}`]) }
        })

        // 1 and 2: replace one file after the other
        let last = yield* CertificateFolder.issueServer(old)
        yield* server.put(last)
        yield* shown(last)
        yield* loaded
        let caller = yield* clientOf(old)
        yield* client.put(caller.identity)
        yield* known(caller.name)
        yield* loaded

        // an invalid certificate is rejected
        yield* server.put({ cert: "garbage\n" })
        for (const { running } of recommendations) {
          yield* running.written("TLS certificates of the server not reloaded, the previous ones stay in use")
        }
        yield* shown(last)
        yield* loaded

        // 3: a valid certificate replaces it
        last = yield* CertificateFolder.issueServer(old)
        yield* server.put(last)
        yield* shown(last)
        yield* loaded

        // a key that does not match its certificate is rejected
        const { identity: other } = yield* clientOf(old)
        yield* client.put({ key: other.key })
        yield* marketplace!.running.written("it does not match the certificate in")
        yield* loaded

        // 4: the certificate that matches the key
        yield* client.put({ cert: other.cert })
        yield* known(`spiffe://shop/marketplace/${number}`)
        yield* loaded

        // 5: swap the folder like Kubernetes
        last = yield* CertificateFolder.issueServer(old)
        yield* server.swap({ ...last, ca: old.cert })
        yield* shown(last)
        yield* loaded

        // 6: trust the next authority beside the old one
        yield* server.put({ ca: both })
        yield* client.put({ ca: both })
        visitor = yield* CertificateFolder.issueClient(next)
        // a client of an untrusted authority is disconnected
        yield* Effect.forEach(recommendations, (replica) => Effect.retry(look(replica), Schedule.spaced("50 millis")))
        yield* marketplace!.running.written("TLS certificates of the client reloaded")
        yield* loaded

        // 7 and 8: certificates of the next authority
        last = yield* CertificateFolder.issueServer(next)
        yield* server.put(last)
        yield* shown(last)
        yield* loaded
        caller = yield* clientOf(next)
        yield* client.put(caller.identity)
        yield* known(caller.name)
        yield* loaded
        const nextCalls = yield* startCalls(yield* CertificateFolder.issueClient(next))
        const oldSamples = yield* Effect.forEach(oldCalls, ({ finish }) => finish)
        yield* Scope.close(oldClients, Exit.void)

        // 9 and 10: trust only the next authority
        last = yield* CertificateFolder.issueServer(next)
        yield* server.swap({ ...last, ca: next.cert })
        yield* shown(last)
        caller = yield* clientOf(next)
        yield* client.swap({ ...caller.identity, ca: next.cert })
        yield* known(caller.name)
        yield* loaded

        const samples = yield* pages.finish
        const calls = [...oldSamples, ...(yield* Effect.forEach(nextCalls, ({ finish }) => finish))].flat()
        const { p50, p99, max } = Load.summarize(samples)
        yield* say(
          `certificates replaced ten times: ${samples.length} pages (p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, ` +
            `max ${max.toFixed(0)} ms), ${calls.length} calls, ` +
            `${[...samples, ...calls].filter(({ failure }) => failure !== undefined).length} failed`
        )
        const lines = [...(yield* complaints("recommendations")), ...(yield* complaints("marketplace"))].filter(
          // of the inspecting client before its authority was trusted
          (line) => !line.includes("certificate_untrusted")
        )
        for (const line of lines) yield* say(`  ${line.slice(0, 500)}`)
        assert.deepStrictEqual(Load.reasons(samples), [], "pages")
        assert.deepStrictEqual(Load.reasons(calls), [], "calls")
        // the invalid certificate at both replicas and the wrong key at Marketplace; no connection failed
        assert.isTrue(lines.every((line) => line.includes("not reloaded")))
        assert.lengthOf(lines, 3)

        // the old authority is no longer trusted
        visitor = yield* Effect.promise(() =>
          issue(old, { names: [`DNS:${CertificateFolder.clientName}`], usage: "client" })
        )
        for (const replica of recommendations) yield* Effect.flip(look(replica))
      }).pipe(
        Effect.provide(
          Fleet.layer({
            recommendations: 2,
            marketplaces: 1,
            minReady: "0 millis",
            environment: {
              // at Debug, the log names the client of each connection
              recommendations: {
                ...environment.recommendations,
                LOG_LEVEL: "Debug",
                RECOMMENDATIONS_MAX_CONNECTION_AGE: "2 seconds"
              },
              marketplace: environment.marketplace
            }
          })
        )
      )
    })
  )
})
