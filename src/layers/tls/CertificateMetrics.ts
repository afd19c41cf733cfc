/**
 * Metrics of reloaded certificates: reloads, failed reloads and expiry, by role and file.
 */
import { Clock, Effect, Metric } from "effect"

import type { Certificates, Role } from "./Certificates.ts"

const reloads = Metric.counter("tls_certificate_reloads_total", {
  description: "Successful reloads of changed certificate files",
  incremental: true
})

const reloadFailures = Metric.counter("tls_certificate_reload_failures_total", {
  description: "Reloads of changed certificate files that failed validation",
  incremental: true
})

const expiry = Metric.gauge("tls_certificate_expiry_timestamp_seconds", {
  description: "When the certificate in use, or the last of the CA file, expires, in seconds since 1970"
})

const timeToExpiry = Metric.gauge("tls_certificate_time_to_expiry_seconds", {
  description: "Seconds until the certificate in use, or the last of the CA file, expires"
})

const crlExpiry = Metric.gauge("tls_crl_expiry_timestamp_seconds", {
  description: "When the first of the certificate revocation lists in use expires, in seconds since 1970"
})

const crlTimeToExpiry = Metric.gauge("tls_crl_time_to_expiry_seconds", {
  description: "Seconds until the first of the certificate revocation lists in use expires"
})

/** Updates the metrics of one role. */
export interface CertificateMetrics {
  /** After the first read. */
  readonly onRead: (certificates: Certificates) => Effect.Effect<void>
  readonly onReload: (certificates: Certificates) => Effect.Effect<void>
  readonly onFailure: Effect.Effect<void>
  /** Updates the time to expiry. */
  readonly onPoll: (certificates: Certificates) => Effect.Effect<void>
}

/** Makes the metrics of a role. The counters exist from the first read, so that their first increase is visible. */
export const make = (role: Role): CertificateMetrics => {
  const countReload = (count: number) => Metric.update(Metric.withAttributes(reloads, { role }), count)
  const countFailure = (count: number) => Metric.update(Metric.withAttributes(reloadFailures, { role }), count)
  const onPoll = (certificates: Certificates) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      setTimes(role, certificates, { certificate: timeToExpiry, crl: crlTimeToExpiry }, now)
    )
  const onChange = (certificates: Certificates) =>
    Effect.andThen(setTimes(role, certificates, { certificate: expiry, crl: crlExpiry }, 0), onPoll(certificates))
  return {
    onRead: (certificates) => Effect.all([countFailure(0), countReload(0), onChange(certificates)], { discard: true }),
    onReload: (certificates) => Effect.andThen(countReload(1), onChange(certificates)),
    onFailure: countFailure(1),
    onPoll
  }
}

/** Sets gauges to the seconds between `from`, in milliseconds since 1970, and the expiry of each file. */
const setTimes = (
  role: Role,
  { ca, crl, identity }: Certificates,
  gauges: { readonly certificate: typeof expiry; readonly crl: typeof expiry },
  from: number
): Effect.Effect<void> => {
  const set = (gauge: typeof expiry, notAfter: number | undefined, attributes: Record<string, string>) =>
    notAfter === undefined
      ? Effect.void
      : Metric.update(Metric.withAttributes(gauge, { role, ...attributes }), (notAfter - from) / 1000)
  return Effect.all(
    [
      set(gauges.certificate, identity?.notAfter, { file: "certificate" }),
      set(gauges.certificate, ca?.notAfter, { file: "ca" }),
      set(gauges.crl, crl?.notAfter, {})
    ],
    { discard: true }
  )
}
