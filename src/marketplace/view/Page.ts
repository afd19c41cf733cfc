/**
 * The pages of the shop: heading and body of each, in the frame of {@link layout}. They are complete without JavaScript.
 */
import type { Category } from "../../domain/Category.ts"
import type { PageBook } from "../RecommendationsClient.ts"
import type { Content as StorefrontContent } from "../Storefront.ts"
import { bookCard } from "./bookCard.ts"
import { labels, linkList, pathOf } from "./categoryLinks.ts"
import { html, type Html } from "./Html.ts"
import { type Frame, layout } from "./layout.ts"

/** The content of a page. */
export type Content =
  | StorefrontContent
  /** Nothing is served at the requested path. */
  | { readonly _tag: "NotFound" }
  /** An unexpected error occurred: an apology without details. */
  | { readonly _tag: "Failed" }

/** A page to {@link render}. */
export interface Page extends Pick<Frame, "menu" | "home" | "stylesheetPath"> {
  readonly content: Content
}

/** The whole document, from its doctype on. */
export const render = ({ content, home, menu, stylesheetPath }: Page): string =>
  layout({
    ...mainOf(content, home, menu),
    category: "category" in content ? content.category : undefined,
    home,
    menu,
    stylesheetPath
  })

const mainOf = (
  content: Content,
  home: boolean,
  menu: ReadonlyArray<Category>
): Pick<Frame, "title" | "heading" | "body"> => {
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
