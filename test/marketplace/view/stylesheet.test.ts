import { assert, describe, it } from "@effect/vitest"

import { css } from "../../../src/marketplace/view/stylesheet.ts"

describe("the stylesheet", () => {
  it("is smaller than 8 KB, and loads nothing", () => {
    assert.isBelow(Buffer.byteLength(css), 8000)
    assert.notMatch(css, /url\(|@import|@font-face|transition|animation/)
  })

  it("uses logical properties only", () => {
    assert.notMatch(
      css,
      /\b(margin|padding|border)-(left|right|top|bottom)\b|[\s;{](left|right|top|bottom|width|height):/
    )
  })

  const hex = "(#[0-9a-f]{6})"

  it("has a text contrast of at least 4.5 in light and dark mode (WCAG 2.2, 1.4.3)", () => {
    const themes = Array.from(
      css.matchAll(new RegExp(`--paper: ${hex}; --ink: ${hex}; --quiet: ${hex}; --line: ${hex}; --accent: ${hex}`, "g"))
    )
    assert.lengthOf(themes, 2)
    for (const [, paper = "", ink = "", quiet = "", , accent = ""] of themes) {
      for (const colour of [ink, quiet, accent]) assert.isAtLeast(contrast(paper, colour), 4.5, colour)
    }
  })

  it("has a contrast of at least 4.5 on covers, dimmed or not", () => {
    const dimming = Number(/brightness\(([.\d]+)\)/.exec(css)?.[1])
    const palettes = Array.from(css.matchAll(new RegExp(`(palette-\\d+) { --cloth: ${hex}; --foil: ${hex}`, "g")))
    assert.lengthOf(palettes, 11)
    for (const [, name, cloth = "", foil = ""] of palettes) {
      assert.isAtLeast(contrast(cloth, foil), 4.5, name)
      assert.isAtLeast(contrast(cloth, foil, dimming), 4.5, `${name}, dimmed`)
    }
  })
})

/** The ratio of WCAG 2.2, for colours as #rrggbb. */
const contrast = (one: string, other: string, brightness = 1): number => {
  const luminance = (colour: string) =>
    [0.2126, 0.7152, 0.0722].reduce((sum, weight, index) => {
      const channel = (parseInt(colour.slice(1 + index * 2, 3 + index * 2), 16) / 255) * brightness
      return sum + weight * (channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4)
    }, 0)
  const [light = 0, dark = 0] = [luminance(one), luminance(other)].toSorted((a, b) => b - a)
  return (light + 0.05) / (dark + 0.05)
}
