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
  let end = tagEnd
  switch (bytes[at]! & 7) {
    case 0:
      end = endOfVarint(bytes, tagEnd)
      break
    case 1:
      end += 8
      break
    case 2: {
      const start = endOfVarint(bytes, tagEnd)
      let length = 0
      for (let byte = start - 1; byte >= tagEnd; byte--) length = length * 128 + (bytes[byte]! & 0x7f)
      end = start + length
      break
    }
    case 5:
      end += 4
      break
    default:
      // groups, which proto3 does not have
      return undefined
  }
  return end <= bytes.length ? end : undefined
}

/** NaN beyond the end of the bytes. */
const endOfVarint = (bytes: Buffer, at: number): number => {
  let end = at
  while (end < bytes.length && bytes[end]! >= 0x80) end++
  return end < bytes.length ? end + 1 : Number.NaN
}
