/**
 * HTML templates that escape their values, so that data cannot become markup.
 */

/**
 * Markup. It is a class with a private field, so that a string is not assignable to it. The class is not exported, so that
 * {@link html} is the only way to create one.
 */
class Markup {
  readonly #text: string
  constructor(text: string) {
    this.#text = text
  }
  toString(): string {
    return this.#text
  }
}

export type { Markup as Html }

/** A value in a template. undefined, null and false render nothing. */
export type Value = Markup | string | number | false | null | undefined | ReadonlyArray<Value>

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" }

const toMarkup = (value: Value): string => {
  if (typeof value === "string") return escape(value)
  if (value instanceof Markup) return value.toString()
  if (value === undefined || value === null || value === false) return ""
  if (typeof value === "object") {
    let text = ""
    for (const item of value) text += toMarkup(item)
    return text
  }
  return String(value)
}

const escape = (text: string): string =>
  // fast path: most texts need no escaping
  /[&<>"']/.test(text) ? text.replace(/[&<>"']/g, (character) => entities[character] ?? "") : text

/** Creates markup from a template. Values are escaped; they may stand in text and in quoted attributes. */
export const html = (pieces: TemplateStringsArray, ...values: ReadonlyArray<Value>): Markup => {
  let text = pieces[0]!
  for (let at = 0; at < values.length; at++) text += toMarkup(values[at]) + pieces[at + 1]!
  return new Markup(text)
}
