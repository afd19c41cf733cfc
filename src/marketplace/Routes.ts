/**
 * The routes of the shop, and the headers of its responses.
 */
import { Effect, Option } from "effect"
import { Digest } from "effect/crypto"
import { HttpBody, HttpServerRequest, HttpServerResponse } from "effect/http"

import * as Setting from "../layers/config/Setting.ts"
import * as HttpObserver from "../layers/http/HttpObserver.ts"
import type { WebApp } from "../layers/http/WebServer.ts"
import { Storefront } from "./Storefront.ts"
import { favicon } from "./view/favicon.ts"
import { type Content, type Page, render } from "./view/Page.ts"
import { css } from "./view/stylesheet.ts"

/** Security headers: no scripts, no frames, nothing from other origins. */
const baseHeaders = {
  "content-security-policy":
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff"
}

/**
 * Headers of all responses of the application, and of all responses to refused requests except CONNECT and requests that do not parse.
 * With MARKETPLACE_HSTS_MAX_AGE they include Strict-Transport-Security (RFC 6797).
 */
const securityHeaders = Effect.map(
  Setting.optionalCount("MARKETPLACE_HSTS_MAX_AGE", {
    description:
      "How long browsers may only use HTTPS (`Strict-Transport-Security`). Set it only if the shop is reached only by HTTPS.",
    unset: "no such header",
    unit: "seconds",
    maximum: 999_999_999
  }),
  Option.match({
    onNone: () => baseHeaders,
    onSome: (seconds) => ({ ...baseHeaders, "strict-transport-security": `max-age=${seconds}` })
  })
)

/** Constant responses, and the responses of pages without their bodies. They are created once, since creating headers is slow. */
const makeResponses = (headers: Readonly<Record<string, string>>) => {
  const withStatus = (status: number) =>
    HttpServerResponse.empty({ status, headers: { ...headers, "cache-control": "no-store" } })
  // a page without recommendations is answered 200
  const pages: { readonly [Tag in Content["_tag"]]: HttpServerResponse.HttpServerResponse } = {
    Books: withStatus(200),
    Unavailable: withStatus(200),
    UnknownCategory: withStatus(404),
    NotFound: withStatus(404),
    Failed: withStatus(500)
  }
  return {
    pages,
    // its path contains a hash of its content
    stylesheet: HttpServerResponse.text(css, {
      contentType: "text/css; charset=utf-8",
      headers: { ...headers, "cache-control": "public, max-age=31536000, immutable" }
    }),
    icon: HttpServerResponse.uint8Array(favicon, {
      contentType: "image/x-icon",
      headers: { ...headers, "cache-control": "public, max-age=86400" }
    }),
    methodNotAllowed: HttpServerResponse.text("Method not allowed\n", {
      status: 405,
      contentType: "text/plain; charset=utf-8",
      headers: { ...headers, allow: "GET, HEAD" }
    })
  }
}

/** The application of Marketplace. */
export const make = Effect.gen(function* () {
  const headers = yield* securityHeaders
  const { icon, methodNotAllowed, pages, stylesheet } = makeResponses(headers)
  const storefront = yield* Storefront
  const digest = yield* Digest.Digest
  const hash = yield* digest.digestHex(Digest.sha256, new TextEncoder().encode(css))
  const stylesheetPath = `/assets/style.${hash.slice(0, 16)}.css`

  const toResponse = ({ content, home, menu }: Omit<Page, "stylesheetPath">) =>
    HttpServerResponse.setBody(
      pages[content._tag],
      HttpBody.text(render({ content, home, menu, stylesheetPath }), "text/html; charset=utf-8")
    )

  const page = (query: string) => {
    // the first `category` counts; without one, or with an empty one, it is the home page
    const slug = query === "" ? undefined : new URLSearchParams(query).get("category") || undefined
    return Effect.map(storefront.display(slug), toResponse)
  }

  const notFound = Effect.map(storefront.menu, (menu) =>
    toResponse({ content: { _tag: "NotFound" }, menu, home: false })
  )

  // instead of effect/http's HttpRouter: docs/decisions/0019-routes-are-a-map.md
  const routes = new Map<string, (query: string) => Effect.Effect<HttpServerResponse.HttpServerResponse>>([
    ["/", page],
    [stylesheetPath, () => Effect.succeed(stylesheet)],
    ["/favicon.ico", () => Effect.succeed(icon)]
  ])

  const app: HttpObserver.App = Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ method, url }) => {
    const { path, query } = HttpObserver.split(url)
    const route = routes.get(path)
    if (route === undefined) return notFound
    // the server omits the body of a response to HEAD
    return method === "GET" || method === "HEAD" ? route(query) : Effect.succeed(methodNotAllowed)
  })

  const webApp: WebApp = {
    app,
    // the route is a metric label, so it must not contain the hash
    routeOf: (path) => (path === stylesheetPath ? "/assets/style.css" : routes.has(path) ? path : undefined),
    headers,
    failed: toResponse({ content: { _tag: "Failed" }, menu: [], home: false })
  }
  return webApp
}).pipe(Effect.provide(Digest.layerWebCrypto))
