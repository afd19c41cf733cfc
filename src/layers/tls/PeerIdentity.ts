/**
 * The identity of a TLS peer: the subjectAltNames of its certificate. The common name is ignored (RFC 6125, section 6.4.4).
 */

/** A name in a certificate (RFC 5280, section 4.2.1.6). */
export interface SubjectAltName {
  /** "DNS", "URI" or "IP", or one of Node's words for the others: "email", "DirName", "Registered ID", "othername". */
  readonly type: string
  readonly value: string
}

/**
 * The names in a `tls.PeerCertificate` or a `crypto.X509Certificate`. Returns none if the text does not match Node's format, so that a
 * misread text cannot yield a name that is not in the certificate.
 */
export const subjectAltNames = (
  certificate: { readonly subjectaltname?: string | undefined } | { readonly subjectAltName?: string | undefined }
): ReadonlyArray<SubjectAltName> => {
  const text =
    "subjectAltName" in certificate
      ? certificate.subjectAltName
      : "subjectaltname" in certificate
        ? certificate.subjectaltname
        : undefined
  return text === undefined ? [] : parse(text)
}

/**
 * One name in Node's format, "DNS:localhost, IP Address:127.0.0.1". Node writes values that could be read as several names as JSON
 * strings (CVE-2021-44532).
 */
const name =
  /(?<type>[^:,"]+):(?:(?<quoted>"(?:[^"\\\p{Cc}]|\\(?:["\\/bfnrt]|u[\da-f]{4}))*")|(?<plain>[^,"]*))(?:, |$)/iuy

const parse = (text: string): ReadonlyArray<SubjectAltName> => {
  const names: Array<SubjectAltName> = []
  name.lastIndex = 0
  while (name.lastIndex < text.length) {
    const groups = name.exec(text)?.groups
    if (groups === undefined) return []
    const { plain = "", quoted, type = "" } = groups
    names.push({
      type: type === "IP Address" ? "IP" : type,
      value: quoted === undefined ? plain : (JSON.parse(quoted) as string)
    })
  }
  return names
}

/** Formats names in one line for the log: "DNS:localhost, IP:127.0.0.1". Values with other characters become JSON strings. */
export const format = (names: ReadonlyArray<SubjectAltName>): string =>
  names.map(({ type, value }) => `${type}:${/^[\w.:/@=*+-]+$/.test(value) ? value : JSON.stringify(value)}`).join(", ")

/** Log annotations of a peer: `peer`, and `peerNames` if its certificate has names. */
export const annotations = ({
  address,
  names
}: {
  readonly address: string
  readonly names: ReadonlyArray<SubjectAltName>
}): Record<string, string> => ({ peer: address, ...(names.length === 0 ? {} : { peerNames: format(names) }) })

/**
 * Whether one of the names is in a set of DNS names and URIs. Names match as a whole, without wildcards; DNS names are compared without
 * case. Names of other types never match.
 */
export const isAllowed = (names: ReadonlyArray<SubjectAltName>, allowed: ReadonlySet<string>): boolean => {
  const dns = new Set<string>()
  const uris = new Set<string>()
  // a URI contains a colon and a DNS name does not, so an entry of one type cannot match a name of the other
  for (const entry of allowed) {
    if (entry.includes(":")) uris.add(entry)
    else dns.add(entry.toLowerCase())
  }
  return names.some(
    ({ type, value }) => (type === "DNS" && dns.has(value.toLowerCase())) || (type === "URI" && uris.has(value))
  )
}
