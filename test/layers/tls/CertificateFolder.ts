/**
 * Certificate files in a temporary folder, for tests.
 */
import { execFile } from "node:child_process"

import { Effect, FileSystem } from "effect"

import {
  type Authority,
  day,
  issue,
  type Issued,
  type IssueOptions,
  makeAuthority,
  revoke
} from "../../../scripts/certificates.ts"

export const now = Date.now()
export const daysFromNow = (days: number) => new Date(now + days * day)
/** Seconds since 1970: certificates have no fractions. */
export const seconds = (time: Date) => Math.floor(time.getTime() / 1000)

export const variables = { certFile: "A_TLS_CERT_FILE", keyFile: "A_TLS_KEY_FILE", caFile: "A_TLS_CLIENT_CA_FILE" }

export const authorities = Effect.promise(() => makeAuthority())
export const issued = (authority: Authority, options: Partial<IssueOptions> = {}) =>
  Effect.promise(() => issue(authority, { names: ["DNS:localhost"], usage: "server", ...options }))

/** The file info that a mocked file system returns. */
export const regularFile = { type: "File", size: 1000n } as FileSystem.File.Info

/** Writes a certificate, its key and a CA to a temporary folder. */
export const folderWith = Effect.fnUntraced(function* (
  content: { readonly cert?: string; readonly key?: string; readonly ca?: string } = {}
) {
  const fs = yield* FileSystem.FileSystem
  const folder = yield* fs.makeTempDirectoryScoped()
  const authority = yield* authorities
  const identity = yield* issued(authority)
  const files = { certFile: `${folder}/tls.crt`, keyFile: `${folder}/tls.key`, caFile: `${folder}/ca.crt`, variables }
  yield* fs.writeFileString(files.certFile, content.cert ?? identity.cert)
  yield* fs.writeFileString(files.keyFile, content.key ?? identity.key)
  yield* fs.writeFileString(files.caFile, content.ca ?? authority.cert)
  return { fs, folder, authority, identity, files }
})

export const makeFifo = (path: string) =>
  Effect.promise(
    () =>
      new Promise<void>((resolve, reject) => execFile("mkfifo", [path], (error) => (error ? reject(error) : resolve())))
  )

/** Issues another certificate and writes it and its key to a folder. */
export const replace = Effect.fnUntraced(function* (
  { authority, files, fs }: Pick<Effect.Success<ReturnType<typeof folderWith>>, "authority" | "files" | "fs">,
  options: Partial<IssueOptions> = {}
) {
  const identity = yield* issued(authority, options)
  yield* writeIdentity({ files, fs }, identity)
  return identity
})

/** Replaces a file by a rename, so that a poll never reads half of it. */
export const put = (fs: FileSystem.FileSystem, file: string, content: string) =>
  Effect.andThen(fs.writeFileString(`${file}.new`, content), fs.rename(`${file}.new`, file))

export const writeIdentity = Effect.fnUntraced(function* (
  { files, fs }: Pick<Effect.Success<ReturnType<typeof folderWith>>, "files" | "fs">,
  { cert, key }: Issued
) {
  yield* put(fs, files.keyFile, key)
  yield* put(fs, files.certFile, cert)
})

/** A CRL of an authority. */
export const revocationList = (
  authority: Issued,
  certificates: ReadonlyArray<Issued> = [],
  options?: Parameters<typeof revoke>[2]
) => Effect.promise(() => revoke(authority, certificates, options))
