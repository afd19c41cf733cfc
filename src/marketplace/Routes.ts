/**
 * The addresses of the shop.
 */
import { Effect } from "effect"
import { Digest } from "effect/crypto"
import { HttpServerRequest, HttpServerResponse } from "effect/http"

import type { App } from "../layers/WebObserver.ts"
import type { Site } from "../layers/WebServer.ts"
import { favicon } from "./Favicon.ts"
import { type Content, type Page, render } from "./Page.ts"
import { Storefront } from "./Storefront.ts"
import { css } from "./Stylesheet.ts"

/** What every answer says of itself: nothing here runs, is framed, or comes from elsewhere. */
const securityHeaders = {
  "content-security-policy":
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff"
}

/** The status of a page, by what it says: a page without suggestions is still a page. */
const statuses: { readonly [Tag in Content["_tag"]]: number } = {
  Books: 200,
  Unavailable: 200,
  UnknownCategory: 404,
  NotFound: 404,
  Failed: 500
}

/** Answers every request to the shop. */
export const make = Effect.gen(function* () {
  const storefront = yield* Storefront
  const digest = yield* Digest.Digest
  const hash = yield* digest.digestHex(Digest.sha256, new TextEncoder().encode(css))
  const stylesheetPath = `/assets/style.${hash.slice(0, 16)}.css`

  const toResponse = (page: Omit<Page, "stylesheetPath">) =>
    HttpServerResponse.text(render({ ...page, stylesheetPath }), {
      status: statuses[page.content._tag],
      contentType: "text/html; charset=utf-8",
      headers: { "cache-control": "no-store" }
    })

  const front = Effect.fnUntraced(function* (query: URLSearchParams) {
    // of several categories the first; an empty one is the front table
    const slug = query.get("category") || undefined
    return toResponse({ ...(yield* storefront.display(slug)), home: slug === undefined })
  })

  const notFound = Effect.map(storefront.menu, (menu) =>
    toResponse({ content: { _tag: "NotFound" }, menu, home: false })
  )

  const routes = new Map<string, (query: URLSearchParams) => Effect.Effect<HttpServerResponse.HttpServerResponse>>([
    ["/", front],
    [stylesheetPath, () => Effect.succeed(stylesheet)],
    ["/favicon.ico", () => Effect.succeed(icon)]
  ])

  const app: App = Effect.gen(function* () {
    const { method, url } = yield* HttpServerRequest.HttpServerRequest
    const [, path = "", query = ""] = /^([^?]*)\??(.*)$/s.exec(url) ?? []
    const route = routes.get(path)
    if (route === undefined) return yield* notFound
    // the answer to HEAD is that to GET, of which the server leaves the body out
    if (method !== "GET" && method !== "HEAD") return methodNotAllowed
    return yield* route(new URLSearchParams(query))
  })

  const site: Site = {
    app: Effect.map(app, HttpServerResponse.setHeaders(securityHeaders)),
    // the name of the stylesheet is another one after each change
    routeOf: (path) => (path === stylesheetPath ? "/assets/style.css" : routes.has(path) ? path : undefined),
    failed: HttpServerResponse.setHeaders(
      toResponse({ content: { _tag: "Failed" }, menu: [], home: false }),
      securityHeaders
    )
  }
  return site
}).pipe(Effect.provide(Digest.layerWebCrypto))

/** Its address changes with its content, so it may be kept for ever. */
const stylesheet = HttpServerResponse.text(css, {
  contentType: "text/css; charset=utf-8",
  headers: { "cache-control": "public, max-age=31536000, immutable" }
})

const icon = HttpServerResponse.uint8Array(favicon, {
  contentType: "image/x-icon",
  headers: { "cache-control": "public, max-age=86400" }
})

const methodNotAllowed = HttpServerResponse.text("Method not allowed\n", {
  status: 405,
  contentType: "text/plain; charset=utf-8",
  headers: { allow: "GET, HEAD" }
})
