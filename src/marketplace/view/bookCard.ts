/**
 * A book in the list of a page: its cover, title, authors, year and other categories.
 */
import type { Category } from "../../domain/Category.ts"
import type { PageBook } from "../RecommendationsClient.ts"
import { linkList } from "./categoryLinks.ts"
import { html, type Html, type Value } from "./Html.ts"

/** The list item of a book on the page of a category. Missing fields are omitted. */
export const bookCard = (category: Category, book: PageBook): Html => {
  const others = book.categories.filter((other) => other !== category)
  return html`<li>
    ${cover(book)}
    <div class="about">
      <h2${book.title.length > 110 && longTitle}>${isolated([book.title])}</h2>
      ${byline(book.authors)} ${book.year !== undefined && html`<p>${formatYear(book.year)}</p>`}
      ${others.length > 0 && html`<p class="also">Also in: ${linkList(others)}</p>`}
    </div>
  </li>`
}

const longTitle = html` class="long"`

/**
 * The stylesheet renders the title and the author with `attr()`. They are not text: screen readers, search and copying
 * ignore them, and they do not appear without the stylesheet.
 */
const cover = ({ authors, id, title }: PageBook): Html => {
  // "Dune: A Novel (Dune, #1)" is "Dune" on its cover
  const shortTitle = /^(.+?)(?:: | \()/u.exec(title)?.[1] ?? title
  const author = authors.length > 2 ? `${authors[0]} and others` : authors.join(", ")
  // 11 and 7 have no common factor, so every palette appears with every motif
  const classes = `cover ${typeSize(shortTitle)} palette-${id % 11} motif-${id % 7}`
  return html`<div class="${classes}" aria-hidden="true" data-title="${shortTitle}" data-author="${author}"></div>`
}

/** The font size class with which a title fits on the cover without breaking its longest word. */
const typeSize = (title: string): string => {
  if (title.length > 110) return "tiny"
  // a regular expression that counts would begin again at each character
  let longest = 0
  let length = 0
  for (const character of title) {
    length = character === " " || character === "-" ? 0 : length + character.length
    if (length > longest) longest = length
  }
  if (title.length > 50 || longest > 12) return "small"
  return title.length > 22 || longest > 8 ? "medium" : "large"
}

/** Shows up to three authors. With more than three, shows two and an expandable list of all. */
const byline = (authors: ReadonlyArray<string>): Html | undefined => {
  if (authors.length === 0) return undefined
  if (authors.length <= 3) return html`<p class="by">by ${isolated(authors)}</p>`
  return html`<details class="by">
    <summary>by ${isolated(authors.slice(0, 2))} and ${authors.length - 2} others</summary>
    <p>${isolated(authors)}</p>
  </details>`
}

/** Adds the era to early years, because "8" alone is not recognizable as a year. */
const formatYear = (year: number): string => (year < 0 ? `${-year} BC` : year < 1000 ? `AD ${year}` : `${year}`)

/** Texts separated by commas, each isolated from the text around it, since it may be of either direction. */
const isolated = (texts: ReadonlyArray<string>): Value =>
  texts.map((text, at) => html`${at > 0 && ", "}<bdi dir="auto">${text}</bdi>`)
