/**
 * Debian's Chromium, driven by Playwright: one browser for a suite of tests, a fresh profile for each visit.
 */
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"

import type { AxeResults, RuleMetadata, RunOptions } from "axe-core"
import { Context, Effect, Layer, Schema, type Scope } from "effect"
import { chromium, type Page, type Response } from "playwright-core"

/** How a reader looks at a page. */
export interface Look {
  /** Of the window, in CSS pixels: up to 480 it is that of a phone, with fingers for a pointer. */
  readonly width: number
  readonly scheme: "light" | "dark"
}

export interface Visit {
  readonly page: Page
  /** To the address that was asked for. */
  readonly response: Response
}

/** There is no browser, or it does not start. A test that needs one fails then: it is not skipped. */
export class BrowserUnavailable extends Schema.TaggedError<BrowserUnavailable>()("BrowserUnavailable", {
  path: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `${this.path} does not start. Install it with: apt-get install chromium. Or say in CHROMIUM_PATH where one is.`
  }
}

const path = process.env["CHROMIUM_PATH"] ?? "/usr/bin/chromium"

export class Browser extends Context.Service<
  Browser,
  {
    /**
     * Opens an address. Until the scope closes, whatever the browser complains of is collected: errors on its console (a
     * breach of the Content-Security-Policy is one), errors that were thrown, requests that failed and dialogs. If there
     * was anything, the closing of the scope fails the test.
     */
    readonly visit: (
      url: string,
      look: Look,
      options?: { readonly javaScriptEnabled?: boolean }
    ) => Effect.Effect<Visit, never, Scope.Scope>
  }
>()("onlinebooks/test/Browser") {
  static readonly layer = Layer.effect(
    Browser,
    Effect.gen(function* () {
      const browser = yield* Effect.acquireRelease(
        Effect.tryPromise({
          try: () =>
            chromium.launch({
              executablePath: path,
              args: [
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run"
              ]
            }),
          catch: (cause) => new BrowserUnavailable({ path, cause })
        }),
        (browser) => Effect.promise(() => browser.close())
      )

      const visit = Effect.fnUntraced(function* (
        url: string,
        { scheme, width }: Look,
        options: { readonly javaScriptEnabled?: boolean } = {}
      ) {
        const phone = width <= 480
        const context = yield* Effect.acquireRelease(
          Effect.promise(() =>
            browser.newContext({
              colorScheme: scheme,
              viewport: phone ? { width, height: 640 } : { width, height: 800 },
              deviceScaleFactor: phone ? 2 : 1,
              isMobile: phone,
              hasTouch: phone,
              ...options
            })
          ),
          (context) => Effect.promise(() => context.close())
        )
        const page = yield* Effect.promise(() => context.newPage())
        const complaints = listen(page)
        yield* Effect.addFinalizer(() =>
          complaints.length === 0
            ? Effect.void
            : Effect.die(new Error(`The browser complains: ${complaints.join("; ")}`))
        )
        const response = yield* Effect.promise(() => page.goto(url))
        if (response === null) return yield* Effect.die(new Error(`${url} is no other document`))
        return { page, response }
      })

      return Browser.of({ visit })
    })
  )
}

const listen = (page: Page): ReadonlyArray<string> => {
  const complaints: Array<string> = []
  const documents = new Set<string>()
  page.on("request", (request) => {
    if (request.isNavigationRequest()) documents.add(request.url())
  })
  page.on("console", (message) => {
    // Chromium reports the status of a 404 page too, which is for the test to judge, not for its console
    const ofDocument = message.text().startsWith("Failed to load resource") && documents.has(message.location().url)
    if (message.type() === "error" && !ofDocument) complaints.push(message.text())
  })
  page.on("pageerror", (error) => complaints.push(error.message))
  page.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure()?.errorText}`))
  page.on("dialog", (dialog) => {
    complaints.push(`a dialog, "${dialog.message()}"`)
    void dialog.dismiss()
  })
  return complaints
}

/** What axe-core finds in a page. */
export interface Audit {
  /** What is wrong, a line each. */
  readonly violations: ReadonlyArray<string>
  /** What nobody but a human could decide, a line each. */
  readonly undecided: ReadonlyArray<string>
  /** The ids of the rules that were met by something in the page. */
  readonly passed: ReadonlyArray<string>
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")

declare const axe: {
  readonly getRules: () => ReadonlyArray<RuleMetadata>
  readonly run: (options: RunOptions) => Promise<AxeResults>
}

/**
 * Holds the page against every rule of axe-core, best practices and experimental ones included, but for those of WCAG's
 * level AAA and for the one that only reminds of what is hidden. The Content-Security-Policy forbids a script element, and
 * a breach of it would be a complaint: so axe is evaluated.
 */
export const audit = Effect.fnUntraced(function* (page: Page): Effect.fn.Return<Audit> {
  yield* Effect.promise(() => page.evaluate(axeSource))
  const results = yield* Effect.promise(() =>
    page.evaluate(() => {
      const enabled = ({ ruleId, tags }: RuleMetadata) => ruleId !== "hidden-content" && !tags.includes("wcag2aaa")
      return axe.run({
        rules: Object.fromEntries(axe.getRules().map((rule) => [rule.ruleId, { enabled: enabled(rule) }]))
      })
    })
  )
  const lines = (found: AxeResults["violations"]) =>
    found.flatMap(({ help, id, nodes }) =>
      nodes.map(
        ({ all, any, html, none }) =>
          `${id}: ${help}: ${html}: ${[...any, ...all, ...none].map(({ message }) => message).join("; ")}`
      )
    )
  return {
    violations: lines(results.violations),
    undecided: lines(results.incomplete),
    passed: results.passes.map(({ id }) => id)
  }
})
