/**
 * Makes certificates to try mutual TLS with on one machine: an authority, a certificate for Recommendations and one for
 * Marketplace. Prints the settings that use them, for a shell to read:
 *
 *   eval "$(npm run --silent certs)"
 *
 * Run again, it keeps the authority, as long as it is valid, and replaces the certificates, which running services then
 * take up. The folder is the first argument (`certs`), `--days N` is how long the certificates are valid (90).
 *
 * What keeps the keys from other users of the machine is the folder, which only its owner can enter. Within it anybody could
 * read the keys of the two services: Docker Compose shows a container the file as it is here, with its owner and mode
 * (docker/compose#9648), and the services run there as a user who is not the one who made it. The authority's key is for
 * nobody but this script.
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

/** Under another name first: whoever reads the file meanwhile finds the old one or the new one, never a half. */
const write = (file: string, content: string, mode: number) => {
  // the mode counts only for a file that is not there yet
  rmSync(`${file}.new`, { force: true })
  writeFileSync(`${file}.new`, content, { mode: 0o600 })
  // whatever the umask
  chmodSync(`${file}.new`, mode)
  renameSync(`${file}.new`, file)
}

const save = (name: string, { cert, key }: Issued, keyMode: number) => {
  write(keyFile(name), key, keyMode)
  write(certFile(name), cert, 0o644)
}

/**
 * Makes the folder, or closes an older one to other users, and gives whether it is closed. One that holds anything else is not
 * only for this, and stays as it is.
 */
const closeFolder = (): boolean => {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch {
    console.error(
      `${folder}: this user may not write there; whom it belongs to has to make the certificates, or remove it`
    )
    process.exit(1)
  }
  const own = new Set(["ca", "recommendations", "marketplace"].flatMap((name) => [certFile(name), keyFile(name)]))
  const isOnlyForThis = readdirSync(folder)
    // what file managers leave behind
    .filter((name) => !name.startsWith("."))
    .every((name) => own.has(path.join(folder, name.replace(/\.new$/, ""))))
  if (isOnlyForThis) {
    try {
      chmodSync(folder, 0o700)
    } catch {
      // it is another user's
    }
  }
  return (statSync(folder).mode & 0o077) === 0
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

const isClosed = closeFolder()
if (!isClosed) {
  console.error(`${folder} is open to other users, so the keys are for this one alone, and for no container`)
}
const serviceKeyMode = isClosed ? 0o644 : 0o600
let authority = kept()
if (authority === undefined) {
  // a little longer than the longest certificate that may be asked for
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
