/**
 * HTML that cannot be broken by what is put into it.
 */

/**
 * Holds markup. Its private field is what keeps a plain string from passing for it, and since the class itself is not
 * exported, {@link html} is the only way to make one.
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

/** What {@link html} takes between its pieces: undefined, null and false leave nothing behind. */
export type Value = Markup | string | number | false | null | undefined | ReadonlyArray<Value>

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" }

const toMarkup = (value: Value): string => {
  if (typeof value === "string") return escape(value)
  if (value instanceof Markup) return value.toString()
  if (value === undefined || value === null || value === false) return ""
  if (typeof value === "object") {
    let all = ""
    for (const one of value) all += toMarkup(one)
    return all
  }
  return String(value)
}

/** Most of what is put into a page has nothing to escape. */
const escape = (text: string): string =>
  /[&<>"']/.test(text) ? text.replace(/[&<>"']/g, (character) => entities[character] ?? "") : text

/** Markup from a template: its own text stands as it is, what is put into it is escaped, for text and quoted attributes. */
export const html = (pieces: TemplateStringsArray, ...values: ReadonlyArray<Value>): Markup => {
  let text = pieces[0]!
  for (let at = 0; at < values.length; at++) text += toMarkup(values[at]) + pieces[at + 1]!
  return new Markup(text)
}
