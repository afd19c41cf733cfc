/**
 * The pages of the shop over HTTP. `PAGE_URL=http://shop.example npm run test:page` tests an installation that is already running.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Config, Context, Effect, Layer, Option } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"

import { categories } from "../../src/domain/Category.ts"
import { slugOf } from "../../src/marketplace/categorySlug.ts"
import { labels } from "../../src/marketplace/view/categoryLinks.ts"
import { Installation } from "./Installation.ts"

class Shop extends Context.Service<Shop, { readonly url: string }>()("onlinebooks/test/Shop") {
  static readonly layer = Layer.unwrap(
    Effect.gen(function* () {
      const url = yield* Config.option(Config.String("PAGE_URL"))
      return Option.match(url, {
        onSome: (url) => Layer.succeed(Shop, { url: url.replace(/\/$/, "") }),
        onNone: () => Layer.provide(Shop.layerInstallation, Installation.layer)
      })
    })
  )

  static readonly layerInstallation = Layer.effect(
    Shop,
    Effect.gen(function* () {
      const { start } = yield* Installation
      const recommendations = yield* start("recommendations")
      const marketplace = yield* start("marketplace", {
        RECOMMENDATIONS_GRPC_PORT: String(recommendations.port),
        MARKETPLACE_PAGE_BUDGET: "10 seconds"
      })
      return { url: `http://localhost:${marketplace.port}` }
    })
  )
}

const request = Effect.fnUntraced(function* (path: string, method: "GET" | "HEAD" | "POST" = "GET") {
  const response = yield* HttpClient.execute(HttpClientRequest.make(method)(`${(yield* Shop).url}${path}`))
  return { status: response.status, headers: response.headers, body: yield* response.text }
})

/** The content of each element with a tag. */
const inner = (body: string, tag: string): ReadonlyArray<string> =>
  [...body.matchAll(new RegExp(`<${tag}(?: [^>]*)?>([^]*?)</${tag}>`, "g"))].map(([, content = ""]) => content)

const text = (html: string): string =>
  html
    .replaceAll(/<[^>]*>/g, "")
    .replaceAll("&#39;", "'")
    .trim()

layer(Layer.merge(Shop.layer, NodeHttpClient.layerUndici))("the page", (it) => {
  it.effect("shows three mysteries", () =>
    Effect.gen(function* () {
      const { body, headers, status } = yield* request("/")
      assert.strictEqual(status, 200)
      assert.strictEqual(headers["content-type"], "text/html; charset=utf-8")
      assert.deepStrictEqual(inner(body, "title"), ["Online Books For You"])
      assert.deepStrictEqual(inner(body, "h1").map(text), ["Mystery books you may like"])
      // the books are the only list items, without attributes
      assert.strictEqual(body.match(/<li>/g)?.length, 3)
      assert.strictEqual(body.match(/<li[ >]/g)?.length, 3)
      assert.strictEqual(new Set(inner(body, "h2").map(text)).size, 3)
    })
  )

  it.effect.each(categories)("shows three books of %s", (category) =>
    Effect.gen(function* () {
      const { body, status } = yield* request(`/?category=${slugOf(category)}`)
      assert.strictEqual(status, 200)
      assert.deepStrictEqual(inner(body, "h1").map(text), [`${labels[category]} books you may like`])
      assert.deepStrictEqual(inner(body, "title").map(text), [`${labels[category]} books - Online Books For You`])
      assert.strictEqual(body.match(/<li>/g)?.length, 3)
    })
  )

  it.effect("has a link to every category in its menu", () =>
    Effect.gen(function* () {
      const [menu = ""] = inner((yield* request("/")).body, "nav")
      assert.deepStrictEqual(
        [...menu.matchAll(/href="\/\?category=([^"]+)"/g)].map(([, slug]) => slug),
        categories.map(slugOf)
      )
    })
  )

  it.effect("draws different books for each request", () =>
    Effect.gen(function* () {
      const draws = yield* Effect.replicateEffect(request("/"), 20)
      assert.isAbove(new Set(draws.map(({ body }) => inner(body, "h2").join())).size, 1)
    })
  )

  it.effect("responds to an unknown category with 404, and escapes its name", () =>
    Effect.gen(function* () {
      const { body, status } = yield* request("/?category=%3Cscript%3Ealert(1)%3C/script%3E")
      assert.strictEqual(status, 404)
      assert.notInclude(body, "<script")
      assert.include(body, "&lt;script&gt;")
      assert.notMatch(body, /<li[ >]/)
    })
  )

  it.effect("has an icon and a stylesheet, and responds with 404 elsewhere", () =>
    Effect.gen(function* () {
      const [, stylesheet = ""] = /<link rel="stylesheet" href="([^"]+)"/.exec((yield* request("/")).body) ?? []
      assert.strictEqual((yield* request(stylesheet)).headers["content-type"], "text/css; charset=utf-8")
      assert.strictEqual((yield* request("/favicon.ico")).status, 200)
      assert.strictEqual((yield* request("/index.php")).status, 404)
    })
  )

  it.effect("responds to HEAD without a body, and to other methods with 405", () =>
    Effect.gen(function* () {
      const head = yield* request("/", "HEAD")
      assert.strictEqual(head.status, 200)
      assert.strictEqual(head.body, "")
      assert.strictEqual((yield* request("/", "POST")).status, 405)
    })
  )

  it.effect("does not reveal the server software", () =>
    Effect.gen(function* () {
      const { headers } = yield* request("/")
      assert.isUndefined(headers["server"])
      assert.isUndefined(headers["x-powered-by"])
    })
  )
})
