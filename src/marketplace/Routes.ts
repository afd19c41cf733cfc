/**
 * The addresses of the shop.
 */
import { Effect } from "effect"
import { Digest } from "effect/crypto"
import { HttpBody, HttpServerRequest, HttpServerResponse } from "effect/http"

import * as WebObserver from "../layers/WebObserver.ts"
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

/** Those of a page. They are put together once, since putting some together costs as much as making the page. */
const pageHeaders = { ...securityHeaders, "cache-control": "no-store" }

const withStatus = (status: number) => HttpServerResponse.empty({ status, headers: pageHeaders })

/** Pages but for what they say, by that: one without suggestions is still a page. */
const pages: { readonly [Tag in Content["_tag"]]: HttpServerResponse.HttpServerResponse } = {
  Books: withStatus(200),
  Unavailable: withStatus(200),
  UnknownCategory: withStatus(404),
  NotFound: withStatus(404),
  Failed: withStatus(500)
}

/** Answers every request to the shop. */
export const make = Effect.gen(function* () {
  const storefront = yield* Storefront
  const digest = yield* Digest.Digest
  const hash = yield* digest.digestHex(Digest.sha256, new TextEncoder().encode(css))
  const stylesheetPath = `/assets/style.${hash.slice(0, 16)}.css`

  const toResponse = ({ content, home, menu }: Omit<Page, "stylesheetPath">) =>
    HttpServerResponse.setBody(
      pages[content._tag],
      HttpBody.text(render({ content, home, menu, stylesheetPath }), "text/html; charset=utf-8")
    )

  const front = (query: string) => {
    // of several categories the first; an empty one is the front table
    const slug = query === "" ? undefined : new URLSearchParams(query).get("category") || undefined
    const home = slug === undefined
    return Effect.map(storefront.display(slug), ({ content, menu }) => toResponse({ content, home, menu }))
  }

  const notFound = Effect.map(storefront.menu, (menu) =>
    toResponse({ content: { _tag: "NotFound" }, menu, home: false })
  )

  const routes = new Map<string, (query: string) => Effect.Effect<HttpServerResponse.HttpServerResponse>>([
    ["/", front],
    [stylesheetPath, () => Effect.succeed(stylesheet)],
    ["/favicon.ico", () => Effect.succeed(icon)]
  ])

  const app: WebObserver.App = Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ method, url }) => {
    const { path, query } = WebObserver.split(url)
    const route = routes.get(path)
    if (route === undefined) return notFound
    // the answer to HEAD is that to GET, of which the server leaves the body out
    return method === "GET" || method === "HEAD" ? route(query) : Effect.succeed(methodNotAllowed)
  })

  const site: Site = {
    app,
    // the name of the stylesheet is another one after each change
    routeOf: (path) => (path === stylesheetPath ? "/assets/style.css" : routes.has(path) ? path : undefined),
    failed: toResponse({ content: { _tag: "Failed" }, menu: [], home: false })
  }
  return site
}).pipe(Effect.provide(Digest.layerWebCrypto))

/** Its address changes with its content, so it may be kept for ever. */
const stylesheet = HttpServerResponse.text(css, {
  contentType: "text/css; charset=utf-8",
  headers: { ...securityHeaders, "cache-control": "public, max-age=31536000, immutable" }
})

const icon = HttpServerResponse.uint8Array(favicon, {
  contentType: "image/x-icon",
  headers: { ...securityHeaders, "cache-control": "public, max-age=86400" }
})

const methodNotAllowed = HttpServerResponse.text("Method not allowed\n", {
  status: 405,
  contentType: "text/plain; charset=utf-8",
  headers: { ...securityHeaders, allow: "GET, HEAD" }
})
