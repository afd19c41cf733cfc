/**
 * Text in messages for people, where nothing stays hidden: a byte order mark, a zero width space and a no-break space look like
 * nothing, or like something else, in most terminals and editors.
 */

/** Unicode's control, format, private, unassigned and lone surrogate characters, spaces other than " ", and what is drawn as nothing. */
const invisible = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/gu

/** The text in quotes, as JSON has it, with a code in place of each character that cannot be seen: `"\u200b1"`. */
export const quote = (text: string): string => JSON.stringify(text).replaceAll(invisible, escape)

const escape = (character: string): string => {
  const code = character.codePointAt(0)!.toString(16)
  return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, "0")}`
}
