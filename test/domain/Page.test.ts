import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Option, Schema } from "effect"
import { Base64Url } from "effect/encoding"

import type { Violation } from "../../src/domain/InvalidQuery.ts"
import * as Page from "../../src/domain/Page.ts"

const Position = Schema.Array(
  Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))
).check(Schema.isMaxLength(3))

/** The format of tokens with `length` numbers. */
const format = (kind: string, length = 1): Page.TokenFormat => ({
  kind,
  maxima: Array.from({ length }, () => Number.MAX_SAFE_INTEGER)
})

describe("a page token", () => {
  it.effect.prop("has the position that was encoded", [Position], ([position]) =>
    Effect.sync(() => {
      const token = Page.encodeToken(format("books"), position)
      assert.match(token, /^[\w-]+$/)
      assert.deepStrictEqual(Page.decodeToken(format("books", position.length), token), Option.some(position))
      assert.isTrue(Option.isNone(Page.decodeToken(format("feedback", position.length), token)))
      assert.isTrue(Option.isNone(Page.decodeToken(format("books", position.length + 1), token)))
    })
  )

  it.effect.prop("is not any other text", [Arbitrary.schema(Schema.String)], ([text]) =>
    Effect.sync(() => assert.isTrue(Option.isNone(Page.decodeToken(format("books"), text))))
  )

  it.each([
    "books:",
    "books:-1",
    "books:1.5",
    "books:01",
    "books:1e3",
    "books:9007199254740993",
    "books: 1",
    "books:1:2",
    "books",
    ""
  ])("is not %j", (text) => {
    assert.isTrue(Option.isNone(Page.decodeToken(format("books"), Base64Url.encode(text))))
  })

  it("is not a position above the maximum", () => {
    const token = Page.encodeToken(format("books"), [8])
    assert.isTrue(Option.isNone(Page.decodeToken({ kind: "books", maxima: [7] }, token)))
    assert.isTrue(Option.isSome(Page.decodeToken({ kind: "books", maxima: [8] }, token)))
  })

  it("has one spelling", () => {
    const token = Page.encodeToken(format("books"), [7])
    for (const other of [`${token}=`, `${token}==`, ` ${token}`, `${token}\n`, token.toLowerCase()]) {
      assert.isTrue(Option.isNone(Page.decodeToken(format("books"), other)), other)
    }
  })
})

describe("fromQuery", () => {
  const fromQuery = (query: Page.PageQuery) => {
    const violations: Array<Violation> = []
    const request = Page.fromQuery(query, { default: 20, maximum: 100 }, format("books"), violations)
    return { request, fields: violations.map(({ field }) => field) }
  }

  it.each([
    [undefined, 20],
    [1, 1],
    [100, 100],
    [101, 100],
    [2_147_483_647, 100]
  ])("takes the page size %s as %s", (pageSize, size) => {
    assert.deepStrictEqual(fromQuery({ pageSize, pageToken: "" }), { request: { size, after: undefined }, fields: [] })
  })

  it("takes the position from the token", () => {
    const { fields, request } = fromQuery({ pageSize: 1, pageToken: Page.encodeToken(format("books"), [7]) })
    assert.deepStrictEqual([request, fields], [{ size: 1, after: [7] }, []])
  })

  it("reports every bad field", () => {
    assert.deepStrictEqual(fromQuery({ pageSize: -1, pageToken: "x" }).fields, ["pageSize", "pageToken"])
  })
})
