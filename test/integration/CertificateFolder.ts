/**
 * Certificates in folders of an installation, with the layout of a Secret volume of Kubernetes: the files are symlinks into `..data`,
 * which is a symlink to a folder with a version of the files.
 */
import { mkdir, rename, symlink, writeFile } from "node:fs/promises"
import path from "node:path"

import { Effect } from "effect"

import { type Authority, issue, type Issued, makeAuthority } from "../../scripts/certificates.ts"
import { type Environment, Installation, type Service } from "./Installation.ts"

/** The contents of a folder: PEM. */
export interface Contents extends Issued {
  /** The trusted certificate authorities. */
  readonly ca: string
}

/** A folder with certificates. */
export interface CertificateFolder {
  /** Paths relative to the installation. */
  readonly files: { readonly certFile: string; readonly keyFile: string; readonly caFile: string }
  /** Replaces files in place, one after the other. */
  readonly put: (contents: Partial<Contents>) => Effect.Effect<void>
  /** Replaces all files at once by swapping `..data`. */
  readonly swap: (contents: Contents) => Effect.Effect<void>
}

const names = { cert: "tls.crt", key: "tls.key", ca: "ca.crt" } as const

/** Makes a folder in the installation. */
export const make = Effect.fnUntraced(function* (name: string, contents: Contents) {
  const folder = path.join((yield* Installation).folder, name)
  let version = 0

  const write = (to: string, contents: Partial<Contents>) =>
    Effect.promise(async () => {
      for (const [kind, file] of Object.entries(names)) {
        const content = contents[kind as keyof Contents]
        if (content === undefined) continue
        await writeFile(path.join(to, `${file}.new`), content)
        await rename(path.join(to, `${file}.new`), path.join(to, file))
      }
    })
  const swap = (contents: Contents) =>
    Effect.gen(function* () {
      const next = `..${++version}`
      yield* Effect.promise(() => mkdir(path.join(folder, next), { recursive: true }))
      yield* write(path.join(folder, next), contents)
      yield* Effect.promise(async () => {
        await symlink(next, path.join(folder, "..data_tmp"))
        await rename(path.join(folder, "..data_tmp"), path.join(folder, "..data"))
      })
    })

  yield* swap(contents)
  yield* Effect.promise(async () => {
    for (const file of Object.values(names)) await symlink(path.join("..data", file), path.join(folder, file))
  })
  return {
    files: {
      certFile: path.join(name, names.cert),
      keyFile: path.join(name, names.key),
      caFile: path.join(name, names.ca)
    },
    put: (contents) => write(path.join(folder, "..data"), contents),
    swap
  } satisfies CertificateFolder as CertificateFolder
})

/** The name of Recommendations in its certificate. */
export const serverName = "recommendations.test"

/** The name of the only client that may call. */
export const clientName = "marketplace"

/** Issues a certificate for Recommendations. */
export const issueServer = (authority: Authority) =>
  Effect.promise(() => issue(authority, { names: [`DNS:${serverName}`], usage: "server" }))

/** Issues a certificate for the client that may call, with further names in `more`. */
export const issueClient = (authority: Authority, more: ReadonlyArray<string> = []) =>
  Effect.promise(() => issue(authority, { names: [`DNS:${clientName}`, ...more], usage: "client" }))

/** Makes two folders, whose names start with `prefix`, and the settings for mutual TLS between the services. */
export const makeBoth = Effect.fnUntraced(function* (prefix: string) {
  const authority = yield* Effect.promise(() => makeAuthority())
  const identity = yield* issueClient(authority)
  const server = yield* make(`${prefix}-server`, { ...(yield* issueServer(authority)), ca: authority.cert })
  const client = yield* make(`${prefix}-client`, { ...identity, ca: authority.cert })
  return {
    authority,
    server,
    client,
    /** The first certificate of the client. */
    identity,
    environment: {
      recommendations: {
        RECOMMENDATIONS_TLS_CERT_FILE: server.files.certFile,
        RECOMMENDATIONS_TLS_KEY_FILE: server.files.keyFile,
        RECOMMENDATIONS_TLS_CLIENT_CA_FILE: server.files.caFile,
        RECOMMENDATIONS_TLS_ALLOWED_CLIENTS: clientName
      },
      marketplace: {
        MARKETPLACE_TLS_CA_FILE: client.files.caFile,
        MARKETPLACE_TLS_CERT_FILE: client.files.certFile,
        MARKETPLACE_TLS_KEY_FILE: client.files.keyFile
      }
    } satisfies { readonly [S in Service]: Environment }
  }
})
