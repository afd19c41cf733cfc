import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"

import { html, toText } from "../../../src/marketplace/view/Html.ts"

/** Decodes the character references that {@link html} writes. */
const unescape = (text: string): string =>
  text.replace(/&(amp|lt|gt|quot|#39);/g, (_, name: string) => characters[name] ?? "")

const characters: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" }

/** Strings with many characters of markup, which random strings rarely contain. */
const Hostile = Schema.Array(Schema.Union([Schema.String, Schema.Literals(["<", ">", "&", '"', "'", "&amp;", "</p>"])]))

describe("html", () => {
  it.prop("escapes every character of markup in a value, and loses nothing", [Hostile], ([parts]) => {
    const text = parts.join("")
    const escaped = toText(html`${text}`)
    assert.notMatch(escaped, /[<>"']|&(?!(amp|lt|gt|quot|#39);)/)
    assert.strictEqual(unescape(escaped), text)
  })

  it("escapes values in text and in attributes, but not the template", () => {
    assert.strictEqual(
      toText(html`<a title="${`"&'`}">${"<b>"} & so on</a>`),
      `<a title="&quot;&amp;&#39;">&lt;b&gt; & so on</a>`
    )
  })

  it("does not escape markup a second time", () => {
    const inner = html`<b>${"R&B"}</b>`
    assert.strictEqual(toText(html`<p>${inner}</p>`), "<p><b>R&amp;B</b></p>")
  })

  it("joins nested arrays, and escapes their strings", () => {
    assert.strictEqual(toText(html`${[html`<i>1</i>`, "<", [2, ["3"]]]}`), "<i>1</i>&lt;23")
  })

  it("renders nothing for undefined, null and false, and numbers as they are", () => {
    assert.strictEqual(toText(html`[${undefined}${null}${false}${[]}${""}]${0}${-1.5}`), "[]0-1.5")
  })

  it("does not accept a string as markup", () => {
    const markup = html`<p></p>`
    // @ts-expect-error A string is not assignable to Html.
    const string: typeof markup = "<p></p>"
    assert.notStrictEqual(markup, string)
  })
})
