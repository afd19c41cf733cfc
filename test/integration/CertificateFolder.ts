/**
 * Certificates in folders of an installation, laid out and replaced as Kubernetes does it with a Secret: the files are
 * symlinks into `..data`, which is one to a folder of its own.
 */
import { mkdir, rename, symlink, writeFile } from "node:fs/promises"
import path from "node:path"

import { Effect } from "effect"

import { type Authority, issue, type Issued, makeAuthority } from "../../scripts/certificates.ts"
import { type Environment, Installation, type Service } from "./Installation.ts"

/** What a folder holds, PEM. */
export interface Contents extends Issued {
  /** Whom to trust. */
  readonly ca: string
}

export interface CertificateFolder {
  /** Where the files are, from the installation on. */
  readonly files: { readonly certFile: string; readonly keyFile: string; readonly caFile: string }
  /** Replaces files where they are, one after the other. */
  readonly put: (contents: Partial<Contents>) => Effect.Effect<void>
  /** Replaces all at one stroke, by another `..data`. */
  readonly swap: (contents: Contents) => Effect.Effect<void>
}

const names = { cert: "tls.crt", key: "tls.key", ca: "ca.crt" } as const

/** Makes a folder of the installation. */
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

/** The name of the one client that may call. */
export const clientName = "marketplace"

export const issueServer = (authority: Authority) =>
  Effect.promise(() => issue(authority, { names: [`DNS:${serverName}`], usage: "server" }))

/** The certificate of a client that may call; `more` are names that it has besides. */
export const issueClient = (authority: Authority, more: ReadonlyArray<string> = []) =>
  Effect.promise(() => issue(authority, { names: [`DNS:${clientName}`, ...more], usage: "client" }))

/** All that mutual TLS between the two services needs, in two folders whose names begin with `prefix`. */
export const makeBoth = Effect.fnUntraced(function* (prefix: string) {
  const authority = yield* Effect.promise(() => makeAuthority())
  const identity = yield* issueClient(authority)
  const server = yield* make(`${prefix}-server`, { ...(yield* issueServer(authority)), ca: authority.cert })
  const client = yield* make(`${prefix}-client`, { ...identity, ca: authority.cert })
  return {
    authority,
    server,
    client,
    /** What the client begins with. */
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
