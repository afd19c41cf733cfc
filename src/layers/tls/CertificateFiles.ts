/**
 * The PEM files of certificates: their paths, and reading them safely.
 */
import { createHash } from "node:crypto"

import { Duration, Effect, FileSystem, Schema } from "effect"

/** The paths of PEM files. A certificate comes with its private key. */
export type CertificateFiles = (
  | { readonly certFile: string; readonly keyFile: string }
  | { readonly certFile?: undefined; readonly keyFile?: undefined }
) & {
  /** The certificate authorities, one of which must have issued the peer's certificate. */
  readonly caFile?: string | undefined
  /** Certificate revocation lists (CRLs), one for each of those authorities. */
  readonly crlFile?: string | undefined
  /** The environment variables of the paths, for error messages. */
  readonly variables?:
    | {
        readonly certFile: string
        readonly keyFile: string
        readonly caFile: string
        readonly crlFile?: string | undefined
      }
    | undefined
}

/** A file cannot be used. The message is one line for an operator, such as `TLS_CERT_FILE="tls.crt": expected ..., but ...`. */
export class CertificateError extends Schema.TaggedError<CertificateError>()("CertificateError", {
  message: Schema.String
}) {}

/** The files with each path replaced by `resolve`. */
export const resolveFiles = (files: CertificateFiles, resolve: (path: string) => string): CertificateFiles => ({
  ...(files.certFile === undefined ? {} : { certFile: resolve(files.certFile), keyFile: resolve(files.keyFile) }),
  caFile: files.caFile === undefined ? undefined : resolve(files.caFile),
  crlFile: files.crlFile === undefined ? undefined : resolve(files.crlFile),
  variables: files.variables
})

/** The text of one file. */
export interface Content {
  readonly path: string
  readonly text: string
  /** Makes an error that names the file, what was expected and what is wrong. */
  readonly fail: (expected: string, but: string) => CertificateError
}

/** The texts of {@link CertificateFiles}. */
export interface Contents {
  readonly identity: { readonly cert: Content; readonly key: Content } | undefined
  readonly ca: Content | undefined
  readonly crl: Content | undefined
}

/** A hash of all contents. It does not reveal the private key. */
export const fingerprint = ({ ca, crl, identity }: Contents): string =>
  createHash("sha256")
    .update(JSON.stringify([identity?.cert.text, identity?.key.text, ca?.text, crl?.text]))
    .digest("hex")

/** Reads all files without parsing them. */
export const readContents = Effect.fnUntraced(function* (
  files: CertificateFiles
): Effect.fn.Return<Contents, CertificateError, FileSystem.FileSystem> {
  const { caFile, certFile, crlFile, keyFile, variables } = files
  return {
    identity:
      certFile === undefined
        ? undefined
        : {
            cert: yield* readContent(variables?.certFile ?? "certFile", certFile),
            key: yield* readContent(variables?.keyFile ?? "keyFile", keyFile)
          },
    ca: caFile === undefined ? undefined : yield* readContent(variables?.caFile ?? "caFile", caFile),
    crl: crlFile === undefined ? undefined : yield* readContent(variables?.crlFile ?? "crlFile", crlFile)
  }
})

const readContent = Effect.fnUntraced(function* (
  variable: string,
  path: string
): Effect.fn.Return<Content, CertificateError, FileSystem.FileSystem> {
  const fail = (expected: string, but: string) =>
    new CertificateError({ message: `${variable}=${JSON.stringify(path)}: expected ${expected}, but ${but}` })
  const text = yield* readRegularFile(path, fail).pipe(
    Effect.catchTag("PlatformError", ({ reason }) =>
      Effect.fail(fail("a PEM file", unreadable[reason._tag] ?? `it cannot be read (${firstLine(reason)})`))
    ),
    Effect.timeoutOrElse({
      duration: readTimeout,
      orElse: () => Effect.fail(fail("a PEM file", `reading it took longer than ${Duration.format(readTimeout)}`))
    })
  )
  return { path, text, fail }
})

/** Maximum size of a PEM file, in bytes. The bundle of all authorities that browsers trust is well below it. */
const maxFileSize = 1024 * 1024

/** How long reading a file may take. Without a limit, a hanging network file system would block reloading permanently. */
const readTimeout = Duration.seconds(10)

const notRegularFile = "it is not a regular file"

/** Messages by the reason of a PlatformError. */
const unreadable: { readonly [tag: string]: string } = {
  NotFound: "there is no such file",
  PermissionDenied: "this user may not read it",
  BadResource: notRegularFile
}

/** Reads a regular file of at most {@link maxFileSize}. Reading a FIFO or /dev/zero would never end. */
const readRegularFile = Effect.fnUntraced(function* (path: string, fail: Content["fail"]) {
  const fs = yield* FileSystem.FileSystem
  // checked before the file is opened, since opening a FIFO blocks until it has a writer
  const { size, type } = yield* fs.stat(path)
  if (type !== "File") return yield* fail("a PEM file", notRegularFile)
  if (size > BigInt(maxFileSize)) return yield* fail(`a PEM file of at most ${maxFileSize} bytes`, `it has ${size}`)
  return yield* fs.readFileString(path)
})

/** The first line of an error's message. */
export const firstLine = (cause: unknown): string =>
  (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0]!
