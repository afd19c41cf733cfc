/**
 * The built bundles over TLS, configured by their settings.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { HttpClient } from "effect/http"

import * as CertificateFolder from "./CertificateFolder.ts"
import { Installation } from "./Installation.ts"

/** Whether the front page of Marketplace has books. */
const hasBooks = Effect.fnUntraced(function* (port: number) {
  const response = yield* HttpClient.get(`http://localhost:${port}/`)
  assert.strictEqual(response.status, 200)
  return !/We can(’|'|&#39;)t fetch suggestions/.test(yield* response.text)
})

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })("over TLS", (it) => {
  it.effect("Marketplace verifies a server at an IP address by MARKETPLACE_TLS_SERVER_NAME", () =>
    Effect.gen(function* () {
      const { start } = yield* Installation
      const { environment } = yield* CertificateFolder.makeBoth("address")
      const recommendations = yield* start("recommendations", environment.recommendations)
      const settings = {
        ...environment.marketplace,
        RECOMMENDATIONS_TARGET: `127.0.0.1:${recommendations.port}`,
        MARKETPLACE_PAGE_BUDGET: "10 seconds"
      }
      const right = yield* start("marketplace", {
        ...settings,
        MARKETPLACE_TLS_SERVER_NAME: CertificateFolder.serverName
      })
      const wrong = yield* start("marketplace", { ...settings, MARKETPLACE_TLS_SERVER_NAME: "other.test" })
      assert.isTrue(yield* hasBooks(right.port))
      // the page is rendered without books, and the log has the reason
      assert.isFalse(yield* hasBooks(wrong.port))
      yield* wrong.written("Host: other.test. is not in the cert's altnames: DNS:recommendations.test")
    })
  )

  it.effect("Marketplace survives unusable certificates and a restart of Recommendations", () =>
    Effect.gen(function* () {
      const { start } = yield* Installation
      const { authority, client, environment, identity } = yield* CertificateFolder.makeBoth("lost")
      const other = yield* CertificateFolder.makeBoth("strange")
      const serving = yield* Scope.make()
      const first = yield* Scope.provide(start("recommendations", environment.recommendations), serving)
      const marketplace = yield* start("marketplace", {
        ...environment.marketplace,
        RECOMMENDATIONS_TARGET: `127.0.0.1:${first.port}`,
        MARKETPLACE_TLS_SERVER_NAME: CertificateFolder.serverName,
        MARKETPLACE_CONNECT_TIMEOUT: "300 millis",
        MARKETPLACE_PAGE_BUDGET: "5 seconds"
      })
      assert.isTrue(yield* hasBooks(marketplace.port))
      // the running server has no certificate of this authority
      yield* client.swap({ ...identity, ca: other.authority.cert })
      yield* marketplace.written("TLS certificates of the client reloaded")
      assert.isTrue(yield* hasBooks(marketplace.port))
      yield* Scope.close(serving, Exit.void)
      for (let round = 0; round < 5; round++) assert.isFalse(yield* hasBooks(marketplace.port))

      const again = { ...environment.recommendations, RECOMMENDATIONS_GRPC_PORT: String(first.port) }
      yield* start("recommendations", again)
      yield* client.swap({ ...identity, ca: authority.cert })
      yield* Effect.repeat(hasBooks(marketplace.port), { until: (has) => has }).pipe(Effect.timeout("15 seconds"))
      assert.notInclude(yield* marketplace.output, "Exception in a callback")
    })
  )

  it.effect("Marketplace has no books over plaintext, and both logs have the reason", () =>
    Effect.gen(function* () {
      const { start } = yield* Installation
      const { environment } = yield* CertificateFolder.makeBoth("plaintext")
      const recommendations = yield* start("recommendations", environment.recommendations)
      const marketplace = yield* start("marketplace", { RECOMMENDATIONS_TARGET: `localhost:${recommendations.port}` })
      assert.isFalse(yield* hasBooks(marketplace.port))
      yield* recommendations.written("TLS handshake failed: wrong version number")
      yield* marketplace.written("Page rendered without recommendations")
    })
  )
})
