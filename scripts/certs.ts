/**
 * Makes certificates to try mutual TLS with on one machine: an authority, a certificate for Recommendations and one for
 * Marketplace. Prints the settings that use them, for a shell to read:
 *
 *   eval "$(npm run --silent certs)"
 *
 * Run again, it keeps the authority, as long as it is valid, and replaces the certificates, which running services then
 * take up. The folder is the first argument (`certs`), `--days N` is how long the certificates are valid (90).
 */
import { createPrivateKey, X509Certificate } from "node:crypto"
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"

import { type Authority, day, issue, type Issued, makeAuthority } from "./certificates.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { days: { type: "string", default: "90" } }
})
const days = Number(values.days)
if (!Number.isInteger(days) || days < 1 || days > 3650) {
  console.error(`--days ${values.days}: expected a whole number from 1 to 3650`)
  process.exit(2)
}
const folder = path.resolve(positionals[0] ?? fileURLToPath(new URL("../certs", import.meta.url)))
const notAfter = new Date(Date.now() + days * day)

const certFile = (name: string) => path.join(folder, `${name}.pem`)
const keyFile = (name: string) => path.join(folder, `${name}-key.pem`)

/** Under another name first: whoever reads the file meanwhile finds the old one or the new one, never a half. */
const write = (file: string, content: string, mode: number) => {
  // the mode counts only for a file that is not there yet
  rmSync(`${file}.new`, { force: true })
  writeFileSync(`${file}.new`, content, { mode })
  renameSync(`${file}.new`, file)
}

const save = (name: string, { cert, key }: Issued) => {
  write(keyFile(name), key, 0o600)
  write(certFile(name), cert, 0o644)
}

/** The authority of an earlier run, unless it ends before what it is to sign. */
const kept = (): Authority | undefined => {
  try {
    const cert = readFileSync(certFile("ca"), "utf8")
    const key = readFileSync(keyFile("ca"), "utf8")
    const certificate = new X509Certificate(cert)
    const isFit =
      certificate.checkPrivateKey(createPrivateKey(key)) && Date.parse(certificate.validTo) >= notAfter.getTime()
    return isFit ? { cert, key, chain: "" } : undefined
  } catch {
    return undefined
  }
}

mkdirSync(folder, { recursive: true })
let authority = kept()
if (authority === undefined) {
  // a little longer than the longest certificate that may be asked for
  authority = await makeAuthority({ notAfter: new Date(Date.now() + 3660 * day) })
  save("ca", authority)
}
save(
  "recommendations",
  await issue(authority, {
    names: ["DNS:localhost", "DNS:recommendations", "IP:127.0.0.1", "IP:::1"],
    commonName: "recommendations",
    usage: "server",
    notAfter
  })
)
save(
  "marketplace",
  await issue(authority, {
    names: ["DNS:marketplace", "URI:spiffe://onlinebooks/marketplace"],
    usage: "client",
    notAfter
  })
)

const quote = (text: string) => (/^[\w./:-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`)

for (const [variable, value] of Object.entries({
  RECOMMENDATIONS_TLS_CERT_FILE: certFile("recommendations"),
  RECOMMENDATIONS_TLS_KEY_FILE: keyFile("recommendations"),
  RECOMMENDATIONS_TLS_CLIENT_CA_FILE: certFile("ca"),
  RECOMMENDATIONS_TLS_ALLOWED_CLIENTS: "marketplace",
  MARKETPLACE_TLS_CA_FILE: certFile("ca"),
  MARKETPLACE_TLS_CERT_FILE: certFile("marketplace"),
  MARKETPLACE_TLS_KEY_FILE: keyFile("marketplace")
})) {
  console.log(`export ${variable}=${quote(value)}`)
}
