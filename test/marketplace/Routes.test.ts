import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"

import * as HttpObserver from "../../src/layers/http/HttpObserver.ts"
import * as Routes from "../../src/marketplace/Routes.ts"
import { type Content, Storefront } from "../../src/marketplace/Storefront.ts"

const withContent = (content: (slug: string | undefined) => Effect.Effect<Content>) =>
  Effect.provide(
    Layer.mock(Storefront, {
      display: (slug) =>
        Effect.map(content(slug), (content) => ({ content, menu: ["MYSTERY"] as const, home: slug === undefined })),
      menu: Effect.succeed(["MYSTERY"] as const)
    })
  )

/** The response to a request. */
const request = Effect.fnUntraced(function* (path: string, method = "GET") {
  const { app, failed, routeOf } = yield* Routes.make
  const response = yield* Effect.provideService(
    HttpObserver.observe(app, { failed, routeOf, trustsTraces: false }),
    HttpServerRequest.HttpServerRequest,
    HttpServerRequest.fromWeb(new Request(`http://localhost${path}`, { method }))
  )
  const web = HttpServerResponse.toWeb(response)
  return { status: web.status, headers: web.headers, body: yield* Effect.promise(() => web.text()) }
})

const recording = (slugs: Array<string | undefined>) =>
  withContent((slug) =>
    Effect.sync(() => {
      slugs.push(slug)
      return { _tag: "Unavailable", category: "MYSTERY" }
    })
  )

describe("Routes", () => {
  it.effect.each([
    { path: "/", slug: undefined },
    { path: "/?category=", slug: undefined },
    { path: "/?other=1", slug: undefined },
    { path: "/?category=horror", slug: "horror" },
    { path: "/?category=horror&category=mystery", slug: "horror" },
    { path: "/?category=a%20b%3Cc%3E", slug: "a b<c>" },
    { path: "/?category=%zz", slug: "%zz" },
    { path: "/?category=science+fiction", slug: "science fiction" },
    { path: "/?category=horror%2F", slug: "horror/" },
    { path: "/?category=horror%20", slug: "horror " },
    { path: "/?category=%ff", slug: "\ufffd" },
    { path: "/?q=why?&category=horror", slug: "horror" }
  ])("reads the category in $path", ({ path, slug }) => {
    const slugs: Array<string | undefined> = []
    return Effect.gen(function* () {
      yield* request(path)
      assert.deepStrictEqual(slugs, [slug])
    }).pipe(recording(slugs))
  })

  it.effect.each([
    { content: { _tag: "Books", category: "MYSTERY", books: [] }, status: 200 },
    { content: { _tag: "Unavailable", category: "MYSTERY" }, status: 200 },
    { content: { _tag: "UnknownCategory", name: "<b>" }, status: 404 }
  ] as ReadonlyArray<{ content: Content; status: number }>)(
    "responds to $content._tag with $status",
    ({ content, status }) =>
      Effect.gen(function* () {
        const response = yield* request("/")
        assert.strictEqual(response.status, status)
        assert.strictEqual(response.headers.get("content-type"), "text/html; charset=utf-8")
        assert.strictEqual(response.headers.get("cache-control"), "no-store")
      }).pipe(withContent(() => Effect.succeed(content)))
  )

  it.effect("responds to an unexpected error with an apology without details", () =>
    Effect.gen(function* () {
      const response = yield* request("/")
      assert.strictEqual(response.status, 500)
      assert.notInclude(response.body, "secret")
      assert.notMatch(response.body, /at .*\.ts/)
    }).pipe(withContent(() => Effect.die(new Error("secret"))))
  )

  it.effect("sets the security headers of every response, and no others", () =>
    Effect.gen(function* () {
      for (const path of ["/", "/nothing", "/favicon.ico"]) {
        const { headers } = yield* request(path)
        const { "cache-control": _, "content-length": __, "content-type": ___, ...others } = Object.fromEntries(headers)
        assert.deepStrictEqual(others, {
          "content-security-policy":
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
          "cross-origin-opener-policy": "same-origin",
          "cross-origin-resource-policy": "same-origin",
          "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
          "referrer-policy": "same-origin",
          "x-content-type-options": "nosniff"
        })
      }
    }).pipe(recording([]))
  )

  it.effect("sets Strict-Transport-Security if it is configured", () =>
    Effect.gen(function* () {
      for (const path of ["/", "/nothing", "/favicon.ico"]) {
        const { headers } = yield* request(path)
        assert.strictEqual(headers.get("strict-transport-security"), "max-age=31536000")
      }
      assert.strictEqual((yield* request("/", "POST")).headers.get("strict-transport-security"), "max-age=31536000")
    }).pipe(
      recording([]),
      Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: { MARKETPLACE_HSTS_MAX_AGE: "31536000" } })))
    )
  )

  it.effect("serves an immutable stylesheet at the address in the page", () =>
    Effect.gen(function* () {
      const { body } = yield* request("/")
      const [, path = ""] = /<link rel="stylesheet" href="([^"]+)"/.exec(body) ?? []
      assert.match(path, /^\/assets\/style\.[0-9a-f]{16}\.css$/)
      const stylesheet = yield* request(path)
      assert.strictEqual(stylesheet.status, 200)
      assert.strictEqual(stylesheet.headers.get("content-type"), "text/css; charset=utf-8")
      assert.strictEqual(stylesheet.headers.get("cache-control"), "public, max-age=31536000, immutable")
    }).pipe(recording([]))
  )

  it.effect("responds to HEAD like GET, to other methods with 405, and to other paths with 404", () =>
    Effect.gen(function* () {
      const head = yield* request("/", "HEAD")
      const get = yield* request("/")
      assert.deepStrictEqual([head.status, [...head.headers]], [200, [...get.headers]])
      for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
        const { headers, status } = yield* request("/", method)
        assert.strictEqual(status, 405)
        assert.strictEqual(headers.get("allow"), "GET, HEAD")
      }
      assert.strictEqual((yield* request("/favicon.ico")).headers.get("content-type"), "image/x-icon")
      assert.strictEqual((yield* request("/index.html")).status, 404)
    }).pipe(recording([]))
  )
})
