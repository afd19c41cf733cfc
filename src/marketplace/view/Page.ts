/**
 * The pages of the shop: heading and body of each, in a frame with the menu. They are complete without JavaScript.
 */
import type { Category } from "../../domain/Category.ts"
import type { PageBook } from "../RecommendationsClient.ts"
import type { Content as StorefrontContent } from "../Storefront.ts"
import { bookCard } from "./bookCard.ts"
import { labels, linkList, links, pathOf } from "./categoryLinks.ts"
import { html, type Html, toText, type Value } from "./Html.ts"

/** The content of a page. */
export type Content =
  | StorefrontContent
  /** Nothing is served at the requested path. */
  | { readonly _tag: "NotFound" }
  /** An unexpected error occurred: an apology without details. */
  | { readonly _tag: "Failed" }

/** A page to {@link render}. */
export interface Page {
  readonly content: Content
  /** The categories in the menu, in its order. */
  readonly menu: ReadonlyArray<Category>
  /** Whether the page is the home page, `/`. */
  readonly home: boolean
  /** The address of the stylesheet. */
  readonly stylesheetPath: string
}

const shop = "Online Books For You"

/** The whole document, from its doctype on. */
export const render = ({ content, home, menu, stylesheetPath }: Page): string => {
  const { body, heading, title } = mainOf(content, home, menu)
  const category = "category" in content ? content.category : undefined
  const document = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${home ? shop : `${title} - ${shop}`}</title>
        <meta name="description" content="A few good books at a time, drawn by chance." />
        <link rel="icon" href="/favicon.ico" />
        <link rel="stylesheet" href="${stylesheetPath}" />
      </head>
      <body>
        <a class="skip" href="#main">Skip to content</a>
        <header>
          ${home ? html`<a class="wordmark" href="/" aria-current="page">${shop}</a>` : html`<a class="wordmark" href="/">${shop}</a>`}
          ${navigation(menu, category, home)}
        </header>
        <main id="main" tabindex="-1">
          <h1>${heading}</h1>
          ${body}
        </main>
        <footer>
          <p>No prices, no stars, no cookies: only books.</p>
        </footer>
      </body>
    </html>`
  return toText(document)
}

/** Caches the rendered menus of each list of categories. */
const rendered = new WeakMap<ReadonlyArray<Category>, Map<string, Html>>()

const navigation = (menu: ReadonlyArray<Category>, current: Category | undefined, home: boolean): Html | undefined => {
  if (menu.length === 0) return undefined
  let variants = rendered.get(menu)
  if (variants === undefined) rendered.set(menu, (variants = new Map()))
  const key = `${current} ${home}`
  let nav = variants.get(key)
  if (nav === undefined) variants.set(key, (nav = renderNavigation(menu, current, home)))
  return nav
}

/** Links without list items, so that the books are the only list items of a page. */
const renderNavigation = (menu: ReadonlyArray<Category>, current: Category | undefined, home: boolean): Html => {
  // on the home page the menu link points to another URL, so aria-current is `true`, not `page`
  const ariaCurrent = home ? "true" : "page"
  const items = menu.map((category) =>
    category === current
      ? html`<a href="${pathOf(category)}" aria-current="${ariaCurrent}">${labels[category]}</a> `
      : html`${links.get(category)} `
  )
  return html`<nav aria-label="Shelves">${items}</nav>`
}

/** What differs between pages. The home page has the shop's name as the title of its document. */
interface Main {
  readonly title: string
  readonly heading: Value
  readonly body: Html
}

const mainOf = (content: Content, home: boolean, menu: ReadonlyArray<Category>): Main => {
  switch (content._tag) {
    case "Books":
    case "Unavailable": {
      const label = labels[content.category]
      const path = home ? "/" : pathOf(content.category)
      return {
        title: `${label} books`,
        heading: `${label} books you may like`,
        body: content._tag === "Books" ? bookList(content.category, content.books, path) : unavailable(path)
      }
    }
    case "UnknownCategory":
      return {
        title: "No such shelf",
        heading: html`We have no shelf called “<bdi>${clip(content.name)}</bdi>”`,
        body:
          menu.length === 0 ? homeLink : html`<p class="note">Here are the shelves we have: ${linkList(menu, ".")}</p>`
      }
    case "NotFound":
      return { title: "No such page", heading: "There is no page here", body: homeLink }
    case "Failed":
      return {
        title: "Our mistake",
        heading: "Sorry, something went wrong",
        body: html`<p class="note">The mistake is ours, not yours, and we have been told of it.</p>
          ${homeLink}`
      }
  }
}

const homeLink = html`<p class="note"><a class="onward" href="/">Go to the front table</a></p>`

const unavailable = (path: string): Html =>
  html`<p class="note">We can't fetch suggestions just now. <a class="onward" href="${path}">Try again</a></p>`

const bookList = (category: Category, books: ReadonlyArray<PageBook>, path: string): Html =>
  books.length === 0
    ? redraw(category, 0, path)
    : html`<ul class="books">
          ${books.map((book) => bookCard(category, book))}
        </ul>
        ${redraw(category, books.length, path)}`

/** A sentence about the random selection, and a link to another one. A category of fewer than three books has no other books. */
const redraw = (category: Category, count: number, path: string): Html => {
  const shelf = `the ${labels[category]} shelf`
  const number = numerals[count] ?? count
  const [sentence, link] =
    count >= 3
      ? [`Chance picked these ${number} from ${shelf}.`, `Show me ${number} others`]
      : count === 2
        ? [`These two are all that ${shelf} holds today.`, "Look again"]
        : count === 1
          ? [`This one is all that ${shelf} holds today.`, "Look again"]
          : [`There is nothing on ${shelf} today.`, "Look again"]
  return html`<p class="note">${sentence} <a class="onward" href="${path}">${link}</a></p>`
}

const numerals = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

/** Truncates a name from a URL to the length of a heading. */
const clip = (name: string): string => {
  const characters = Array.from(name)
  return characters.length > 80 ? `${characters.slice(0, 80).join("")}…` : name
}
