/**
 * Limits how much of a protobuf message is decoded. A small message can decode into a large number of objects, such as empty elements of
 * two bytes each. A caller that has requested a number of elements needs to decode no more of them.
 */

/** How much of a response is decoded; the rest is dropped. */
export interface ResponseLimit {
  /** Fields of the message itself; each element of a repeated field counts as one. */
  readonly maxFields: number
  /** The size of one such field with its content, in bytes. A larger one is dropped. */
  readonly maxFieldSize: number
}

/** A tag of a wire type that does not exist (7): no decoder accepts it. */
const invalidTag = Buffer.from([0x07])

/**
 * Returns the message without the fields that exceed a limit. A malformed field or a group is replaced by an invalid tag that ends the
 * message, so that the decoder fails there and never decodes the unchecked rest.
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

/** The end of the field that starts at an offset; undefined if the field is malformed or a group. */
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

/** NaN beyond the end of the bytes. */
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
