import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"

import { html } from "../../../src/marketplace/view/Html.ts"

/** As a browser reads text back, for the characters that markup is made of. */
const unescape = (text: string): string =>
  text.replace(/&(amp|lt|gt|quot|#39);/g, (_, name: string) => characters[name] ?? "")

const characters: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" }

/** Strings with many of the characters that matter, which chance alone would seldom pick. */
const Hostile = Schema.Array(Schema.Union([Schema.String, Schema.Literals(["<", ">", "&", '"', "'", "&amp;", "</p>"])]))

describe("html", () => {
  it.prop("leaves no character of markup in what is put into it, and loses nothing of it", [Hostile], ([parts]) => {
    const text = parts.join("")
    const escaped = html`${text}`.toString()
    assert.notMatch(escaped, /[<>"']|&(?!(amp|lt|gt|quot|#39);)/)
    assert.strictEqual(unescape(escaped), text)
  })

  it("escapes what is put into text and into attributes, not its own text", () => {
    assert.strictEqual(
      html`<a title="${`"&'`}">${"<b>"} & so on</a>`.toString(),
      `<a title="&quot;&amp;&#39;">&lt;b&gt; & so on</a>`
    )
  })

  it("does not escape markup a second time", () => {
    const inner = html`<b>${"R&B"}</b>`
    assert.strictEqual(html`<p>${inner}</p>`.toString(), "<p><b>R&amp;B</b></p>")
  })

  it("joins arrays, however deep, and escapes their strings", () => {
    assert.strictEqual(html`${[html`<i>1</i>`, "<", [2, ["3"]]]}`.toString(), "<i>1</i>&lt;23")
  })

  it("renders nothing for undefined, null and false, and numbers as they are", () => {
    assert.strictEqual(html`[${undefined}${null}${false}${[]}${""}]${0}${-1.5}`.toString(), "[]0-1.5")
  })

  it("takes a string for text only, never for markup", () => {
    const markup = html`<p></p>`
    // @ts-expect-error A string is no Html, or what is not escaped could pass for it.
    const string: typeof markup = "<p></p>"
    assert.notStrictEqual(markup, string)
  })
})
