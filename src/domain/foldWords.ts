/**
 * The words of a text for search, without what readers do not type: case, accents and punctuation. Both databases index words that were
 * folded here, since each would split and compare them by rules of its own.
 */

/** The maximum length of a word, in code points. The rest of a longer word is dropped. */
const maxWordLength = 100

/**
 * The words of a text: compatibility characters are decomposed (NFKD), marks are removed, and letters are lower case. A word consists of
 * letters and digits of any script, so it contains no ASCII punctuation.
 */
export const foldWords = (text: string): ReadonlyArray<string> =>
  text
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    // letters that differ only in the other case become the same: ß and ss, ı and i, ς and σ
    .toUpperCase()
    .toLowerCase()
    .replaceAll("ς", "σ")
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== "")
    .map(truncate)

const truncate = (word: string): string =>
  word.length <= maxWordLength ? word : Array.from(word).slice(0, maxWordLength).join("")
