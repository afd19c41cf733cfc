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
  /** The fields before `start` that are within the limits. */
  const kept: Array<Buffer> = []
  let start = 0
  let at = 0
  for (let count = 0; count < maxFields && at < bytes.length; count++) {
    const end = endOfField(bytes, at)
    // not `end > bytes.length`, which is false for NaN
    if (!(end <= bytes.length)) return Buffer.concat([...kept, bytes.subarray(start, at), invalidTag])
    if (end - at > maxFieldSize) {
      kept.push(bytes.subarray(start, at))
      start = end
    }
    at = end
  }
  if (kept.length > 0) return Buffer.concat([...kept, bytes.subarray(start, at)])
  return at === bytes.length ? bytes : bytes.subarray(0, at)
}

/** The end of the field that starts at an offset: beyond the end of the bytes if the field is malformed, NaN if it is a group. */
const endOfField = (bytes: Buffer, start: number): number => {
  let at = start
  while (bytes[at]! >= 0x80) at++
  at++
  switch (bytes[start]! & 7) {
    case 0:
      while (bytes[at]! >= 0x80) at++
      return at + 1
    case 1:
      return at + 8
    case 2: {
      let length = 0
      let unit = 1
      for (; bytes[at]! >= 0x80; at++, unit *= 128) length += (bytes[at]! & 0x7f) * unit
      return at + 1 + length + bytes[at]! * unit
    }
    case 5:
      return at + 4
    default:
      // groups, which proto3 does not have
      return Number.NaN
  }
}
