/**
 * The page of the built bundles in a browser, with books that are hard to lay out: layout, accessibility, keyboard, print and headers.
 * It saves screenshots in screenshots/.
 */
import { createHash } from "node:crypto"
import { fileURLToPath } from "node:url"

import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { Locator, Page } from "playwright-core"

import { Installation } from "../integration/Installation.ts"
import { audit, Browser, type Look } from "./Browser.ts"

interface Book {
  readonly title: string
  readonly authors: ReadonlyArray<string>
  readonly year?: number
  readonly categories: string
}

const scripted: Book = {
  title: "<script>alert(1)</script>",
  authors: [
    "Anonymous",
    "Robert'); DROP TABLE authors;--",
    "Gabriel García Márquez",
    "Đặng Thùy Trâm",
    "村上春樹",
    "نجيب محفوظ",
    ...Array.from({ length: 13 }, (_, index) => `Contributor No. ${index + 7}`)
  ],
  year: 1851,
  categories: "MYSTERY;SELF_HELP;THRILLER;HISTORICAL_FICTION;CLASSICS;YOUNG_ADULT;CHILDREN"
}

const long: Book = {
  title:
    `The Life and Strange Surprising Adventures of ${"Donaudampfschifffahrtselektrizitäten".repeat(3)}, Mariner: ` +
    "Who Lived Eight and Twenty Years, All Alone in an Uninhabited Island on the Coast of America, Near the Mouth of " +
    "the Great River of Oroonoque; Having",
  authors: ["Homer"],
  year: -720,
  categories: "MYSTERY;CLASSICS"
}

const hebrew: Book = { title: "סיפור על אהבה וחושך", authors: ["עמוס עוז"], categories: "MYSTERY" }

/** Every category has books. MYSTERY has only the three hard ones, so its page always shows exactly these. */
const books: ReadonlyArray<Book> = [
  scripted,
  long,
  hebrew,
  { title: "Dune", authors: ["Frank Herbert"], year: 1965, categories: "SCIENCE_FICTION;CLASSICS" },
  { title: "Neuromancer (Sprawl, #1)", authors: ["William Gibson"], year: 1984, categories: "SCIENCE_FICTION" },
  {
    title: "The Left Hand of Darkness",
    authors: ["Ursula K. Le Guin"],
    year: 1969,
    categories: "SCIENCE_FICTION;FANTASY"
  },
  {
    title: "Roadside Picnic",
    authors: ["Arkady Strugatsky", "Boris Strugatsky"],
    year: 1972,
    categories: "SCIENCE_FICTION"
  },
  { title: "Solaris", authors: ["Stanisław Lem"], year: 1961, categories: "SCIENCE_FICTION;CLASSICS" },
  { title: "Ender's Game", authors: ["Orson Scott Card"], year: 1985, categories: "SCIENCE_FICTION;YOUNG_ADULT" },
  { title: "Man's Search for Meaning", authors: ["Viktor E. Frankl"], year: 1946, categories: "SELF_HELP;HISTORY" },
  { title: "Pride and Prejudice", authors: ["Jane Austen"], year: 1813, categories: "ROMANCE;CLASSICS" },
  { title: "The Diary of a Young Girl", authors: ["Anne Frank"], year: 1947, categories: "BIOGRAPHY;HISTORY" },
  { title: "Dracula", authors: ["Bram Stoker"], year: 1897, categories: "HORROR" }
]

const catalogue = [
  "id,title,authors,year,isbn10,categories",
  ...books.map(({ authors, categories, title, year }, index) =>
    [index + 1, title, authors.join(", "), year ?? "", "", categories]
      .map((cell) => `"${String(cell).replaceAll('"', '""')}"`)
      .join(",")
  )
].join("\n")

/** Two shops: `open` reaches Recommendations, and `shut` does not. */
class Shops extends Context.Service<Shops, { readonly [S in Shop]: string }>()("onlinebooks/test/Shops") {
  static readonly layer = Layer.effect(
    Shops,
    Effect.gen(function* () {
      const installation = yield* Installation
      yield* installation.write("hard.csv", catalogue)
      const recommendations = yield* installation.start("recommendations", { CATALOG_FILE: "hard.csv" })
      const marketplace = (port: number) =>
        installation.start("marketplace", {
          RECOMMENDATIONS_TARGET: `localhost:${port}`,
          // generous, so that a busy machine does not fail the test
          MARKETPLACE_PAGE_BUDGET: "10 seconds"
        })
      // nothing listens on port 1
      const [open, shut] = yield* Effect.all([marketplace(recommendations.port), marketplace(1)], {
        concurrency: "unbounded"
      })
      return Shops.of({ open: `http://localhost:${open.port}`, shut: `http://localhost:${shut.port}` })
    })
  ).pipe(Layer.provide(Installation.layer))
}

type Shop = "open" | "shut"

/** A state of the page and its expected content. */
interface Scene {
  readonly name: string
  readonly shop: Shop
  readonly path: string
  readonly status: number
  readonly title: string
  readonly heading: string
  readonly books: number
}

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

const hard: Scene = {
  name: "hard",
  shop: "open",
  path: "/",
  status: 200,
  title: "Online Books For You",
  heading: "Mystery books you may like",
  books: 3
}

const without: Scene = { ...hard, name: "without-recommendations", shop: "shut", books: 0 }

const ordinary: Scene = {
  ...hard,
  name: "ordinary",
  path: "/?category=science-fiction",
  title: "Science fiction books - Online Books For You",
  heading: "Science fiction books you may like"
}

const unknown: Scene = {
  name: "unknown-category",
  shop: "open",
  path: "/?category=cooking%3Cb%3E",
  status: 404,
  title: "No such shelf - Online Books For You",
  heading: "We have no shelf called “cooking<b>”",
  books: 0
}

const otherScenes: ReadonlyArray<Scene> = [
  ordinary,
  {
    ...hard,
    name: "two",
    path: "/?category=self-help",
    title: "Self-help books - Online Books For You",
    heading: "Self-help books you may like",
    books: 2
  },
  {
    ...hard,
    name: "one",
    path: "/?category=horror",
    title: "Horror books - Online Books For You",
    heading: "Horror books you may like",
    books: 1
  },
  { ...ordinary, name: "ordinary-without-recommendations", shop: "shut", books: 0 },
  {
    ...unknown,
    name: "unknown-category-without-recommendations",
    shop: "shut",
    path: `/?category=${"Kochbücher".repeat(30)}`,
    heading: `We have no shelf called “${"Kochbücher".repeat(8)}…”`
  },
  {
    ...unknown,
    name: "unknown-path",
    path: "/nowhere",
    title: "No such page - Online Books For You",
    heading: "There is no page here"
  }
]

const phone: Look = { width: 320, scheme: "light" }
const desk: Look = { width: 1280, scheme: "light" }
const phoneAtNight: Look = { ...phone, scheme: "dark" }
const deskAtNight: Look = { ...desk, scheme: "dark" }

const looks = [phone, phoneAtNight, desk, deskAtNight]
/** Covers each width and each colour scheme once. */
const someLooks = [phoneAtNight, desk]

const visit = Effect.fnUntraced(function* (
  { path, shop }: Pick<Scene, "path" | "shop">,
  look: Look,
  options?: Parameters<Browser["Service"]["visit"]>[2]
) {
  return yield* (yield* Browser).visit(`${(yield* Shops)[shop]}${path}`, look, options)
})

const screenshot = (page: Page, name: string) =>
  Effect.promise(() =>
    page.screenshot({ path: fileURLToPath(new URL(`screenshots/${name}.png`, import.meta.url)), fullPage: true })
  )

/** Asserts that axe-core finds no violation, decides every rule and has measured the contrast of text. */
const assertAccessible = Effect.fnUntraced(function* (page: Page) {
  const { passed, undecided, violations } = yield* audit(page)
  assert.deepStrictEqual({ undecided, violations }, { undecided: [], violations: [] })
  assert.include(passed, "color-contrast")
})

/** The elements that the Tab key reaches, in document order. */
const stops = "a[href], summary"

layer(Layer.mergeAll(Shops.layer, Browser.layer))("the page", (it) => {
  it.effect.each([
    ...[hard, without, unknown].flatMap((scene) => looks.map((look) => ({ look, scene }))),
    ...otherScenes.flatMap((scene) => someLooks.map((look) => ({ look, scene })))
  ])(
    "fits, is accessible and has the expected content: $scene.name, $look.width px wide, $look.scheme",
    ({ look, scene }) =>
      Effect.gen(function* () {
        const { page, response } = yield* visit(scene, look)
        yield* screenshot(page, `${scene.name}-${look.width}-${look.scheme}`)

        assert.strictEqual(response.status(), scene.status)
        assert.strictEqual(yield* Effect.promise(() => page.title()), scene.title)
        assert.deepStrictEqual(yield* Effect.promise(() => page.locator("h1").allInnerTexts()), [scene.heading])
        assert.strictEqual(yield* Effect.promise(() => page.locator("li").count()), scene.books)

        yield* assertFits(page, look)
        const menu = page.getByRole("navigation").getByRole("link")
        assert.deepStrictEqual(yield* Effect.promise(() => menu.allInnerTexts()), labels)
        for (const link of yield* Effect.promise(() => menu.all())) {
          assert.isTrue(yield* Effect.promise(() => link.isVisible()))
        }
        // touch targets on a phone are high enough
        if (look.width === phone.width) assert.deepStrictEqual(yield* lowTargets(page), [])

        yield* assertAccessible(page)
      })
  )

  it.effect("shows the known fields of unusual books, escaped", () =>
    Effect.gen(function* () {
      const { page } = yield* visit(hard, desk)
      const card = (book: Book) =>
        page.locator("li").filter({ has: page.getByRole("heading", { name: book.title, exact: true }) })
      const text = (book: Book) => Effect.promise(() => card(book).innerText())
      const lines = (text: string) => text.split(/\n+/)

      assert.deepStrictEqual(lines(yield* text(scripted)), [
        scripted.title,
        "by Anonymous, Robert'); DROP TABLE authors;-- and 17 others",
        "1851",
        "Also in: Self-help, Thriller, Historical fiction, Classics, Young adult, Children's"
      ])
      assert.deepStrictEqual(lines(yield* text(long)), [long.title, "by Homer", "720 BC", "Also in: Classics"])
      assert.deepStrictEqual(lines(yield* text(hebrew)), [hebrew.title, `by ${hebrew.authors[0]}`])
      assert.strictEqual(yield* Effect.promise(() => page.locator("script").count()), 0)

      // missing fields leave no empty elements behind
      assert.strictEqual(
        yield* Effect.promise(() => page.locator("li :is(p, h2, ul, div):empty:not(.cover)").count()),
        0
      )
      // Hebrew runs from right to left, and the text around it from left to right
      const directions = (locator: Locator) =>
        Effect.promise(() =>
          locator.evaluateAll((elements) => elements.map((element) => getComputedStyle(element)["direction"]))
        )
      assert.deepStrictEqual(yield* directions(card(hebrew).locator("bdi")), ["rtl", "rtl"])
      assert.deepStrictEqual(yield* directions(card(hebrew).locator("h2, p")), ["ltr", "ltr"])
    })
  )

  it.effect.each(someLooks)("lists all nineteen authors on demand, $width px wide, $scheme", (look) =>
    Effect.gen(function* () {
      const { page } = yield* visit(hard, look)
      const names = page.getByText(scripted.authors.join(", "))
      assert.isFalse(yield* Effect.promise(() => names.isVisible()))
      yield* Effect.promise(() => page.getByText("and 17 others").click())
      yield* Effect.promise(() => names.waitFor())
      yield* screenshot(page, `authors-${look.width}-${look.scheme}`)
      yield* assertFits(page, look)
      yield* assertAccessible(page)
    })
  )

  it.effect.each([phone, desk])("can be used by keyboard, with a visible focus, $width px wide", (look) =>
    Effect.gen(function* () {
      const { page } = yield* visit(hard, look)
      const count = yield* Effect.promise(() => page.locator(stops).count())
      for (let index = 0; index < count; index++) {
        yield* Effect.promise(() => page.keyboard.press("Tab"))
        assert.deepStrictEqual(yield* focus(page), { index, outlined: true, inWindow: true })
        if (index === 0) yield* screenshot(page, `skip-link-${look.width}-${look.scheme}`)
      }
    })
  )

  it.effect.each([phone, desk])("has a link that skips the menu, $width px wide", (look) =>
    Effect.gen(function* () {
      const { page } = yield* visit(hard, look)
      const skip = page.getByRole("link", { name: "Skip to content" })
      assert.isFalse(yield* inWindow(skip))
      yield* Effect.promise(() => page.keyboard.press("Tab"))
      assert.isTrue(yield* inWindow(skip))
      yield* Effect.promise(() => page.keyboard.press("Enter"))
      yield* Effect.promise(() => page.waitForURL("**/#main"))
      yield* Effect.promise(() => page.keyboard.press("Tab"))
      const first = page.locator("main").locator(stops).first()
      assert.isTrue(yield* Effect.promise(() => first.evaluate((element) => element === document.activeElement)))
    })
  )

  it.effect("shows three other books on demand", () =>
    Effect.gen(function* () {
      const { page } = yield* visit(ordinary, desk)
      const titles = Effect.promise(() => page.locator("h2").allInnerTexts()).pipe(
        Effect.map((titles) => titles.toSorted())
      )
      const draws = new Set([String(yield* titles)])
      // there are 35 possible draws, so the same one 20 times in a row is practically impossible
      for (let times = 0; times < 20 && draws.size < 2; times++) {
        yield* follow(page, page.getByRole("link", { name: "Show me three others" }))
        const others = yield* titles
        assert.strictEqual(others.length, 3)
        draws.add(String(others))
      }
      assert.isAbove(draws.size, 1)
      assert.strictEqual(new URL(page.url()).search, "?category=science-fiction")
    })
  )

  it.effect("offers to try again when Recommendations is unavailable", () =>
    Effect.gen(function* () {
      const { page } = yield* visit(without, phone)
      yield* follow(page, page.getByRole("link", { name: "Try again" }))
      assert.isTrue(yield* Effect.promise(() => page.getByText("We can't fetch suggestions just now").isVisible()))
    })
  )

  it.effect("links to every category and marks the current one", () =>
    Effect.gen(function* () {
      const { page } = yield* visit(hard, desk)
      const menu = page.getByRole("navigation")
      const current = Effect.promise(() => menu.locator("[aria-current]").allInnerTexts())
      assert.deepStrictEqual(yield* current, ["Mystery"])
      for (const label of labels) {
        yield* follow(page, menu.getByRole("link", { name: label, exact: true }))
        assert.strictEqual(yield* Effect.promise(() => page.title()), `${label} books - Online Books For You`)
        assert.strictEqual(yield* Effect.promise(() => page.locator("h1").innerText()), `${label} books you may like`)
        assert.deepStrictEqual(yield* current, [label])
        const link = menu.locator("[aria-current=page]")
        const { decoration, weight } = yield* Effect.promise(() =>
          link.evaluate((element) => {
            const style = getComputedStyle(element)
            return { decoration: style["textDecorationLine"], weight: style["fontWeight"] }
          })
        )
        assert.deepStrictEqual({ decoration, weight }, { decoration: "underline", weight: "700" })
        assert.isAbove(yield* Effect.promise(() => page.locator("li").count()), 0)
      }
      // from a book to another of its categories, and to the start page
      yield* follow(page, page.getByRole("navigation").getByRole("link", { name: "Mystery" }))
      yield* follow(page, page.locator("li").getByRole("link", { name: "Young adult" }))
      assert.deepStrictEqual(yield* current, ["Young adult"])
      yield* follow(page, page.getByRole("link", { name: "Online Books For You" }))
      assert.strictEqual(new URL(page.url()).search, "")
    })
  )

  it.effect("offers the known categories in place of an unknown one", () =>
    Effect.gen(function* () {
      const { page } = yield* visit(unknown, phone)
      assert.strictEqual(yield* Effect.promise(() => page.locator("b").count()), 0)
      assert.strictEqual(yield* Effect.promise(() => page.locator("nav [aria-current]").count()), 0)
      const offered = page.locator("main").getByRole("link")
      assert.deepStrictEqual(yield* Effect.promise(() => offered.allInnerTexts()), labels)
      yield* follow(page, offered.last())
      assert.strictEqual(yield* Effect.promise(() => page.locator("h1").innerText()), "Horror books you may like")
    })
  )

  it.effect.each([phoneAtNight, desk])("fits and is accessible in forced colours, $width px wide, $scheme", (look) =>
    Effect.gen(function* () {
      const { page } = yield* visit(hard, look)
      yield* Effect.promise(() => page.emulateMedia({ forcedColors: "active" }))
      yield* screenshot(page, `forced-colours-${look.width}-${look.scheme}`)
      yield* assertFits(page, look)
      yield* assertAccessible(page)
      yield* Effect.promise(() => page.keyboard.press("Tab"))
      assert.deepStrictEqual(yield* focus(page), { index: 0, outlined: true, inWindow: true })
    })
  )

  it.effect.each([hard, without])("fits and is accessible in print: $name", (scene) =>
    Effect.gen(function* () {
      const { page } = yield* visit(scene, deskAtNight)
      yield* Effect.promise(() => page.emulateMedia({ media: "print" }))
      yield* screenshot(page, `print-${scene.name}`)
      // in the dark colour scheme too
      assert.strictEqual(
        yield* Effect.promise(() => page.locator("body").evaluate((body) => getComputedStyle(body)["backgroundColor"])),
        "rgb(255, 255, 255)"
      )
      assert.isFalse(yield* Effect.promise(() => page.locator("nav").isVisible()))
      assert.isFalse(yield* Effect.promise(() => page.locator(".skip").isVisible()))
      assert.isTrue(yield* Effect.promise(() => page.locator("h1").isVisible()))
      for (const title of yield* Effect.promise(() => page.locator("h2").all())) {
        assert.isTrue(yield* Effect.promise(() => title.isVisible()))
      }
      yield* assertFits(page, deskAtNight)
      yield* assertAccessible(page)
    })
  )

  it.effect("works without JavaScript", () =>
    Effect.gen(function* () {
      const { page } = yield* visit(hard, phone, { javaScriptEnabled: false })
      assert.strictEqual(yield* Effect.promise(() => page.locator("li").count()), 3)
      yield* Effect.promise(() => page.getByText("and 17 others").click())
      yield* Effect.promise(() => page.getByText(scripted.authors.join(", ")).waitFor())
      yield* follow(page, page.getByRole("link", { name: "Science fiction" }))
      yield* follow(page, page.getByRole("link", { name: "Show me three others" }))
      assert.strictEqual(yield* Effect.promise(() => page.locator("h1").innerText()), ordinary.heading)
      assert.strictEqual(yield* Effect.promise(() => page.locator("li").count()), 3)
    })
  )

  it.effect("can be read without its stylesheet", () =>
    Effect.gen(function* () {
      const { page } = yield* visit(hard, desk)
      yield* Effect.promise(() =>
        page.route("**/*.css", (route) => route.fulfill({ contentType: "text/css", body: "" }))
      )
      yield* Effect.promise(() => page.reload())
      yield* screenshot(page, "without-stylesheet")
      assert.strictEqual(yield* Effect.promise(() => page.locator("li").count()), 3)
      // each title once: only the stylesheet repeats it on the cover
      const text = yield* Effect.promise(() => page.locator("body").innerText())
      for (const { title } of [scripted, hebrew]) assert.strictEqual(text.split(title).length, 2)
    })
  )

  it.effect("fits with text of twice the size", () =>
    Effect.gen(function* () {
      const { page } = yield* visit(hard, phone)
      yield* Effect.promise(() =>
        page.route("**/*.css", (route) =>
          route
            .fetch()
            .then((response) =>
              response.text().then((css) => route.fulfill({ response, body: `${css} html { font-size: 200% }` }))
            )
        )
      )
      yield* Effect.promise(() => page.reload())
      yield* screenshot(page, "text-of-twice-the-size")
      yield* assertFits(page, phone)
    })
  )

  it.effect("has one stylesheet, named by its hash and cached without revalidation", () =>
    Effect.gen(function* () {
      const { page } = yield* visit(hard, desk)
      const links = page.locator("link[rel=stylesheet]")
      const paths = yield* Effect.promise(() =>
        links.evaluateAll((links) => links.map((link) => link.getAttribute("href")))
      )
      assert.strictEqual(paths.length, 1)
      const response = yield* Effect.promise(() => page.request.get(new URL(paths[0] ?? "", page.url()).href))
      const body = yield* Effect.promise(() => response.body())
      const hash = createHash("sha256").update(body).digest("hex").slice(0, 16)
      assert.strictEqual(paths[0], `/assets/style.${hash}.css`)
      assert.isBelow(body.length, 8192)

      // it is transferred once; the next page uses the cache
      const transferred = Effect.promise(() =>
        page.evaluate(
          () => performance.getEntriesByType("resource").find(({ name }) => name.endsWith(".css"))?.transferSize
        )
      )
      assert.isAbove((yield* transferred) ?? 0, body.length)
      yield* follow(page, page.getByRole("link", { name: "Horror" }))
      assert.strictEqual(yield* transferred, 0)
    })
  )

  it.effect.each([phoneAtNight, desk])(
    "has covers in the shape of books, with readable text, $width px wide, $scheme",
    (look) =>
      Effect.gen(function* () {
        const { page } = yield* visit(hard, look)
        for (const box of yield* Effect.promise(() => page.locator(".cover").all())) {
          const { height, width } = (yield* Effect.promise(() => box.boundingBox())) ?? { height: 0, width: 0 }
          assert.closeTo(height / width, 3 / 2, 0.01)
        }
        // axe-core does not see the text of covers, which is generated content
        const palettes = yield* inks(page)
        assert.isAbove(palettes.length, 1)
        for (const palette of palettes) assert.isAtLeast(contrast(palette), 4.5, palette.name)
      })
  )
})

/** Asserts that the page does not scroll horizontally and that the content of each book fits into its card. */
const assertFits = Effect.fnUntraced(function* (page: Page, { width }: Look) {
  assert.isAtMost(yield* Effect.promise(() => page.evaluate(() => document.documentElement.scrollWidth)), width)
  assert.deepStrictEqual(yield* overflowing(page), [])
})

/** Follows a link and waits until the new document has loaded, even from the same address. */
const follow = (page: Page, link: Locator) =>
  Effect.all([Effect.promise(() => page.waitForEvent("load")), Effect.promise(() => link.click())], {
    concurrency: "unbounded",
    discard: true
  })

const inWindow = (locator: Locator) =>
  Effect.promise(() => locator.evaluate((element) => element.getBoundingClientRect().bottom > 0))

/** WCAG's contrast ratio of two colours after a filter is applied. */
const contrast = ({ cloth, filter, ink }: Palette) => {
  const factor = (name: string) => Number(new RegExp(`${name}\\(([0-9.]+)\\)`).exec(filter)?.[1] ?? 1)
  const luminance = (colour: string) => {
    const dimmed = (colour.match(/[0-9.]+/g) ?? []).map((channel) => (Number(channel) / 255) * factor("brightness"))
    const grey = weigh(dimmed)
    return weigh(
      dimmed
        .map((channel) => grey + (channel - grey) * factor("saturate"))
        .map((channel) => (channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4))
    )
  }
  const [dark = 0, light = 0] = [luminance(cloth), luminance(ink)].toSorted((a, b) => a - b)
  return (light + 0.05) / (dark + 0.05)
}

const weigh = ([red = 0, green = 0, blue = 0]: ReadonlyArray<number>) => 0.2126 * red + 0.7152 * green + 0.0722 * blue

/** The index of the focused element among the stops, and whether its outline is visible. */
const focus = (page: Page) =>
  Effect.promise(() =>
    page.evaluate((stops) => {
      const focused = document.activeElement
      const { bottom, left, right, top } = focused.getBoundingClientRect()
      const style = getComputedStyle(focused)
      return {
        index: Array.from(document.querySelectorAll(stops)).indexOf(focused),
        outlined: style["outlineStyle"] !== "none" && parseFloat(style["outlineWidth"] ?? "") >= 2,
        // browsers scroll by whole pixels
        inWindow: top > -1 && left > -1 && bottom < innerHeight + 1 && right < innerWidth + 1
      }
    }, stops)
  )

/** The parts of the DOM that functions evaluated in the page use. The project has no types of the DOM, because nothing else runs in a browser. */
declare const document: {
  readonly documentElement: InPage
  readonly activeElement: InPage
  readonly querySelectorAll: (selector: string) => Iterable<InPage>
  readonly createRange: () => {
    readonly selectNode: (node: InPage) => void
    readonly getClientRects: () => Iterable<Box>
  }
}

declare const innerHeight: number
declare const innerWidth: number

declare const performance: {
  readonly getEntriesByType: (type: string) => ReadonlyArray<{ readonly name: string; readonly transferSize: number }>
}

declare const getComputedStyle: (element: InPage, pseudo?: string) => { readonly [property: string]: string }

interface InPage {
  className: string
  readonly childNodes: Iterable<InPage>
  readonly clientHeight: number
  readonly clientWidth: number
  readonly nodeType: number
  readonly outerHTML: string
  readonly scrollHeight: number
  readonly scrollWidth: number
  readonly checkVisibility: () => boolean
  readonly getBoundingClientRect: () => Box
  readonly querySelectorAll: (selector: string) => Iterable<InPage>
}

interface Box {
  readonly bottom: number
  readonly height: number
  readonly left: number
  readonly right: number
  readonly top: number
}

/** The elements that do not fit into their book's card: outside of it, wider than their own box, or cut off. */
const overflowing = (page: Page) =>
  Effect.promise(() =>
    page.evaluate(() =>
      Array.from(document.querySelectorAll("li")).flatMap((card) => {
        const around = card.getBoundingClientRect()
        return Array.from(card.querySelectorAll("*")).flatMap((element) => {
          // elements in a closed <details> have boxes too
          if (!element.checkVisibility()) return []
          const lines = Array.from(element.childNodes).flatMap((node) => {
            const range = document.createRange()
            range.selectNode(node)
            return node.nodeType === 3 ? Array.from(range.getClientRects()) : []
          })
          const outside = [element.getBoundingClientRect(), ...lines].some(
            ({ bottom, left, right, top }) =>
              left < around.left - 1 || right > around.right + 1 || top < around.top - 1 || bottom > around.bottom + 1
          )
          const wide = element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1
          const cut =
            getComputedStyle(element)["overflowY"] !== "visible" && element.scrollHeight > element.clientHeight + 1
          return outside || wide || cut ? [element.outerHTML] : []
        })
      })
    )
  )

/** The links and summaries that are lower than 44 px. */
const lowTargets = (page: Page) =>
  Effect.promise(() =>
    page.evaluate(() =>
      Array.from(document.querySelectorAll("a:not(.skip), summary")).flatMap((target) => {
        const { height } = target.getBoundingClientRect()
        return height < 44 ? [`${height} px: ${target.outerHTML}`] : []
      })
    )
  )

interface Palette {
  readonly name: string
  readonly ink: string
  readonly cloth: string
  readonly filter: string
}

/** The colours of a cover's text and background in every palette of the stylesheet. */
const inks = (page: Page) =>
  Effect.promise(() =>
    page.evaluate(() => {
      const cover = Array.from(document.querySelectorAll(".cover"))[0]
      const palettes: Array<Palette> = []
      if (cover === undefined) return palettes
      for (let number = 0; ; number++) {
        cover.className = `cover palette-${number}`
        const { filter = "" } = getComputedStyle(cover)
        const { backgroundColor: cloth = "", color: ink = "" } = getComputedStyle(cover, "::before")
        if (cloth === "rgba(0, 0, 0, 0)") return palettes
        palettes.push({ name: cover.className, ink, cloth, filter })
      }
    })
  )
