/**
 * Debian's Chromium, controlled by Playwright: one browser for a suite of tests, with a new profile for each visit.
 */
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"

import type { AxeResults, RuleMetadata, RunOptions } from "axe-core"
import { Context, Effect, Layer, Schema, type Scope } from "effect"
import { chromium, type Page, type Response } from "playwright-core"

/** The window and colour scheme of a visit. */
export interface Look {
  /** The width of the window in CSS pixels. Up to 480 the browser emulates a phone with a touch screen. */
  readonly width: number
  readonly scheme: "light" | "dark"
}

export interface Visit {
  readonly page: Page
  /** The response for the requested address. */
  readonly response: Response
}

/** The browser is not installed or does not start. Tests that need it fail; they are not skipped. */
export class BrowserUnavailable extends Schema.TaggedError<BrowserUnavailable>()("BrowserUnavailable", {
  path: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `${this.path} does not start. Install it with: apt-get install chromium. Or set CHROMIUM_PATH.`
  }
}

const path = process.env["CHROMIUM_PATH"] ?? "/usr/bin/chromium"

export class Browser extends Context.Service<
  Browser,
  {
    /**
     * Opens an address. Until the scope closes, it collects errors on the console (which include violations of the
     * Content-Security-Policy), uncaught exceptions, failed requests and dialogs. If there are any, the test fails when the scope
     * closes.
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
        const problems = listen(page)
        yield* Effect.addFinalizer(() =>
          problems.length === 0 ? Effect.void : Effect.die(new Error(`The browser reports: ${problems.join("; ")}`))
        )
        const response = yield* Effect.promise(() => page.goto(url))
        if (response === null) return yield* Effect.die(new Error(`${url} did not load a new document`))
        return { page, response }
      })

      return Browser.of({ visit })
    })
  )
}

const listen = (page: Page): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const documents = new Set<string>()
  page.on("request", (request) => {
    if (request.isNavigationRequest()) documents.add(request.url())
  })
  page.on("console", (message) => {
    // Chromium also logs the status of a 404 page, which the test checks itself
    const ofDocument = message.text().startsWith("Failed to load resource") && documents.has(message.location().url)
    if (message.type() === "error" && !ofDocument) problems.push(message.text())
  })
  page.on("pageerror", (error) => problems.push(error.message))
  page.on("requestfailed", (request) => problems.push(`${request.url()}: ${request.failure()?.errorText}`))
  page.on("dialog", (dialog) => {
    problems.push(`a dialog, "${dialog.message()}"`)
    void dialog.dismiss()
  })
  return problems
}

/** The findings of axe-core for a page. */
export interface Audit {
  /** One line for each violation. */
  readonly violations: ReadonlyArray<string>
  /** One line for each finding that axe-core could not decide. */
  readonly undecided: ReadonlyArray<string>
  /** The ids of the rules that at least one element passed. */
  readonly passed: ReadonlyArray<string>
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")

declare const axe: {
  readonly getRules: () => ReadonlyArray<RuleMetadata>
  readonly run: (options: RunOptions) => Promise<AxeResults>
}

/**
 * Checks the page with every rule of axe-core, including best practices and experimental ones, except WCAG's level AAA and the rule
 * that only lists hidden content. The Content-Security-Policy forbids a script element, so axe-core is evaluated in the page.
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
