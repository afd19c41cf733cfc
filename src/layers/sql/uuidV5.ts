/**
 * UUIDs of names (RFC 9562, section 5.5): the same name always has the same UUID.
 */
import { hash } from "node:crypto"

/** The UUID of a name in a namespace, which is a UUID too; in lower case. */
export const uuidV5 = (namespace: string, name: string): string => {
  const bytes = Buffer.concat([Buffer.from(namespace.replaceAll("-", ""), "hex"), Buffer.from(name)])
  const digest = hash("sha1", bytes, "buffer").subarray(0, 16)
  digest[6] = (digest[6]! & 0x0f) | 0x50
  digest[8] = (digest[8]! & 0x3f) | 0x80
  const hex = digest.toString("hex")
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-")
}
