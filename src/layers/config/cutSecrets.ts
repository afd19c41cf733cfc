/**
 * Keeps secrets of arguments out of messages.
 */

/** Where a secret may begin: the address of a URL, or a password. */
const secret = /((?:[a-z][a-z\d+.-]*:\/\/|passw(?:or)?d["']?\s*[=:])).+$/is

/** A text up to the first URL or password in it, since where that ends is unknown: a password may contain any character. */
export const cutSecrets = (text: string): string => text.replace(secret, "$1<redacted>")
