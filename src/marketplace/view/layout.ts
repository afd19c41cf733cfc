/**
 * The frame of every page: head, header with the menu, main, footer.
 */
import type { Category } from "../../domain/Category.ts"
import { labels, links, pathOf } from "./categoryLinks.ts"
import { html, type Html, type Value } from "./Html.ts"

/** The content of a page, and the parameters of its frame. */
export interface Frame {
  /** The title of the document. The home page has the shop's name instead. */
  readonly title: string
  readonly heading: Value
  readonly body: Html
  /** The categories in the menu, in its order. */
  readonly menu: ReadonlyArray<Category>
  /** The category of the page, if it has one. */
  readonly category: Category | undefined
  /** Whether the page is the home page, `/`. */
  readonly home: boolean
  /** The address of the stylesheet. */
  readonly stylesheetPath: string
}

const shop = "Online Books For You"

/** The whole document, from its doctype on. */
export const layout = ({ body, category, heading, home, menu, stylesheetPath, title }: Frame): string =>
  html`<!doctype html>
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
    </html>`.toString()

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
