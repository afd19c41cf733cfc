import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"

import { categories, Category } from "../../../src/domain/Category.ts"
import { slugOf } from "../../../src/marketplace/categorySlug.ts"
import type { PageBook } from "../../../src/marketplace/RecommendationsClient.ts"
import { labels } from "../../../src/marketplace/view/categoryLinks.ts"
import { type Content, type Page, render } from "../../../src/marketplace/view/Page.ts"
import { css } from "../../../src/marketplace/view/stylesheet.ts"

const page = (content: Content, options: Partial<Page> = {}): string =>
  render({ content, menu: categories, home: false, stylesheetPath: "/style.0123abcd.css", ...options })

const book: PageBook = {
  id: 2,
  title: "Murder on the Orient Express",
  authors: ["Agatha Christie"],
  year: 1934,
  categories: ["MYSTERY"]
}

const mysteries = (...books: ReadonlyArray<Partial<PageBook>>): Content => ({
  _tag: "Books",
  category: "MYSTERY",
  books: books.map((fields) => ({ ...book, ...fields }))
})

/** The markup of each book. */
const items = (html: string): ReadonlyArray<string> =>
  Array.from(html.matchAll(/<li>(.*?)<\/li>/gs), ([, item]) => item ?? "")

/** The first book of a page that shows this one. */
const item = (fields: Partial<PageBook>): string => items(page(mysteries(fields)))[0] ?? ""

/** The text that a browser shows. */
const textOf = (html: string): string =>
  html
    .replace(/<[^>]*>/g, "")
    .replace(/&(amp|lt|gt|quot|#39);/g, (_, name: string) => characters[name] ?? "")
    .replace(/\s+/g, " ")
    .trim()

const characters: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" }

const inside = (tag: string, html: string): string =>
  textOf(new RegExp(`<${tag}\\b[^>]*>(.*?)</${tag}>`, "s").exec(html)?.[1] ?? "")

/** Every tag is closed in order; there are no scripts, style attributes or images, and only text outside of tags. */
const assertWellFormed = (html: string) => {
  const open: Array<string> = []
  const rest = html
    .replace(/^<!doctype html>/, "")
    .replace(/<(\/?)([a-z0-9]+)((?:\s+[a-z-]+="[^"<>]*")*)\s*(\/?)>/g, (_, end, tag: string, attributes: string) => {
      if (end === "/") assert.strictEqual(open.pop(), tag)
      else if (!["meta", "link"].includes(tag)) open.push(tag)
      assert.notInclude(["script", "style", "img"], tag)
      assert.notMatch(attributes.replace(/"[^"]*"/g, ""), /\s(style|on[a-z]+)=/)
      return ""
    })
  assert.deepStrictEqual(open, [])
  assert.notMatch(rest, /[<>]/)
}

const states: ReadonlyArray<Content> = [
  mysteries({}, {}, {}),
  { _tag: "Unavailable", category: "MYSTERY" },
  { _tag: "UnknownCategory", name: "cooking" },
  { _tag: "NotFound" },
  { _tag: "Failed" }
]

describe("Page", () => {
  it("has a distinct label for every category", () => {
    assert.strictEqual(new Set(categories.map((category) => labels[category])).size, 13)
  })

  describe("the frame", () => {
    it.each(states)("is the same for $_tag", (content) => {
      const html = page(content)
      assert.match(html, /^<!doctype html>\s*<html lang="en">/)
      assert.include(html, `<link rel="stylesheet" href="/style.0123abcd.css" />`)
      assert.include(html, `<link rel="icon" href="/favicon.ico" />`)
      assert.match(html, /<a class="skip" href="#main">.*<main id="main"/s)
      assert.match(html, /<header>.*<a class="wordmark" href="\/">Online Books For You<\/a>.*<\/header>/s)
      assert.lengthOf(html.match(/<h1>/g) ?? [], 1)
      for (const category of categories) {
        const link = html.match(
          new RegExp(`<nav aria-label="Shelves">.*/\\?category=${slugOf(category)}".*</nav>`, "s")
        )
        assert.isNotNull(link, category)
      }
      assertWellFormed(html)
    })

    it("marks the category of the page in the menu", () => {
      const html = page({ _tag: "Unavailable", category: "SELF_HELP" })
      assert.include(html, `<a href="/?category=self-help" aria-current="page">Self-help</a>`)
      assert.lengthOf(html.match(/aria-current/g) ?? [], 1)
    })

    it("marks the category of the home page as current, but not as the page", () => {
      const html = page(mysteries({}), { home: true })
      assert.include(html, `<a href="/?category=mystery" aria-current="true">Mystery</a>`)
      assert.include(html, `<a class="wordmark" href="/" aria-current="page">`)
    })

    it("has a menu of the given categories, or none if it is empty", () => {
      const some = page(mysteries({}), { menu: ["MYSTERY", "HORROR"] })
      assert.strictEqual(inside("nav", some), "Mystery Horror")
      assert.notInclude(page({ _tag: "Unavailable", category: "MYSTERY" }, { menu: [] }), "<nav")
    })

    it("has a title for each kind of page", () => {
      const titles = (content: Content, home = false) => {
        const html = page(content, { home })
        return [inside("title", html), inside("h1", html)]
      }
      assert.deepStrictEqual(titles(mysteries({}), true), ["Online Books For You", "Mystery books you may like"])
      assert.deepStrictEqual(titles({ _tag: "Unavailable", category: "SCIENCE_FICTION" }), [
        "Science fiction books - Online Books For You",
        "Science fiction books you may like"
      ])
      assert.deepStrictEqual(titles({ _tag: "Books", category: "CHILDREN", books: [book] }), [
        "Children's books - Online Books For You",
        "Children's books you may like"
      ])
      const all = states.map((content) => titles(content)[0])
      // a category has the same title with books and without
      assert.strictEqual(new Set(all).size, states.length - 1)
      for (const title of all) assert.match(title ?? "", /^.+ - Online Books For You$/)
    })
  })

  describe("a book", () => {
    it("shows its title, authors, year and other categories, once each", () => {
      const html = item({ categories: ["MYSTERY", "THRILLER", "CLASSICS"] })
      assert.strictEqual(
        textOf(html),
        "Murder on the Orient Express by Agatha Christie 1934 Also in: Thriller, Classics"
      )
      assert.include(html, `<h2><bdi dir="auto">Murder on the Orient Express</bdi></h2>`)
      assert.include(
        html,
        '<span class="item"><a href="/?category=thriller">Thriller</a>,</span> ' +
          '<span class="item"><a href="/?category=classics">Classics</a></span>'
      )
      assert.notInclude(html, "category=mystery")
    })

    it("leaves no gap for missing data", () => {
      assert.strictEqual(textOf(item({ year: undefined, authors: [] })), "Murder on the Orient Express")
      assert.lengthOf(item({ year: undefined, authors: [] }).match(/<p\b/g) ?? [], 0)
    })

    it("is a list item, and nothing else is", () => {
      for (const count of [0, 1, 2, 3]) {
        const html = page(mysteries(...Array.from({ length: count }, () => ({}))))
        assert.lengthOf(items(html), count)
        assert.lengthOf(html.match(/<li\b/g) ?? [], count)
      }
      for (const content of states.slice(1)) assert.notMatch(page(content), /<li\b/)
    })

    it.each([
      [1934, "1934"],
      [1000, "1000"],
      [180, "AD 180"],
      [-17, "17 BC"],
      [-720, "720 BC"]
    ] as const)("formats the year %i as %s", (year, text) => {
      assert.include(item({ year }), `<p>${text}</p>`)
    })

    it("names up to three authors", () => {
      assert.include(textOf(item({ authors: ["A", "B"] })), "by A, B 1934")
      assert.include(textOf(item({ authors: ["A", "B", "C"] })), "by A, B, C 1934")
      assert.notInclude(item({ authors: ["A", "B", "C"] }), "<details")
    })

    it("names two of nineteen authors, and lists all of them in details", () => {
      const authors = Array.from("ABCDEFGHIJKLMNOPQRS")
      const html = item({ authors })
      assert.strictEqual(inside("summary", html), "by A, B and 17 others")
      assert.strictEqual(textOf(/<\/summary>(.*)<\/details>/s.exec(html)?.[1] ?? ""), authors.join(", "))
      assert.include(html, `data-author="A and others"`)
    })

    it("shows a title of 300 characters in full, in smaller type", () => {
      const title = "An Account of the ".repeat(17).slice(0, 299) + "!"
      const html = item({ title })
      assert.include(html, `<h2 class="long"><bdi dir="auto">${title}</bdi></h2>`)
      assert.include(html, `class="cover tiny `)
      assert.include(html, `data-title="${title}"`)
    })

    it("isolates the direction of titles and authors", () => {
      const html = item({ title: "סיפור על אהבה וחושך", authors: ["עמוס עוז", "A"] })
      assert.include(html, `<h2><bdi dir="auto">סיפור על אהבה וחושך</bdi></h2>`)
      assert.include(html, `by <bdi dir="auto">עמוס עוז</bdi>, <bdi dir="auto">A</bdi>`)
    })

    it("cannot inject markup", () => {
      const html = page(
        mysteries({ title: "<script>alert(1)</script>", authors: [`"><img src=x onerror='alert(1)'>`] })
      )
      assert.strictEqual(inside("h2", html), "<script>alert(1)</script>")
      assert.include(html, "&lt;script&gt;alert(1)&lt;/script&gt;")
      assertWellFormed(html)
    })

    const AnyBook = Schema.Struct({
      id: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2_147_483_647 })),
      title: Schema.NonEmptyString,
      authors: Schema.Array(Schema.Union([Schema.String, Schema.Literals(["</bdi>", `" style="`, "<li>", "&lt;"])])),
      year: Schema.UndefinedOr(Schema.Int),
      categories: Schema.Array(Category)
    })

    it.prop(
      "renders a well-formed page for any book",
      [AnyBook, Schema.String],
      ([any, name]) => {
        const html = page(mysteries(any, { ...any, title: `${any.title}<h1 class='${name}'>&` }))
        assertWellFormed(html)
        assert.lengthOf(items(html), 2)
        assertWellFormed(page({ _tag: "UnknownCategory", name: `${name}</h1><script>` }))
      },
      { arbitrary: { runs: 50 } }
    )
  })

  describe("a cover", () => {
    const coverOf = (fields: Partial<PageBook>) => /<div\s+class="cover [^>]*><\/div>/.exec(item(fields))?.[0] ?? ""

    it("is hidden from assistive technology, and always the same for a book", () => {
      assert.include(coverOf({}), `aria-hidden="true"`)
      assert.strictEqual(coverOf({ id: 12345 }), coverOf({ id: 12345 }))
    })

    it("combines every motif with every palette, each with a rule in the stylesheet", () => {
      const looks = new Set<string>()
      for (let id = 1; id <= 500; id++) looks.add(/palette-\d+ motif-\d+/.exec(coverOf({ id }))?.[0] ?? "")
      assert.strictEqual(looks.size, 77)
      for (const look of looks) for (const name of look.split(" ")) assert.include(css, `.${name} {`)
      assert.lengthOf(css.match(/^\.(palette|motif)-/gm) ?? [], 11 + 7)
    })

    it("has the title without its subtitle and series", () => {
      const short = (title: string) => /data-title="(.*?)"/.exec(coverOf({ title }))?.[1]
      assert.strictEqual(short("The Hunger Games (The Hunger Games, #1)"), "The Hunger Games")
      assert.strictEqual(short("Soccernomics: Why England Loses"), "Soccernomics")
      assert.strictEqual(short("(500) Days"), "(500) Days")
      assert.strictEqual(short("Fahrenheit 451"), "Fahrenheit 451")
      assert.strictEqual(short(": x"), ": x")
    })

    it("has smaller type for long titles and long words", () => {
      const size = (title: string) => /class="cover (\w+)/.exec(coverOf({ title }))?.[1]
      assert.strictEqual(size("Dune"), "large")
      assert.strictEqual(size("The Hound of the Baskervilles"), "medium")
      assert.strictEqual(size("Unconventionalities"), "small")
      assert.strictEqual(size("word ".repeat(30)), "tiny")
    })
  })

  describe("the link to another draw", () => {
    const draw = (count: number, home = false) =>
      /<p class="note">.*?<\/p>/s.exec(page(mysteries(...Array.from({ length: count }, () => ({}))), { home }))?.[0] ??
      ""

    it("leads to the same address", () => {
      assert.include(draw(3), `<a class="onward" href="/?category=mystery">Show me three others</a>`)
      assert.include(draw(3, true), `<a class="onward" href="/">Show me three others</a>`)
    })

    it("offers as many books as are shown, as a numeral", () => {
      assert.include(textOf(draw(4)), "these four from the Mystery shelf. Show me four others")
      assert.include(textOf(draw(12)), "these 12 from the Mystery shelf. Show me 12 others")
    })

    it("offers no other books if there are none", () => {
      assert.strictEqual(textOf(draw(0)), "There is nothing on the Mystery shelf today. Look again")
      assert.strictEqual(textOf(draw(1)), "This one is all that the Mystery shelf holds today. Look again")
      assert.strictEqual(textOf(draw(2)), "These two are all that the Mystery shelf holds today. Look again")
    })
  })

  describe("without books", () => {
    it("says that suggestions cannot be fetched, and links to a retry", () => {
      const html = page({ _tag: "Unavailable", category: "SCIENCE_FICTION" })
      assert.include(html, "We can't fetch suggestions just now")
      assert.include(html, `<a class="onward" href="/?category=science-fiction">Try again</a>`)
      assert.include(
        page({ _tag: "Unavailable", category: "MYSTERY" }, { home: true }),
        `<a class="onward" href="/">Try again</a>`
      )
    })

    it("lists the categories for an unknown one", () => {
      const html = page({ _tag: "UnknownCategory", name: "cook<ing" }, { menu: ["MYSTERY", "HORROR"] })
      assert.strictEqual(inside("h1", html), "We have no shelf called “cook<ing”")
      assert.include(textOf(html), "Here are the shelves we have: Mystery, Horror.")
      assert.include(page({ _tag: "UnknownCategory", name: "x" }, { menu: [] }), `href="/">Go to the front table`)
    })

    it("clips a long name in the heading, without splitting a character", () => {
      const html = page({ _tag: "UnknownCategory", name: "😀".repeat(1000) })
      assert.strictEqual(inside("h1", html), `We have no shelf called “${"😀".repeat(80)}…”`)
    })

    it("links to the home page", () => {
      for (const _tag of ["NotFound", "Failed"] as const) {
        assert.include(page({ _tag }), `href="/">Go to the front table</a>`)
      }
      assert.strictEqual(inside("h1", page({ _tag: "Failed" })), "Sorry, something went wrong")
    })
  })
})
