/**
 * HTML templates that escape their values, so that data cannot become markup.
 */

/** The key of the text of {@link Html}. It is not exported, so that {@link html} is the only way to create markup. */
const text = Symbol("text")

/** Markup. A string is not assignable to it. */
export interface Html {
  readonly [text]: string
}

/** A value in a template. undefined, null and false render nothing. */
export type Value = Html | string | number | false | null | undefined | ReadonlyArray<Value>

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" }

/** The text of a value: of markup as it is, of anything else escaped. */
export const toText = (value: Value): string => {
  if (typeof value === "string") {
    // fast path: most texts need no escaping
    return /[&<>"']/.test(value) ? value.replace(/[&<>"']/g, (character) => entities[character] ?? "") : value
  }
  if (value === undefined || value === null || value === false) return ""
  if (typeof value === "number") return String(value)
  if (text in value) return value[text]
  let items = ""
  for (const item of value) items += toText(item)
  return items
}

/** Creates markup from a template. Values are escaped; they may stand in text and in quoted attributes. */
export const html = (pieces: TemplateStringsArray, ...values: ReadonlyArray<Value>): Html => {
  let markup = pieces[0]!
  for (let at = 0; at < values.length; at++) markup += toText(values[at]) + pieces[at + 1]!
  return { [text]: markup }
}
