/**
 * Cuts a protobuf message before it is decoded. A message of few bytes can become very many objects: 256 kB of empty elements are
 * 131,000 of them. Where it is known how many were asked for, no more are decoded.
 */

/** What is decoded of a response; the rest is left out. */
export interface ResponseLimit {
  /** Fields of the message itself, each element of a repeated field counting as one. */
  readonly maxFields: number
  /** Bytes of one such field, with what it contains. A larger one is left out. */
  readonly maxFieldSize: number
}

/** A tag of a wire type that does not exist (7): no decoder accepts it. */
const invalidTag = Buffer.from([0x07])

/**
 * The message without the fields that are over a limit. A message that is not well-formed, or has groups, ends with an invalid tag
 * where that begins, so that the decoder fails there and never decodes the rest, which nothing has bounded.
 */
export const apply = (bytes: Buffer, { maxFields, maxFieldSize }: ResponseLimit): Buffer => {
  const kept: Array<Buffer> = []
  let at = 0
  let start = 0
  for (let count = 0; at < bytes.length; count++) {
    const end = count < maxFields ? endOfField(bytes, at) : at
    if (end === undefined) return Buffer.concat([...kept, bytes.subarray(start, at), invalidTag])
    const isOver = count >= maxFields
    if (!isOver && end - at <= maxFieldSize) {
      at = end
      continue
    }
    if (at > start) kept.push(bytes.subarray(start, at))
    if (isOver) return kept.length === 1 ? kept[0]! : Buffer.concat(kept)
    at = end
    start = end
  }
  if (start === 0) return bytes
  if (at > start) kept.push(bytes.subarray(start, at))
  return Buffer.concat(kept)
}

/** Where the field that begins there ends; undefined if it is not well-formed, or a group. */
const endOfField = (bytes: Buffer, at: number): number | undefined => {
  const tagEnd = endOfVarint(bytes, at)
  switch (bytes[at]! & 7) {
    case 0:
      return within(bytes, endOfVarint(bytes, tagEnd))
    case 1:
      return within(bytes, tagEnd + 8)
    case 2: {
      const end = endOfVarint(bytes, tagEnd)
      return within(bytes, end + lengthAt(bytes, tagEnd, end))
    }
    case 5:
      return within(bytes, tagEnd + 4)
    default:
      // groups, which proto3 does not have
      return undefined
  }
}

const within = (bytes: Buffer, end: number) => (end <= bytes.length ? end : undefined)

/** NaN past the end of the bytes. */
const endOfVarint = (bytes: Buffer, at: number): number => {
  let end = at
  while (end < bytes.length && bytes[end]! >= 0x80) end++
  return end < bytes.length ? end + 1 : Number.NaN
}

const lengthAt = (bytes: Buffer, start: number, end: number): number => {
  let length = 0
  for (let at = end - 1; at >= start; at--) length = length * 128 + (bytes[at]! & 0x7f)
  return length
}
