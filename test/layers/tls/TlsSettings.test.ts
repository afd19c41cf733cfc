import { assert, describe, it } from "@effect/vitest"
import { type Config, Effect, Option } from "effect"

import * as Setting from "../../../src/layers/config/Setting.ts"
import * as TlsSettings from "../../../src/layers/tls/TlsSettings.ts"

const read = <A>(config: Config.Config<A>, env: Record<string, string>) => config.parse(Setting.environment(env))

const server = TlsSettings.server("A")
const client = TlsSettings.client("A")

describe("the TLS settings of a server", () => {
  const variables = {
    certFile: "A_TLS_CERT_FILE",
    keyFile: "A_TLS_KEY_FILE",
    caFile: "A_TLS_CLIENT_CA_FILE",
    crlFile: "A_TLS_CLIENT_CRL_FILE"
  }

  it.effect("are none when no variable is set", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* read(server, {}), Option.none())
    })
  )

  const empty = ["CERT_FILE", "KEY_FILE", "CLIENT_CA_FILE", "CLIENT_CRL_FILE", "ALLOWED_CLIENTS"]
  it.effect.each(empty.flatMap((name) => [[`A_TLS_${name}`, ""] as const, [`A_TLS_${name}`, "  "] as const]))(
    "refuse %s set to %j, which would allow more clients than intended",
    ([variable, value]) =>
      Effect.gen(function* () {
        const { message } = yield* Effect.flip(
          read(server, { A_TLS_CERT_FILE: "c", A_TLS_KEY_FILE: "k", A_TLS_CLIENT_CA_FILE: "ca", [variable]: value })
        )
        assert.match(message, new RegExp(`^${variable}="${value}": expected .*, or not to be set at all$`))
      })
  )

  it.effect("have a certificate", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        yield* read(server, { A_TLS_CERT_FILE: "c", A_TLS_KEY_FILE: "k" }),
        Option.some({
          files: { certFile: "c", keyFile: "k", caFile: undefined, crlFile: undefined, variables },
          allowedClients: Option.none()
        })
      )
    })
  )

  it.effect("have a list of clients by DNS names and URIs", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        yield* read(server, {
          A_TLS_CERT_FILE: "c",
          A_TLS_KEY_FILE: "k",
          A_TLS_CLIENT_CA_FILE: "ca",
          A_TLS_CLIENT_CRL_FILE: "crl",
          A_TLS_ALLOWED_CLIENTS: "b, c.example,spiffe://d/e,urn:uuid:1"
        }),
        Option.some({
          files: { certFile: "c", keyFile: "k", caFile: "ca", crlFile: "crl", variables },
          allowedClients: Option.some(new Set(["b", "c.example", "spiffe://d/e", "urn:uuid:1"]))
        })
      )
    })
  )

  it.effect.each([
    [{ A_TLS_CERT_FILE: "c" }, 'A_TLS_CERT_FILE="c": expected A_TLS_KEY_FILE to be set too'],
    [{ A_TLS_KEY_FILE: "k" }, 'A_TLS_KEY_FILE="k": expected A_TLS_CERT_FILE to be set too'],
    [{ A_TLS_CLIENT_CA_FILE: "ca" }, 'A_TLS_CLIENT_CA_FILE="ca": expected A_TLS_CERT_FILE to be set too'],
    [{ A_TLS_CLIENT_CRL_FILE: "crl" }, 'A_TLS_CLIENT_CRL_FILE="crl": expected A_TLS_CLIENT_CA_FILE to be set too'],
    [{ A_TLS_ALLOWED_CLIENTS: "b,c" }, 'A_TLS_ALLOWED_CLIENTS="b,c": expected A_TLS_CLIENT_CA_FILE to be set too'],
    [
      { A_TLS_CERT_FILE: "c", A_TLS_KEY_FILE: "k", A_TLS_ALLOWED_CLIENTS: "b" },
      'A_TLS_ALLOWED_CLIENTS="b": expected A_TLS_CLIENT_CA_FILE to be set too'
    ]
  ] as ReadonlyArray<readonly [Record<string, string>, string]>)(
    "refuse an incomplete combination: %j",
    ([env, message]) =>
      Effect.gen(function* () {
        assert.strictEqual((yield* Effect.flip(read(server, env))).message, message)
      })
  )

  it.effect.each(["a,,b", "a,", "*.example", "10.0.0.1", "::1", "DNS:a", "a b", "spiffe:"])(
    "refuse a client such as %s",
    (value) =>
      Effect.gen(function* () {
        assert.strictEqual(
          (yield* Effect.flip(read(server, { A_TLS_ALLOWED_CLIENTS: value }))).message,
          `A_TLS_ALLOWED_CLIENTS=${JSON.stringify(value)}: expected comma-separated DNS names or URIs, ` +
            'such as "frontend,spiffe://example.org/frontend"'
        )
      })
  )
})

describe("the TLS settings of a client", () => {
  const variables = { certFile: "A_TLS_CERT_FILE", keyFile: "A_TLS_KEY_FILE", caFile: "A_TLS_CA_FILE" }

  it.effect("are none when no variable is set", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* read(client, {}), Option.none())
    })
  )

  it.effect.each(["CERT_FILE", "KEY_FILE", "CA_FILE", "SERVER_NAME"])("refuse an empty A_TLS_%s", (name) =>
    Effect.gen(function* () {
      const { message } = yield* Effect.flip(read(client, { A_TLS_CA_FILE: "ca", [`A_TLS_${name}`]: "" }))
      assert.match(message, new RegExp(`^A_TLS_${name}="": expected .*, or not to be set at all$`))
    })
  )

  it.effect("have a CA and a server name", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        yield* read(client, { A_TLS_CA_FILE: "ca", A_TLS_SERVER_NAME: "b" }),
        Option.some({ files: { caFile: "ca", variables }, serverName: Option.some("b") })
      )
    })
  )

  it.effect("have a certificate for mutual TLS", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        yield* read(client, { A_TLS_CA_FILE: "ca", A_TLS_CERT_FILE: "c", A_TLS_KEY_FILE: "k" }),
        Option.some({ files: { certFile: "c", keyFile: "k", caFile: "ca", variables }, serverName: Option.none() })
      )
    })
  )

  it.effect.each([
    [{ A_TLS_CA_FILE: "ca", A_TLS_CERT_FILE: "c" }, 'A_TLS_CERT_FILE="c": expected A_TLS_KEY_FILE to be set too'],
    [{ A_TLS_CA_FILE: "ca", A_TLS_KEY_FILE: "k" }, 'A_TLS_KEY_FILE="k": expected A_TLS_CERT_FILE to be set too'],
    [{ A_TLS_CERT_FILE: "c", A_TLS_KEY_FILE: "k" }, 'A_TLS_CERT_FILE="c": expected A_TLS_CA_FILE to be set too'],
    [{ A_TLS_SERVER_NAME: "b" }, 'A_TLS_SERVER_NAME="b": expected A_TLS_CA_FILE to be set too'],
    [
      { A_TLS_CA_FILE: "ca", A_TLS_SERVER_NAME: "127.0.0.1" },
      `A_TLS_SERVER_NAME="127.0.0.1": expected a DNS name that the server's certificate has`
    ]
  ] as ReadonlyArray<readonly [Record<string, string>, string]>)("refuse: %j", ([env, message]) =>
    Effect.gen(function* () {
      assert.strictEqual((yield* Effect.flip(read(client, env))).message, message)
    })
  )
})

describe("the clients of a service", () => {
  const clients = TlsSettings.serviceClients("A", "READER", "Some clients.")

  it.effect("are all clients by default, and otherwise those that are named", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* read(clients, {}), Option.none())
      assert.deepStrictEqual(
        yield* read(clients, { A_TLS_CLIENT_CA_FILE: "ca", A_TLS_READER_CLIENTS: "b, spiffe://d/e" }),
        Option.some(new Set(["b", "spiffe://d/e"]))
      )
    })
  )

  it.effect.each([
    [{ A_TLS_READER_CLIENTS: "b" }, 'A_TLS_READER_CLIENTS="b": expected A_TLS_CLIENT_CA_FILE to be set too'],
    [
      { A_TLS_CLIENT_CA_FILE: "ca", A_TLS_READER_CLIENTS: "" },
      'A_TLS_READER_CLIENTS="": expected comma-separated DNS names or URIs, such as "frontend,spiffe://example.org/frontend", ' +
        "or not to be set at all"
    ]
  ] as ReadonlyArray<readonly [Record<string, string>, string]>)("are refused: %j", ([env, message]) =>
    Effect.gen(function* () {
      assert.strictEqual((yield* Effect.flip(read(clients, env))).message, message)
    })
  )
})
