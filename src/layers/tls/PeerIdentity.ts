/**
 * Who the other side of a TLS connection is, by the subjectAltNames of its certificate. The subject's common name has not
 * counted since RFC 6125.
 */

/** A name that a certificate vouches for, of the kinds that RFC 5280 (4.2.1.6) lists. */
export interface SubjectAltName {
  /** "DNS", "URI" and "IP", and what Node calls the others: "email", "DirName", "Registered ID", "othername". */
  readonly type: string
  readonly value: string
}

/**
 * The names of a certificate, either a `tls.PeerCertificate` or a `crypto.X509Certificate`. None if Node's text of them is
 * not as Node writes it, rather than names that nobody vouched for.
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
 * One name of the list that Node writes, "DNS:localhost, IP Address:127.0.0.1". A value that could be taken for more than
 * one name (CVE-2021-44532) is a JSON string there.
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

/** The names as a line of the log has them: "DNS:localhost, IP:127.0.0.1". Odd ones are quoted, and stay on the line. */
export const format = (names: ReadonlyArray<SubjectAltName>): string =>
  names.map(({ type, value }) => `${type}:${/^[\w.:/@=*+-]+$/.test(value) ? value : JSON.stringify(value)}`).join(", ")

/** A peer, as lines of the log are annotated with it; one without a certificate has no names. */
export const annotations = ({
  address,
  names
}: {
  readonly address: string
  readonly names: ReadonlyArray<SubjectAltName>
}): Record<string, string> => ({ peer: address, ...(names.length === 0 ? {} : { peerNames: format(names) }) })

/**
 * Whether one of the names is on a list of DNS names and URIs. They match as a whole: there are no wildcards, on either
 * side, and only DNS names may differ in case. Other names never match.
 */
export const isAllowed = (names: ReadonlyArray<SubjectAltName>, allowed: ReadonlySet<string>): boolean => {
  const dns = new Set<string>()
  const uris = new Set<string>()
  // a URI has a colon and a DNS name has none, so neither can pass for the other, whatever an authority has signed
  for (const entry of allowed) {
    if (entry.includes(":")) uris.add(entry)
    else dns.add(entry.toLowerCase())
  }
  return names.some(
    ({ type, value }) => (type === "DNS" && dns.has(value.toLowerCase())) || (type === "URI" && uris.has(value))
  )
}
