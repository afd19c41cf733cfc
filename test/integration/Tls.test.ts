/**
 * The built bundles over TLS, as their settings say it.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { HttpClient } from "effect/http"

import * as CertificateFolder from "./CertificateFolder.ts"
import { Installation } from "./Installation.ts"

/** Whether the front page of a Marketplace has books. */
const hasBooks = Effect.fnUntraced(function* (port: number) {
  const response = yield* HttpClient.get(`http://localhost:${port}/`)
  assert.strictEqual(response.status, 200)
  return !/We can(’|'|&#39;)t fetch suggestions/.test(yield* response.text)
})

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })("over TLS", (it) => {
  it.effect("Marketplace calls an address, by the name that it is told", () =>
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
      // the page comes without books, and the log says why
      assert.isFalse(yield* hasBooks(wrong.port))
      yield* wrong.written("Host: other.test. is not in the cert's altnames: DNS:recommendations.test")
    })
  )

  it.effect("Marketplace has no books in plaintext, and both logs say why", () =>
    Effect.gen(function* () {
      const { start } = yield* Installation
      const { environment } = yield* CertificateFolder.makeBoth("plaintext")
      const recommendations = yield* start("recommendations", environment.recommendations)
      const marketplace = yield* start("marketplace", { RECOMMENDATIONS_TARGET: `localhost:${recommendations.port}` })
      assert.isFalse(yield* hasBooks(marketplace.port))
      yield* recommendations.written("is refused: its TLS handshake failed: wrong version number")
      yield* marketplace.written("A page without books")
    })
  )
})
