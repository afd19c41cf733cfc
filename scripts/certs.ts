/**
 * Makes certificates for mutual TLS on one machine: a CA, a certificate for Recommendations and one for Marketplace. Prints the
 * settings that use them, for a shell:
 *
 *   eval "$(npm run --silent certs)"
 *
 * Run again, it keeps a valid CA and replaces the certificates, which running services then reload. The folder is the first argument
 * (`certs` by default), `--days N` the validity of the certificates (90 by default).
 *
 * Only the owner can enter the folder, which protects the keys. The keys of the two services are readable for all within it, because
 * Docker Compose mounts files with their owner and mode (docker/compose#9648), and the services run as another user. The key of the CA
 * is only readable for this script.
 */
import { createPrivateKey, X509Certificate } from "node:crypto"
import {
  accessSync,
  chmodSync,
  constants,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync
} from "node:fs"
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

/** Writes under another name first, so that a concurrent reader gets the old file or the new one, but no partial one. */
const write = (file: string, content: string, mode: number) => {
  // the mode is only used for a new file
  rmSync(`${file}.new`, { force: true })
  writeFileSync(`${file}.new`, content, { mode: 0o600 })
  // independent of the umask
  chmodSync(`${file}.new`, mode)
  renameSync(`${file}.new`, file)
}

const save = (name: string, { cert, key }: Issued, keyMode: number) => {
  write(keyFile(name), key, keyMode)
  write(certFile(name), cert, 0o644)
}

/**
 * Makes the folder, or closes an existing one to other users, and returns whether it is closed. A folder with other files keeps its
 * mode.
 */
const closeFolder = (): boolean => {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch {
    console.error(`${folder}: not writable for this user; make the certificates as its owner, or remove it`)
    process.exit(1)
  }
  const own = new Set(["ca", "recommendations", "marketplace"].flatMap((name) => [certFile(name), keyFile(name)]))
  const isOnlyForThis = readdirSync(folder)
    // hidden files of file managers
    .filter((name) => !name.startsWith("."))
    .every((name) => own.has(path.join(folder, name.replace(/\.new$/, ""))))
  if (isOnlyForThis) {
    try {
      chmodSync(folder, 0o700)
    } catch {
      // it belongs to another user
    }
  }
  return (statSync(folder).mode & 0o077) === 0
}

/** The CA of an earlier run, unless it expires before the certificates that it would sign. */
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

const isClosed = closeFolder()
if (!isClosed) {
  console.error(
    `${folder} is accessible to other users, so the keys are readable for this user only, and not for containers`
  )
}
const serviceKeyMode = isClosed ? 0o644 : 0o600
let authority = kept()
if (authority === undefined) {
  // longer than the longest validity of a certificate
  authority = await makeAuthority({ notAfter: new Date(Date.now() + 3660 * day) })
  save("ca", authority, 0o600)
}
save(
  "recommendations",
  await issue(authority, {
    names: ["DNS:localhost", "DNS:recommendations", "IP:127.0.0.1", "IP:::1"],
    commonName: "recommendations",
    usage: "server",
    notAfter
  }),
  serviceKeyMode
)
save(
  "marketplace",
  await issue(authority, {
    names: ["DNS:marketplace", "URI:spiffe://onlinebooks/marketplace"],
    usage: "client",
    notAfter
  }),
  serviceKeyMode
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
