import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"

import { foldWords } from "../../src/domain/foldWords.ts"

const Text = Arbitrary.map(
  Arbitrary.schema(
    Schema.Array(
      Schema.Union([
        Schema.String,
        Schema.Literals(["é", "é", "İ", "ﬁ", "ﷺ", "Ⅷ", "a\u0327", "'", '"', "*", " ", "\u00a0", "\u0000", "字", "क्षि"])
      ])
    )
  ),
  (parts) => parts.join("")
)

describe("foldWords", () => {
  it.each([
    ["The Maltese Falcon", ["the", "maltese", "falcon"]],
    ["Les Misérables", ["les", "miserables"]],
    ["Les Mise\u0301rables", ["les", "miserables"]],
    ["The Hitchhiker's Guide, 42!", ["the", "hitchhiker", "s", "guide", "42"]],
    ["İSTANBUL ﬁn Ⅷ", ["istanbul", "fin", "viii"]],
    ["Война и мир — 戦争と平和", ["воина", "и", "мир", "戦争と平和"]],
    ["ΟΔΥΣ Straße STRASSE Kırmızı KIRMIZI", ["οδυσ", "strasse", "strasse", "kirmizi", "kirmizi"]],
    ['"* 😀 \u0000 ’', []],
    ["", []]
  ])("folds %j", (text, words) => {
    assert.deepStrictEqual(foldWords(text), words)
  })

  it("truncates words to 100 code points", () => {
    assert.deepStrictEqual(foldWords(`${"a".repeat(101)} ${"𝔞".repeat(50)}${"\u{20000}".repeat(60)}`), [
      "a".repeat(100),
      "a".repeat(50) + "\u{20000}".repeat(50)
    ])
  })

  it.effect.prop("gives the same words for any case, for any normal form, and again for the words", [Text], ([text]) =>
    Effect.sync(() => {
      const words = foldWords(text)
      assert.deepStrictEqual(foldWords(words.join(" ")), words)
      for (const form of ["NFC", "NFD", "NFKC", "NFKD"]) assert.deepStrictEqual(foldWords(text.normalize(form)), words)
    })
  )

  it.effect.prop("gives words without ASCII punctuation and white space", [Text], ([text]) =>
    Effect.sync(() => {
      for (const word of foldWords(text)) assert.match(word, /^[\p{L}\p{N}]{1,100}$/u)
    })
  )
})
