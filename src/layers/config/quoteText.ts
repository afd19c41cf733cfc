/**
 * Quotes text for messages. Characters that most terminals and editors do not show, such as a byte order mark or a zero width space,
 * are escaped, so that the reader sees them.
 */

/** Control, format, private use, unassigned, surrogate and default-ignorable characters, and spaces other than U+0020. */
const invisible = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/gu

/** The text as a JSON string in which each invisible character is an escape sequence, such as `"\u200b1"`. */
export const quoteText = (text: string): string => JSON.stringify(text).replaceAll(invisible, escape)

const escape = (character: string): string => {
  const code = character.codePointAt(0)!.toString(16)
  return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, "0")}`
}
