/**
 * Reloads certificates when their files change, without a restart. Certificates that fail validation never replace valid ones.
 */
import { Clock, Duration, Effect, type FileSystem, type Scope, SubscriptionRef } from "effect"

import { ProjectRoot } from "../config/ProjectRoot.ts"
import {
  type CertificateError,
  type CertificateFiles,
  fingerprint,
  readContents,
  resolveFiles
} from "./CertificateFiles.ts"
import * as CertificateMetrics from "./CertificateMetrics.ts"
import { type Certificates, describe, formatTime, type Role, type Watched } from "./Certificates.ts"
import { validate } from "./validateCertificates.ts"

/** How certificates are watched. */
export interface WatchOptions {
  /** An attribute of the metrics, which also appears in log lines. */
  readonly role: Role
  /** How often the files are read (1 second). A change is used after one or two intervals. */
  readonly interval?: Duration.Input | undefined
}

/**
 * Reads the files, which must be valid, and polls them until the scope closes. Polling detects every change on every file system, also
 * that of a symlink to a parent folder, which Kubernetes swaps and which emits no file events.
 *
 * A change is validated once two polls in a row have read the same contents, since a certificate and its key are written one after
 * the other. If it is invalid, one log line has the reason, and the previous certificates stay in use.
 */
export const watch = Effect.fnUntraced(function* (
  files: CertificateFiles,
  { interval = Duration.seconds(1), role }: WatchOptions
): Effect.fn.Return<Watched, CertificateError, FileSystem.FileSystem | Scope.Scope> {
  const metrics = CertificateMetrics.make(role)
  const first = yield* readContents(files)
  const current = yield* SubscriptionRef.make(yield* validate(first, role))
  yield* metrics.onRead(SubscriptionRef.getUnsafe(current))
  const reload = makeReload(files, role, fingerprint(first), metrics.onFailure)
  const warnOfCrlExpiry = makeCrlWarning(role)
  const poll = Effect.gen(function* () {
    const reloaded = yield* reload
    if (reloaded !== undefined) {
      yield* metrics.onReload(reloaded)
      yield* SubscriptionRef.set(current, reloaded)
    }
    yield* metrics.onPoll(SubscriptionRef.getUnsafe(current))
    yield* warnOfCrlExpiry(SubscriptionRef.getUnsafe(current))
  })
  yield* Effect.sleep(interval).pipe(Effect.andThen(poll), Effect.forever, Effect.forkScoped)
  return {
    current: () => SubscriptionRef.getUnsafe(current),
    changes: SubscriptionRef.changes(current)
  }
})

/**
 * Makes an effect that reads the files and returns new certificates, or undefined if the contents are in use already, have not
 * settled, or are invalid. `onFailure` runs once for each invalid change.
 */
const makeReload = (files: CertificateFiles, role: Role, first: string, onFailure: Effect.Effect<void>) => {
  /** Fingerprints, or the message of a read error: of the contents in use, of the last rejected ones, and of the last poll. */
  let used = first
  let rejected: string | undefined
  let previous = first
  return Effect.gen(function* () {
    const contents = yield* Effect.result(readContents(files))
    const found = contents._tag === "Success" ? fingerprint(contents.success) : contents.failure.message
    const isSettled = found === previous
    previous = found
    if (found === used) rejected = undefined
    if (found === used || !isSettled) return undefined
    // rejected contents are validated again at each poll, without a log line: a certificate may become valid later
    const validated = yield* Effect.result(
      Effect.flatMap(Effect.fromResult(contents), (contents) => validate(contents, role))
    )
    if (validated._tag === "Success") {
      used = found
      rejected = undefined
      yield* Effect.logInfo(`TLS certificates of the ${role} reloaded: ${describe(validated.success)}`)
      return validated.success
    }
    if (found !== rejected) {
      rejected = found
      yield* onFailure
      yield* Effect.logWarning(
        `TLS certificates of the ${role} not reloaded, the previous ones stay in use: ${validated.failure.message}`
      )
    }
    return undefined
  })
}

/** {@link watch} with relative paths resolved against the project's root. Logs the certificates that were read. */
export const watchResolved = Effect.fnUntraced(function* (files: CertificateFiles, options: WatchOptions) {
  const { resolve } = yield* ProjectRoot
  const watched = yield* watch(resolveFiles(files, resolve), options)
  yield* Effect.logInfo(`TLS certificates of the ${options.role} loaded: ${describe(watched.current())}`)
  return watched
})

/** How long before the expiry of a CRL a warning is logged: a day, in milliseconds. */
const crlNotice = 24 * 60 * 60 * 1000

/** Logs one warning for each CRL before it expires, and one once it has. */
const makeCrlWarning = (role: Role) => {
  /** The `notAfter` of the last CRL for which a warning was logged. */
  const warned = { expiring: 0, expired: 0 }
  return Effect.fnUntraced(function* ({ crl }: Certificates) {
    if (crl === undefined) return
    const { notAfter } = crl
    const now = yield* Clock.currentTimeMillis
    if (now >= notAfter && warned.expired !== notAfter) {
      warned.expired = warned.expiring = notAfter
      yield* Effect.logWarning(
        `CRL of the ${role} expired on ${formatTime(notAfter)}: rejecting all certificates of its CA`
      )
    } else if (now >= notAfter - crlNotice && warned.expiring !== notAfter) {
      warned.expiring = notAfter
      yield* Effect.logWarning(
        `CRL of the ${role} expires on ${formatTime(notAfter)}: all certificates of its CA will be rejected then`
      )
    }
  })
}
