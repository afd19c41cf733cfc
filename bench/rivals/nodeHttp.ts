/**
 * Marketplace's page on node:http, with books from a grpc-js client.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

import * as grpc from "@grpc/grpc-js"
import * as protoLoader from "@grpc/proto-loader"

interface Book {
  readonly id: number
  readonly title: string
  readonly authors: ReadonlyArray<string>
  readonly year?: number
  readonly categories: ReadonlyArray<number>
}

interface Recommendations extends grpc.Client {
  Recommend(
    request: { readonly category: number; readonly maxResults: number },
    options: grpc.CallOptions,
    callback: grpc.requestCallback<{ readonly books: ReadonlyArray<Book> }>
  ): void
  ListCategories(
    request: object,
    callback: grpc.requestCallback<{ readonly categories: ReadonlyArray<{ readonly category: number }> }>
  ): void
}

const definition = protoLoader.loadSync("onlinebooks/recommendations/v1/recommendations.proto", {
  includeDirs: ["proto"],
  defaults: true
})
const Client = grpc.makeGenericClientConstructor(
  definition["onlinebooks.recommendations.v1.RecommendationsService"] as grpc.ServiceDefinition,
  "RecommendationsService"
)
const client = new Client(
  process.env["RECOMMENDATIONS_TARGET"] ?? "localhost:50051",
  grpc.credentials.createInsecure()
) as unknown as Recommendations

/** In the order of the enum, which begins with 1. */
const labels = [
  "Mystery",
  "Science fiction",
  "Self-help",
  "Fantasy",
  "Romance",
  "Thriller",
  "Historical fiction",
  "Classics",
  "History",
  "Biography",
  "Young adult",
  "Children's",
  "Horror"
]

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" }
const escape = (text: string) => text.replace(/[&<>"']/g, (character) => entities[character] ?? "")

const labelOf = (category: number) => escape(labels[category - 1] ?? "")
const pathOf = (category: number) =>
  `/?category=${(labels[category - 1] ?? "").toLowerCase().replace("'s", "").replace(" ", "-")}`

const sizeOf = (title: string) => (title.length < 20 ? "size-l" : title.length < 50 ? "size-m" : "size-s")

const card = ({ authors, categories, id, title, year }: Book) => `<li>
    <div class="cover ${sizeOf(title)} palette-${id % 11} motif-${id % 7}" aria-hidden="true" data-title="${escape(title)}" data-author="${escape(authors.join(", "))}"></div>
    <div class="about">
      <h2><bdi dir="auto">${escape(title)}</bdi></h2>
      <p class="by">by ${authors.map((author) => `<bdi dir="auto">${escape(author)}</bdi>`).join(", ")}</p>
      ${year === undefined ? "" : `<p>${year}</p>`}
      ${
        categories.length < 2
          ? ""
          : `<p class="also">Also in: ${categories
              .filter((category) => category !== 1)
              .map((category) => `<span class="item"><a href="${pathOf(category)}">${labelOf(category)}</a></span>`)
              .join(", ")}</p>`
      }
    </div>
  </li>`

const page = (menu: ReadonlyArray<number>, body: string) => `<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>Online Books For You</title>
        <meta name="description" content="A few good books at a time, drawn by chance." />
        <link rel="icon" href="/favicon.ico" />
        <link rel="stylesheet" href="/assets/style.css" />
      </head>
      <body>
        <a class="skip" href="#main">Skip to content</a>
        <header>
          <a class="wordmark" href="/" aria-current="page">Online Books For You</a>
          <nav aria-label="Shelves">${menu
            .map((category) => `<a href="${pathOf(category)}">${labelOf(category)}</a> `)
            .join("")}</nav>
        </header>
        <main id="main" tabindex="-1">
          <h1>Mystery books you may like</h1>
          ${body}
        </main>
        <footer>
          <p>No prices, no stars, no cookies: only books.</p>
        </footer>
      </body>
    </html>`

const headers = {
  "content-type": "text/html; charset=utf-8",
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff"
}

let menu: ReadonlyArray<number> = labels.map((_, index) => index + 1)
client.ListCategories({}, (error, response) => {
  if (error === null && response !== undefined) menu = response.categories.map(({ category }) => category)
})

const server = createServer((request, response) => {
  if (request.url !== "/") {
    response.writeHead(404, headers).end("Not found")
    return
  }
  client.Recommend({ category: 1, maxResults: 3 }, { deadline: Date.now() + 800 }, (error, answer) => {
    const body =
      error === null && answer !== undefined
        ? `<ul class="books">${answer.books.map(card).join("")}</ul>
           <p class="note">Chance picked these three from the Mystery shelf. <a class="onward" href="/">Show me three others</a></p>`
        : `<p class="note">We can't fetch suggestions just now. <a class="onward" href="/">Try again</a></p>`
    const html = page(menu, body)
    response.writeHead(200, { ...headers, "content-length": Buffer.byteLength(html) }).end(html)
  })
})
server.listen(Number(process.env["PORT"] ?? 0), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${(server.address() as AddressInfo).port}`)
})
