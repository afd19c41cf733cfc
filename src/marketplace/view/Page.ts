/**
 * The reader's page: a bookshop's front table, complete without JavaScript.
 */
import { categories, type Category, labels } from "../../domain/Category.ts"
import { html, type Html, type Value } from "./Html.ts"

/** What the page shows of a book. */
export interface PageBook {
  readonly id: number
  readonly title: string
  /** In the order of the title page. */
  readonly authors: ReadonlyArray<string>
  /** Of first publication: negative before the common era, undefined where nobody knows. */
  readonly year?: number | undefined
  readonly categories: ReadonlyArray<Category>
}

/** What a page has to say. */
export type Content =
  | { readonly _tag: "Books"; readonly category: Category; readonly books: ReadonlyArray<PageBook> }
  /** The backend is down or slow. */
  | { readonly _tag: "Unavailable"; readonly category: Category }
  /** The reader asked for a shelf that we do not have, by this name. */
  | { readonly _tag: "UnknownCategory"; readonly name: string }
  /** Nothing is served at this path. */
  | { readonly _tag: "NotFound" }
  /** A mistake of ours: the reader gets an apology and no detail. */
  | { readonly _tag: "Failed" }

/** A page to {@link render}: its content, and what the frame around it needs to know. */
export interface Page {
  readonly content: Content
  /** The shelves known to hold books, in the order of the menu. */
  readonly menu: ReadonlyArray<Category>
  /** Whether the page is the front table at `/`, not the shelf at the address of its category. */
  readonly home: boolean
  /** The address of the stylesheet. */
  readonly stylesheetPath: string
}

/** What a category is called in an address: SCIENCE_FICTION is "science-fiction". */
export const slugOf = (category: Category): string => category.toLowerCase().replaceAll("_", "-")

const bySlug: ReadonlyMap<string, Category> = new Map(categories.map((category) => [slugOf(category), category]))

/**
 * The category that an address means. It is lenient, for readers type addresses too, and a page that says there is no
 * "Mystery" shelf and offers Mystery would look foolish: case does not matter, spaces and underscores are hyphens, and white space
 * and slashes around it do not count.
 */
export const categoryOfSlug = (slug: string): Category | undefined =>
  bySlug.get(
    trim(slug)
      .toLowerCase()
      .replaceAll(/[\s_]+/gu, "-")
  )

/** What is left of text without the white space and the slashes around it, in linear time whatever is in between. */
const trim = (text: string): string => {
  let begin = 0
  let end = text.length
  while (begin < end && /[\s/]/u.test(text[begin]!)) begin++
  while (end > begin && /[\s/]/u.test(text[end - 1]!)) end--
  return text.slice(begin, end)
}

/** The whole document, from its doctype on. */
export const render = (page: Page): string => {
  const { body, heading, title } = contents(page)
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${page.home ? shop : `${title} - ${shop}`}</title>
        <meta name="description" content="A few good books at a time, drawn by chance." />
        <link rel="icon" href="/favicon.ico" />
        <link rel="stylesheet" href="${page.stylesheetPath}" />
      </head>
      <body>
        <a class="skip" href="#main">Skip to content</a>
        <header>
          ${page.home ? html`<a class="wordmark" href="/" aria-current="page">${shop}</a>` : html`<a class="wordmark" href="/">${shop}</a>`}
          ${menu(page)}
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
}

const shop = "Online Books For You"

const pathOf = (category: Category): string => `/?category=${slugOf(category)}`

const links = new Map<Category, Html>(
  categories.map((category) => [category, html`<a href="${pathOf(category)}">${labels[category]}</a>`])
)

/** A link to a shelf. */
const shelf = (category: Category): Html => links.get(category)!

/** Links to shelves; what follows one stays on its line, since no line should begin with a comma. */
const shelves = (categories: ReadonlyArray<Category>, end = ""): Value =>
  categories.map(
    (category, index) =>
      html`${index > 0 && " "}<span class="item">${shelf(category)}${index < categories.length - 1 ? "," : end}</span>`
  )

/** Menus that have been made, by the categories that they are of: those are the same for many pages. */
const menus = new WeakMap<ReadonlyArray<Category>, Map<string, Html>>()

/** Links without list items: the books are the only items of the page. */
const menu = ({ content, home, menu }: Page): Html | undefined => {
  if (menu.length === 0) return undefined
  const current = "category" in content ? content.category : undefined
  const key = `${current} ${home}`
  let made = menus.get(menu)
  if (made === undefined) menus.set(menu, (made = new Map()))
  let nav = made.get(key)
  if (nav === undefined) made.set(key, (nav = makeMenu(menu, current, home)))
  return nav
}

const makeMenu = (menu: ReadonlyArray<Category>, current: Category | undefined, home: boolean): Html => {
  // The front table shows a shelf that has an address of its own: there the link is current, yet not to this page.
  const mark = home ? "true" : "page"
  const links = menu.map((category) =>
    category === current
      ? html`<a href="${pathOf(category)}" aria-current="${mark}">${labels[category]}</a> `
      : html`${shelf(category)} `
  )
  return html`<nav aria-label="Shelves">${links}</nav>`
}

interface Contents {
  /** Names the page in the browser's tabs and history. */
  readonly title: string
  readonly heading: Value
  readonly body: Html
}

const contents = ({ content, home, menu }: Page): Contents => {
  switch (content._tag) {
    case "Books":
    case "Unavailable": {
      const label = labels[content.category]
      const path = home ? "/" : pathOf(content.category)
      return {
        title: `${label} books`,
        heading: `${label} books you may like`,
        body: content._tag === "Books" ? table(content.category, content.books, path) : unavailable(path)
      }
    }
    case "UnknownCategory":
      return {
        title: "No such shelf",
        heading: html`We have no shelf called “<bdi>${clip(content.name)}</bdi>”`,
        body:
          menu.length === 0 ? frontTable : html`<p class="note">Here are the shelves we have: ${shelves(menu, ".")}</p>`
      }
    case "NotFound":
      return { title: "No such page", heading: "There is no page here", body: frontTable }
    case "Failed":
      return {
        title: "Our mistake",
        heading: "Sorry, something went wrong",
        body: html`<p class="note">The mistake is ours, not yours, and we have been told of it.</p>
          ${frontTable}`
      }
  }
}

const frontTable = html`<p class="note"><a class="onward" href="/">Go to the front table</a></p>`

const unavailable = (path: string): Html =>
  html`<p class="note">We can't fetch suggestions just now. <a class="onward" href="${path}">Try again</a></p>`

const table = (category: Category, books: ReadonlyArray<PageBook>, path: string): Html =>
  books.length === 0
    ? draw(category, 0, path)
    : html`<ul class="books">
          ${books.map((book) => card(category, book))}
        </ul>
        ${draw(category, books.length, path)}`

/** Chance as a feature. A shelf that fills less than a table has no others to show, so none are promised. */
const draw = (category: Category, count: number, path: string): Html => {
  const shelf = `the ${labels[category]} shelf`
  const number = numbers[count] ?? count
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

const numbers = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

/** A book on the table of `category`. What is not known of it takes no place. */
const card = (category: Category, book: PageBook): Html => {
  const title = isolated(book.title)
  const others = book.categories.filter((other) => other !== category)
  return html`<li>
    ${cover(book)}
    <div class="about">
      ${book.title.length > 110 ? html`<h2 class="long">${title}</h2>` : html`<h2>${title}</h2>`}
      ${byline(book.authors)} ${book.year !== undefined && html`<p>${yearOf(book.year)}</p>`}
      ${others.length > 0 && html`<p class="also">Also in: ${shelves(others)}</p>`}
    </div>
  </li>`
}

/**
 * The title and the author stand on the cover by way of `attr()` in the stylesheet, not as text: so they are neither
 * read, found nor copied twice, and the page without its stylesheet does not repeat itself.
 */
const cover = ({ authors, id, title }: PageBook): Html => {
  const short = shortTitle(title)
  const author = authors.length > 2 ? `${authors[0]} and others` : authors.join(", ")
  // Numbers without a common factor, so that every motif meets every palette.
  const classes = `cover ${coverSize(short)} palette-${id % 11} motif-${id % 7}`
  return html`<div class="${classes}" aria-hidden="true" data-title="${short}" data-author="${author}"></div>`
}

/** As covers have it: "Dune: A Novel (Dune, #1)" is "Dune". The heading beside the cover has the whole. */
const shortTitle = (title: string): string => /^(.+?)(?:: | \()/u.exec(title)?.[1] ?? title

/** The size of the type on a cover, so that a title fits it: by its length, and by its longest word, which should not break. */
const coverSize = (title: string): string => {
  const word = longestWord(title)
  if (title.length > 110) return "tiny"
  if (title.length > 50 || word > 12) return "small"
  return title.length > 22 || word > 8 ? "medium" : "large"
}

/** Without the array that to split it would make for each cover. */
const longestWord = (title: string): number => {
  let longest = 0
  let begin = 0
  for (let at = 0; at <= title.length; at++) {
    if (at < title.length && title[at] !== " " && title[at] !== "-") continue
    longest = Math.max(longest, at - begin)
    begin = at + 1
  }
  return longest
}

/** Up to three authors are named; of more, two are, and all of them when the reader asks. */
const byline = (authors: ReadonlyArray<string>): Html | undefined => {
  if (authors.length === 0) return undefined
  const names = authors.map(isolated)
  if (names.length <= 3) return html`<p class="by">by ${listed(names)}</p>`
  return html`<details class="by">
    <summary>by ${listed(names.slice(0, 2))} and ${names.length - 2} others</summary>
    <p>${listed(names)}</p>
  </details>`
}

/** A bare "8" does not look like a year, so early ones say their era. */
const yearOf = (year: number): string => (year < 0 ? `${-year} BC` : year < 1000 ? `AD ${year}` : `${year}`)

/** Text that may run from right to left, without turning what stands around it. */
const isolated = (text: string): Html => html`<bdi dir="auto">${text}</bdi>`

const listed = (items: ReadonlyArray<Html>): Value => items.map((item, index) => (index === 0 ? item : html`, ${item}`))

/** A name from an address can have any length, and a heading should not. */
const clip = (name: string): string => {
  const characters = Array.from(name)
  return characters.length > 80 ? `${characters.slice(0, 80).join("")}…` : name
}
