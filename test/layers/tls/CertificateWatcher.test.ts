import { NodeFileSystem } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, FileSystem, Layer, Logger, Metric, PlatformError, Redacted, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"

import { type Issued } from "../../../scripts/certificates.ts"
import type { CertificateFiles } from "../../../src/layers/tls/CertificateFiles.ts"
import type * as Certificates from "../../../src/layers/tls/Certificates.ts"
import * as CertificateWatcher from "../../../src/layers/tls/CertificateWatcher.ts"
import {
  authorities,
  daysFromNow,
  folderWith,
  issued,
  makeFifo,
  now,
  put,
  regularFile,
  replace,
  revocationList,
  seconds,
  writeIdentity
} from "./CertificateFolder.ts"

describe("CertificateWatcher", () => {
  interface Trial {
    readonly watched: Certificates.Watched
    readonly folder: Effect.Success<ReturnType<typeof folderWith>>
    /** The log lines. */
    readonly lines: ReadonlyArray<string>
    /** Waits for a number of complete polls. */
    readonly polls: (count: number) => Effect.Effect<void>
    /** Waits until a certificate is in use. */
    readonly reloaded: (identity: Issued) => Effect.Effect<void>
    /** The values of the metrics, by name and attributes. */
    readonly metrics: Effect.Effect<Record<string, unknown>>
  }

  /** Runs a test with a watched folder, after `prepare` has changed it and chosen the files. */
  const watching = <A, E>(
    trial: (trial: Trial) => Effect.Effect<A, E, FileSystem.FileSystem | Scope.Scope>,
    prepare: (folder: Trial["folder"]) => Effect.Effect<CertificateFiles, PlatformError.PlatformError> = (folder) =>
      Effect.succeed(folder.files)
  ) => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => void lines.push(`${logLevel} ${message}`))
    return Effect.gen(function* () {
      const folder = yield* folderWith()
      const files = yield* prepare(folder)
      const waiting = new Map<number, () => void>()
      let reads = 0
      const counting = FileSystem.FileSystem.of({
        ...folder.fs,
        readFileString: (path) =>
          Effect.suspend(() => {
            // each poll starts with this file
            if (path === files.certFile) waiting.get(++reads)?.()
            return folder.fs.readFileString(path)
          })
      })
      const watched = yield* Effect.provideService(
        CertificateWatcher.watch(files, { role: "server", interval: "2 millis" }),
        FileSystem.FileSystem,
        counting
      )
      return yield* trial({
        watched,
        folder,
        lines,
        // a poll in progress does not count; the last one is complete when the next one starts
        polls: (count) =>
          Effect.callback<void>((resume) => void waiting.set(reads + count + 1, () => resume(Effect.void))),
        reloaded: ({ cert }) =>
          watched.changes.pipe(
            Stream.filter(({ identity }) => identity?.cert === cert),
            Stream.take(1),
            Stream.runDrain
          ),
        metrics: Effect.map(Metric.snapshot, (snapshots) =>
          Object.fromEntries(
            snapshots.map(({ attributes, id, state }) => [
              [id.replace("tls_certificate_", ""), ...Object.values(attributes ?? {})].join(" "),
              "count" in state ? state.count : "value" in state ? state.value : state
            ])
          )
        )
      })
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.merge(NodeFileSystem.layer, Logger.layer([logger]))),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
  }

  const refusals = (lines: ReadonlyArray<string>) => lines.filter((line) => line.startsWith("Warn"))

  it.live("does nothing while the contents stay the same", () =>
    watching(({ folder, lines, metrics, polls, watched }) =>
      Effect.gen(function* () {
        const before = watched.current()
        yield* polls(2)
        // another file with the same contents
        yield* writeIdentity(folder, folder.identity)
        yield* polls(3)
        assert.strictEqual(watched.current(), before)
        assert.deepStrictEqual(lines, [])
        const { "time_to_expiry_seconds server certificate": left, ...others } = yield* metrics
        assert.closeTo(Number(left), 90 * 24 * 60 * 60, 60)
        assert.isBelow(Number(left), before.identity!.notAfter / 1000 - now / 1000)
        assert.deepInclude(others, {
          "reloads_total server": 0,
          "reload_failures_total server": 0,
          "expiry_timestamp_seconds server certificate": before.identity!.notAfter / 1000,
          "expiry_timestamp_seconds server ca": before.ca!.notAfter / 1000
        })
      })
    )
  )

  it.live("reloads files that are overwritten", () =>
    watching(({ folder, lines, metrics, reloaded, watched }) =>
      Effect.gen(function* () {
        const authority = yield* authorities
        const identity = yield* issued(authority, { names: ["DNS:b"], notAfter: daysFromNow(3) })
        const { files, fs } = folder
        yield* fs.writeFileString(files.certFile, identity.cert)
        yield* fs.writeFileString(files.keyFile, identity.key)
        yield* fs.writeFileString(files.caFile, folder.authority.cert + authority.cert)
        yield* watched.changes.pipe(
          Stream.filter(({ ca }) => ca?.pem === folder.authority.cert + authority.cert),
          Stream.take(1),
          Stream.runDrain
        )
        yield* reloaded(identity)
        assert.strictEqual(Redacted.value(watched.current().identity!.key), identity.key)
        assert.include(
          lines.at(-1),
          "Info TLS certificates of the server reloaded: certificate CN=b, DNS:b is valid until 20"
        )
        assert.deepInclude(yield* metrics, {
          "expiry_timestamp_seconds server certificate": seconds(daysFromNow(3)),
          "expiry_timestamp_seconds server ca": seconds(new Date(watched.current().ca!.notAfter))
        })
      })
    )
  )

  it.live("reloads when Kubernetes swaps the symlink of the folder", () =>
    watching(
      ({ folder, lines, metrics, reloaded }) =>
        Effect.gen(function* () {
          const { fs } = folder
          const identity = yield* issued(folder.authority)
          yield* fs.makeDirectory(`${folder.folder}/..2`)
          yield* fs.writeFileString(`${folder.folder}/..2/tls.crt`, identity.cert)
          yield* fs.writeFileString(`${folder.folder}/..2/tls.key`, identity.key)
          yield* fs.writeFileString(`${folder.folder}/..2/ca.crt`, folder.authority.cert)
          yield* fs.symlink("..2", `${folder.folder}/..data_tmp`)
          yield* fs.rename(`${folder.folder}/..data_tmp`, `${folder.folder}/..data`)
          yield* fs.remove(`${folder.folder}/..1`, { recursive: true })
          yield* reloaded(identity)
          assert.deepStrictEqual(refusals(lines), [])
          assert.strictEqual(lines.length, 1)
          assert.deepInclude(yield* metrics, { "reloads_total server": 1, "reload_failures_total server": 0 })
        }),
      ({ files, folder, fs }) =>
        Effect.gen(function* () {
          yield* fs.makeDirectory(`${folder}/..1`)
          yield* fs.symlink("..1", `${folder}/..data`)
          for (const name of ["tls.crt", "tls.key", "ca.crt"]) {
            yield* fs.rename(`${folder}/${name}`, `${folder}/..1/${name}`)
            yield* fs.symlink(`..data/${name}`, `${folder}/${name}`)
          }
          return files
        })
    )
  )

  it.live.each([
    ["garbage", ({ files, fs }) => put(fs, files.certFile, "garbage"), "the file contains no certificate"],
    ["a deleted file", ({ files, fs }) => fs.remove(files.keyFile), "there is no such file"],
    [
      "a certificate for clients",
      ({ authority, files, fs, identity }) =>
        Effect.flatMap(issued(authority, { key: identity.key, usage: "client" }), ({ cert }) =>
          put(fs, files.certFile, cert)
        ),
      "its extended key usage does not include serverAuth"
    ],
    [
      "a FIFO without a writer",
      ({ files, fs }) => Effect.andThen(fs.remove(files.caFile), makeFifo(files.caFile)),
      "it is not a regular file"
    ]
  ] as ReadonlyArray<
    readonly [string, (folder: Trial["folder"]) => Effect.Effect<unknown, PlatformError.PlatformError>, string]
  >)("keeps the certificates and logs one warning for %s", ([, spoil, reason]) =>
    watching(({ folder, lines, metrics, polls, reloaded, watched }) =>
      Effect.gen(function* () {
        const before = watched.current()
        yield* spoil(folder)
        yield* polls(6)
        assert.strictEqual(watched.current(), before)
        assert.strictEqual(refusals(lines).length, 1)
        assert.include(
          lines[0],
          "Warn TLS certificates of the server not reloaded, the previous ones stay in use: A_TLS_"
        )
        assert.include(lines[0], reason)
        assert.notInclude(lines[0], "\n")
        assert.deepInclude(yield* metrics, { "reloads_total server": 0, "reload_failures_total server": 1 })

        // the next valid contents are reloaded
        yield* put(folder.fs, folder.files.caFile, folder.authority.cert)
        const identity = yield* replace(folder)
        yield* reloaded(identity)
        yield* polls(1)
        assert.strictEqual((yield* metrics)["reloads_total server"], 1)
        assert.include(lines.at(-1), "Info TLS certificates of the server reloaded")
      })
    )
  )

  it.live("logs each invalid change, but not the return of the contents in use", () =>
    watching(({ folder, lines, metrics, polls, watched }) =>
      Effect.gen(function* () {
        const before = watched.current()
        const { certFile } = folder.files
        for (const count of [1, 2]) {
          yield* put(folder.fs, certFile, "garbage")
          yield* polls(3)
          assert.strictEqual(refusals(lines).length, count)
          yield* put(folder.fs, certFile, folder.identity.cert)
          yield* polls(3)
        }
        yield* put(folder.fs, certFile, "garbage")
        yield* polls(3)
        yield* put(folder.fs, certFile, "other garbage")
        yield* polls(3)
        assert.strictEqual(refusals(lines).length, 4)
        assert.strictEqual(lines.length, 4)
        assert.strictEqual(watched.current(), before)
        assert.deepInclude(yield* metrics, { "reloads_total server": 0, "reload_failures_total server": 4 })
      })
    )
  )

  it.effect("validates contents once two polls have read the same", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const authority = yield* authorities
      const [old, next] = [yield* issued(authority), yield* issued(authority)]
      // the contents of the mocked files
      let identity = old
      const fs = FileSystem.layerNoop({
        stat: () => Effect.succeed(regularFile),
        readFileString: (path) => Effect.sync(() => (path === "cert" ? identity.cert : identity.key))
      })
      yield* TestClock.setTime(now)
      const { current } = yield* CertificateWatcher.watch(
        { certFile: "cert", keyFile: "key" },
        { role: "server" }
      ).pipe(
        Effect.provide(
          Layer.merge(fs, Logger.layer([Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))]))
        )
      )
      // the certificate has been written, but its key has not
      identity = { cert: next.cert, key: old.key }
      yield* TestClock.adjust("1 second")
      identity = next
      yield* TestClock.adjust("1 second")
      assert.strictEqual(current().identity?.cert, old.cert)
      assert.deepStrictEqual(lines, [])
      yield* TestClock.adjust("1 second")
      assert.strictEqual(current().identity?.cert, next.cert)
      assert.strictEqual(lines.length, 1)

      // becomes valid in an hour without another change
      const later = yield* issued(authority, { notBefore: new Date(now + 60 * 60 * 1000) })
      identity = later
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(current().identity?.cert, next.cert)
      assert.strictEqual(lines.length, 2)
      assert.include(lines[1], "is not valid before")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(current().identity?.cert, later.cert)
      assert.strictEqual(lines.length, 3)
    })
  )

  it.live("stops polling when its scope closes", () =>
    Effect.gen(function* () {
      const { files, fs } = yield* folderWith()
      const scope = yield* Scope.make()
      let reads = 0
      const counting = FileSystem.FileSystem.of({
        ...fs,
        readFileString: (path) =>
          Effect.andThen(
            Effect.sync(() => reads++),
            fs.readFileString(path)
          )
      })
      yield* CertificateWatcher.watch(files, { role: "server", interval: "1 millis" }).pipe(
        Scope.provide(scope),
        Effect.provideService(FileSystem.FileSystem, counting)
      )
      yield* Scope.close(scope, Exit.void)
      const before = reads
      // takes as long as several polls
      for (let i = 0; i < 20; i++) yield* fs.readFileString(files.certFile)
      assert.strictEqual(reads, before)
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.effect("warns once a day before a CRL expires and once after, and sets metrics of its expiry", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const authority = yield* authorities
      const crl = yield* revocationList(authority, [], { nextUpdate: daysFromNow(2) })
      const fs = FileSystem.layerNoop({
        stat: () => Effect.succeed(regularFile),
        readFileString: (path) => Effect.succeed(path === "ca" ? authority.cert : crl)
      })
      yield* TestClock.setTime(now)
      yield* CertificateWatcher.watch({ caFile: "ca", crlFile: "crl" }, { role: "server", interval: "1 hour" }).pipe(
        Effect.provide(
          Layer.merge(fs, Logger.layer([Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))]))
        )
      )
      const at = new Date(seconds(daysFromNow(2)) * 1000).toISOString().replace(".000", "")
      yield* TestClock.adjust("23 hours")
      assert.deepStrictEqual(lines, [])
      yield* TestClock.adjust("20 hours")
      assert.deepStrictEqual(lines, [
        `CRL of the server expires on ${at}: all certificates of its CA will be rejected then`
      ])
      yield* TestClock.adjust("20 hours")
      assert.deepStrictEqual(lines.slice(1), [
        `CRL of the server expired on ${at}: rejecting all certificates of its CA`
      ])
      const snapshots = yield* Metric.snapshot
      const values = snapshots.flatMap(({ id, state }) => (id.startsWith("tls_crl_") && "value" in state ? [id] : []))
      assert.sameMembers(values, ["tls_crl_expiry_timestamp_seconds", "tls_crl_time_to_expiry_seconds"])
    }).pipe(Effect.scoped, Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})
