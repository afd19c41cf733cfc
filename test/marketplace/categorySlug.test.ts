import { assert, describe, it } from "@effect/vitest"

import { categories } from "../../src/domain/Category.ts"
import { categoryOfSlug, slugOf } from "../../src/marketplace/categorySlug.ts"

describe("categorySlug", () => {
  it.each(categories)("finds %s by its slug", (category) => {
    assert.match(slugOf(category), /^[a-z]+(-[a-z]+)*$/)
    assert.strictEqual(categoryOfSlug(slugOf(category)), category)
    assert.strictEqual(categoryOfSlug(category), category)
  })

  it("tolerates case, spaces, and slashes at both ends", () => {
    assert.strictEqual(categoryOfSlug("science-fiction"), "SCIENCE_FICTION")
    assert.strictEqual(categoryOfSlug("Science Fiction"), "SCIENCE_FICTION")
    for (const slug of ["horror ", "horror/", " /Horror/ ", "\thorror\n", "horror\u00a0", "//horror//"]) {
      assert.strictEqual(categoryOfSlug(slug), "HORROR", slug)
    }
  })

  it.each(["", "cooking", "sciencefiction", "mystery-", " ", "/", "hor/ror", "constructor", "__proto__"])(
    "finds no category for %j",
    (slug) => {
      assert.isUndefined(categoryOfSlug(slug))
    }
  )
})
