/**
 * Reads DER (ITU-T X.690), as far as needed for X.509 fields that node:crypto does not expose.
 */

/** A value: its tag, its content, and all its bytes including tag and length. */
export interface Value {
  readonly tag: number
  readonly content: Buffer
  readonly bytes: Buffer
}

/** The tags used in certificates and revocation lists. */
export const tags = {
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30
} as const

/** Reads the value at the start of a buffer. Throws a RangeError if it is malformed or truncated. */
export const read = (bytes: Buffer): Value => {
  const tag = bytes.readUInt8(0)
  const first = bytes.readUInt8(1)
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f
  if (first === 0x80 || lengthBytes > 4) throw new RangeError("invalid DER length")
  const start = 2 + lengthBytes
  const length = lengthBytes === 0 ? first : bytes.readUIntBE(2, lengthBytes)
  if (start + length > bytes.length) throw new RangeError("truncated DER value")
  return { tag, content: bytes.subarray(start, start + length), bytes: bytes.subarray(0, start + length) }
}

/** The values inside a constructed value, such as a SEQUENCE. */
export const children = ({ content }: Value): ReadonlyArray<Value> => {
  const values: Array<Value> = []
  for (let rest = content; rest.length > 0;) {
    const value = read(rest)
    values.push(value)
    rest = rest.subarray(value.bytes.length)
  }
  return values
}

/** Whether a value is a UTCTime or a GeneralizedTime. */
export const isTime = ({ tag }: Value): boolean => tag === tags.utcTime || tag === tags.generalizedTime

/** A UTCTime or GeneralizedTime in the form of RFC 5280 (section 4.1.2.5), in milliseconds since 1970. */
export const time = ({ content, tag }: Value): number => {
  const text = content.toString("latin1")
  const [, year = "", month, day, hour, minute, second] =
    /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text) ?? []
  if (year.length !== (tag === tags.utcTime ? 2 : 4)) throw new RangeError(`invalid DER time: ${text}`)
  const full = year.length === 4 ? year : `${Number(year) < 50 ? "20" : "19"}${year}`
  return Date.parse(`${full}-${month}-${day}T${hour}:${minute}:${second}Z`)
}

/** An OBJECT IDENTIFIER, such as "2.5.29.15". */
export const oid = ({ content }: Value): string => {
  const arcs: Array<number> = []
  let arc = 0
  for (const byte of content) {
    arc = arc * 128 + (byte & 0x7f)
    if (byte >= 0x80) continue
    if (arcs.length === 0) {
      const first = Math.min(Math.floor(arc / 40), 2)
      arcs.push(first, arc - first * 40)
    } else arcs.push(arc)
    arc = 0
  }
  return arcs.join(".")
}
