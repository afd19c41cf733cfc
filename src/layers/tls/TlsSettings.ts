/**
 * TLS settings of servers and clients. Without any variable the connection is plaintext. An incomplete combination or an empty variable
 * fails startup, since ignoring it would disable the intended protection.
 */
import { Config, Effect, Option } from "effect"

import { isHost } from "../config/Address.ts"
import * as Setting from "../config/Setting.ts"
import type { CertificateFiles } from "./CertificateFiles.ts"

/** The certificate of a server, and the clients that it accepts. */
export interface ServerTls {
  /** A CA file enables mutual TLS: every client needs a certificate of one of its authorities. The paths are not resolved. */
  readonly files: CertificateFiles
  /** The clients that may call, by a DNS name or a URI in their certificate. None allows every client with a valid certificate. */
  readonly allowedClients: Option.Option<ReadonlySet<string>>
}

/** How a client verifies its server, and its own certificate. */
export interface ClientTls {
  /** A certificate enables mutual TLS. The paths are not resolved. */
  readonly files: CertificateFiles
  /** The name expected in the server's certificate. None expects the host of the target. */
  readonly serverName: Option.Option<string>
}

/** TLS of a server from the variables under a prefix, such as `<prefix>_TLS_CERT_FILE`. None is plaintext. */
export const server = (prefix: string): Config.Config<Option.Option<ServerTls>> => {
  const variables = {
    certFile: `${prefix}_TLS_CERT_FILE`,
    keyFile: `${prefix}_TLS_KEY_FILE`,
    caFile: `${prefix}_TLS_CLIENT_CA_FILE`,
    crlFile: `${prefix}_TLS_CLIENT_CRL_FILE`
  }
  const allowedVariable = `${prefix}_TLS_ALLOWED_CLIENTS`
  return Config.all({
    certFile: file(variables.certFile, "The server's certificate chain (PEM).", "plaintext"),
    keyFile: file(variables.keyFile, "The private key of the server's certificate (PEM)."),
    caFile: clientCaFile(variables.caFile),
    crlFile: file(
      variables.crlFile,
      "Revoked certificates of clients (PEM): one CRL for each authority of their chains, the root included."
    ),
    allowedClients: optionalNames(allowedVariable, {
      description:
        "The clients that may call, by the DNS names and URIs of their certificates (subjectAltName). Others are answered " +
        "PERMISSION_DENIED.",
      unset: "every client with a certificate of the authorities"
    })
  }).pipe(
    Config.mapEffect(
      Effect.fnUntraced(function* ({ allowedClients, caFile, certFile, crlFile, keyFile }) {
        yield* needs(certFile, variables.certFile, keyFile, variables.keyFile)
        yield* needs(keyFile, variables.keyFile, certFile, variables.certFile)
        yield* needs(caFile, variables.caFile, certFile, variables.certFile)
        yield* needs(crlFile, variables.crlFile, caFile, variables.caFile)
        yield* needs(Option.map(allowedClients, joined), allowedVariable, caFile, variables.caFile)
        return Option.map(Option.all({ certFile, keyFile }), (identity): ServerTls => ({
          files: {
            ...identity,
            caFile: Option.getOrUndefined(caFile),
            crlFile: Option.getOrUndefined(crlFile),
            variables
          },
          allowedClients
        }))
      })
    )
  )
}

/**
 * The clients that may call one service of a server, by the DNS names and URIs of their certificates, from `<prefix>_TLS_<service>_CLIENTS`.
 * None is every client that may call the server.
 */
export const serviceClients = (
  prefix: string,
  service: string,
  description: string
): Config.Config<Option.Option<ReadonlySet<string>>> => {
  const variable = `${prefix}_TLS_${service}_CLIENTS`
  const caVariable = `${prefix}_TLS_CLIENT_CA_FILE`
  return Config.all({
    caFile: clientCaFile(caVariable),
    clients: optionalNames(variable, { description, unset: "every client that may call" })
  }).pipe(
    Config.mapEffect(({ caFile, clients }) =>
      Effect.as(needs(Option.map(clients, joined), variable, caFile, caVariable), clients)
    )
  )
}

/** TLS of a client from the variables under a prefix, such as `<prefix>_TLS_CA_FILE`. None is plaintext. */
export const client = (prefix: string): Config.Config<Option.Option<ClientTls>> => {
  const variables = {
    certFile: `${prefix}_TLS_CERT_FILE`,
    keyFile: `${prefix}_TLS_KEY_FILE`,
    caFile: `${prefix}_TLS_CA_FILE`
  }
  const nameVariable = `${prefix}_TLS_SERVER_NAME`
  return Config.all({
    certFile: file(variables.certFile, "The client's certificate chain (PEM), for mutual TLS."),
    keyFile: file(variables.keyFile, "The private key of the client's certificate (PEM)."),
    caFile: file(variables.caFile, "The certificate authorities of the server (PEM).", "plaintext"),
    // an IP address is not allowed as server name (RFC 6066, section 3)
    serverName: Setting.optional(nameVariable, {
      description: "The name in the server's certificate. Required if the target is an address.",
      unset: "the host of the target",
      refuseEmpty: true,
      expected: "a DNS name that the server's certificate has",
      parse: Option.liftPredicate(isDnsName)
    })
  }).pipe(
    Config.mapEffect(
      Effect.fnUntraced(function* ({ caFile, certFile, keyFile, serverName }) {
        yield* needs(certFile, variables.certFile, keyFile, variables.keyFile)
        yield* needs(keyFile, variables.keyFile, certFile, variables.certFile)
        yield* needs(certFile, variables.certFile, caFile, variables.caFile)
        yield* needs(serverName, nameVariable, caFile, variables.caFile)
        const identity = Option.getOrUndefined(Option.all({ certFile, keyFile }))
        return Option.map(caFile, (ca): ClientTls => ({ files: { ...identity, caFile: ca, variables }, serverName }))
      })
    )
  )
}

const file = (variable: string, description: string, unset = "none") =>
  Setting.optional(variable, { description, unset, expected: "a path", parse: Option.some, refuseEmpty: true })

const clientCaFile = (variable: string) =>
  file(
    variable,
    "The certificate authorities of clients (PEM). They enable mutual TLS: every client needs a certificate."
  )

/** Fails if `value` is set and `other` is not. */
const needs = (
  value: Option.Option<string>,
  variable: string,
  other: Option.Option<string>,
  otherVariable: string
): Effect.Effect<void, Setting.SettingError> =>
  Option.isSome(value) && Option.isNone(other)
    ? Effect.fail(
        new Setting.SettingError({ variable, value: value.value, expected: `${otherVariable} to be set too` })
      )
    : Effect.void

const joined = (names: ReadonlySet<string>) => Array.from(names).join(",")

const optionalNames = (variable: string, options: Pick<Setting.Documentation, "description" | "unset">) =>
  Setting.optional(variable, {
    ...options,
    refuseEmpty: true,
    expected: 'comma-separated DNS names or URIs, such as "frontend,spiffe://example.org/frontend"',
    parse: (value): Option.Option<ReadonlySet<string>> => {
      const names = value.split(",").map((name) => name.trim())
      return names.every((name) => isDnsName(name) || isUri(name)) ? Option.some(new Set(names)) : Option.none()
    }
  })

/** A host that is not an IP address. */
const isDnsName = (text: string): boolean => isHost(text) && !text.includes(":") && !/^[\d.]+$/.test(text)

/** A URI, but not a name in the notation of OpenSSL, such as "DNS:frontend", which never matches. */
const isUri = (text: string): boolean => /^[a-z][a-z\d+.-]*:[^\s,]+$/i.test(text) && !/^(dns|uri|ip|email):/i.test(text)
