/**
 * Pages of a list (https://google.aip.dev/158). The token with which a client asks for the next page is opaque. It is the position of the
 * last item in the order of the list, so that a page neither repeats nor skips items when others are added or removed.
 */
import { Option, Result } from "effect"
import { Base64Url } from "effect/encoding"

import type { Violation } from "./InvalidQuery.ts"

/** A query for a page, as it was received. */
export interface PageQuery {
  /** The maximum number of items, which is capped; undefined means the default of the list, negative numbers are invalid. */
  readonly pageSize: number | undefined
  /** The token from the previous page; empty for the first page. */
  readonly pageToken: string
}

/** The number of items in a page of a list. */
export interface PageSizes {
  readonly default: number
  readonly maximum: number
}

/** The tokens of a list. */
export interface TokenFormat {
  /** A word without colons. Each list has its own, since the token of another list is refused. */
  readonly kind: string
  /** The maximum of each number of a position, at most 2^53 - 1. */
  readonly maxima: ReadonlyArray<number>
}

/** A valid query for a page. */
export interface PageRequest {
  /** 1 or more. */
  readonly size: number
  /** The position of the last item of the previous page. */
  readonly after: ReadonlyArray<number> | undefined
}

/** The valid form of a query; problems are added to `violations`. */
export const fromQuery = (
  { pageSize, pageToken }: PageQuery,
  sizes: PageSizes,
  tokens: TokenFormat,
  violations: Array<Violation>
): PageRequest => {
  if (pageSize !== undefined && pageSize < 1) {
    violations.push({ field: "pageSize", description: "expected 0 (the default) or above" })
  }
  const after = pageToken === "" ? Option.none() : decodeToken(tokens, pageToken)
  if (pageToken !== "" && Option.isNone(after)) {
    violations.push({ field: "pageToken", description: "expected the next_page_token of a page of the same list" })
  }
  return { size: Math.min(pageSize ?? sizes.default, sizes.maximum), after: Option.getOrUndefined(after) }
}

/** The token of a position: whole numbers from 0 to their maxima. */
export const encodeToken = ({ kind }: TokenFormat, position: ReadonlyArray<number>): string =>
  Base64Url.encode([kind, ...position].join(":"))

/** The position of a token. None if the token was not made by {@link encodeToken} with that format. */
export const decodeToken = (format: TokenFormat, token: string): Option.Option<ReadonlyArray<number>> => {
  const text = Result.getOrElse(Base64Url.decodeString(token), () => "")
  const position = text.split(":").slice(1).map(Number)
  const isValid =
    position.length === format.maxima.length &&
    position.every((value, index) => Number.isInteger(value) && value >= 0 && value <= format.maxima[index]!)
  // finds another kind, other spellings of numbers, and characters that the decoder ignores
  return isValid && encodeToken(format, position) === token ? Option.some(position) : Option.none()
}
