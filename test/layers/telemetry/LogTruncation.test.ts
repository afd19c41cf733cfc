import { assert, describe, it } from "@effect/vitest"

import * as LogTruncation from "../../../src/layers/telemetry/LogTruncation.ts"

describe("text", () => {
  it.each([
    { value: "", limit: 3, truncated: "" },
    { value: "abc", limit: 3, truncated: "abc" },
    { value: "abcd", limit: 3, truncated: "abc... (truncated, 1 more characters)" },
    // never splits a surrogate pair
    { value: "ab😀c", limit: 3, truncated: "ab... (truncated, 3 more characters)" },
    { value: "a😀bc", limit: 3, truncated: "a😀... (truncated, 2 more characters)" }
  ])("truncates $value to $limit characters", ({ truncated, limit, value }) => {
    assert.strictEqual(LogTruncation.text(value, limit), truncated)
  })
})

describe("field", () => {
  it("keeps a value whose JSON is short, and truncates the JSON of others", () => {
    const short = { a: [1, 2] }
    assert.strictEqual(LogTruncation.field(short, 100), short)
    assert.strictEqual(LogTruncation.field(7, 1), 7)
    assert.strictEqual(LogTruncation.field(undefined, 1), undefined)
    assert.strictEqual(LogTruncation.field({ a: "x".repeat(20) }, 10), '{"a":"xxxx... (truncated, 18 more characters)')
  })
})

describe("json", () => {
  const line = (parts: Partial<LogTruncation.Line>): LogTruncation.Line => ({
    message: "said",
    level: "INFO",
    timestamp: "2026-01-01T00:00:00.000Z",
    cause: undefined,
    annotations: {},
    spans: {},
    fiberId: "#1",
    ...parts
  })
  const truncated = (parts: Partial<LogTruncation.Line>): LogTruncation.Line => {
    const json = LogTruncation.json(line(parts))
    assert.isBelow(Buffer.byteLength(json), LogTruncation.maxLine)
    return JSON.parse(json) as LogTruncation.Line
  }

  it("truncates a long cause", () => {
    const { cause, message } = truncated({ cause: "at x".repeat(5_000) })
    assert.strictEqual(message, "said")
    assert.match(cause!, /^at xat x.*\.\.\. \(truncated, \d+ more characters\)$/)
  })

  it("truncates the name of a field", () => {
    const [[name, value] = []] = Object.entries(truncated({ annotations: { ["k".repeat(20_000)]: 1 } }).annotations)
    assert.match(name!, /^k+\.\.\. \(truncated, \d+ more characters\)$/)
    assert.strictEqual(value, 1)
  })

  it("limits bytes and not characters", () => {
    const fields = Object.fromEntries(Array.from({ length: 5 }, (_, index) => [`field${index}`, "\u20ac".repeat(990)]))
    const { annotations } = truncated({ annotations: fields })
    assert.deepStrictEqual(Object.keys(annotations), Object.keys(fields))
  })

  it("keeps only the message of a line with too many fields", () => {
    const fields = Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`field${index}`, index]))
    const { annotations, message } = truncated({ annotations: fields })
    assert.include(String(message), "said")
    assert.deepStrictEqual(annotations, { truncated: "the line had too many fields" })
  })
})
