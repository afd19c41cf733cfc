/**
 * The target of a channel (https://github.com/grpc/grpc/blob/master/doc/naming.md). grpc-js accepts almost any string and then fails at the
 * first call or connects to the wrong host; invalid targets are rejected at startup.
 */
import { isIP } from "node:net"

import { Config, Effect, Option } from "effect"

import * as Address from "../../config/Address.ts"
import * as Setting from "../../config/Setting.ts"

/** The schemes of grpc-js; the default is dns. */
const schemePattern = /^(dns|ipv4|ipv6|unix):(.*)$/

/** Schemes of other gRPC implementations, which grpc-js would parse as a host name. */
const foreignPattern = /^(unix-abstract|vsock|xds|google-c2p|https?):/

/** Maximum length of a socket path on Linux, in bytes. */
const longestSocketPath = 107

const split = (target: string): { readonly scheme: string; readonly rest: string } => {
  const [, scheme = "dns", rest = target] = schemePattern.exec(target) ?? []
  return { scheme, rest }
}

/** Whether grpc-js can resolve a target and connect to it. */
const isTarget = (text: string): boolean => {
  if (foreignPattern.test(text)) return false
  const { rest, scheme } = split(text)
  switch (scheme) {
    case "unix":
      return isSocketPath(rest)
    case "ipv4":
      return rest.split(",").every((address) => isHostPort(address, (host) => isIP(host) === 4))
    case "ipv6":
      return rest.split(",").every((address) => isHostPort(address, isIPv6))
    default:
      return isDnsTarget(rest)
  }
}

/** Whether the host of a target is a name, against which the server's certificate can be checked. */
export const isName = (target: string): boolean => {
  const { rest, scheme } = split(target)
  const name = rest.slice(rest.lastIndexOf("/") + 1).replace(/:\d+$/, "")
  return scheme === "dns" && isIP(name.replace(/^\[(.*)\]$/, "$1")) === 0
}

/** unix:path or unix:///absolute/path. grpc-js would ignore any other authority. */
const isSocketPath = (rest: string): boolean => {
  const path = rest.startsWith("//") ? rest.slice(2) : rest
  if (rest.startsWith("//") && !path.startsWith("/")) return false
  return path !== "" && path !== "/" && Buffer.byteLength(path) <= longestSocketPath
}

const isDnsTarget = (rest: string): boolean => {
  const [, server = "", name = rest] = /^\/\/([^/]*)\/(.*)$/.exec(rest) ?? []
  return (
    isHostPort(name, isResolvable) && (server === "" || isHostPort(server, (host) => isIP(host) === 4 || isIPv6(host)))
  )
}

const hasDnsServer = (target: string) => /^dns:\/\/[^/]/.test(target)

/** Addresses with a zone ("fe80::1%eth0") are rejected: grpc-js converts addresses to URLs, which have no zones. */
const isIPv6 = (host: string) => isIP(host) === 6 && !host.includes("%")

const isResolvable = (host: string): boolean =>
  isIP(host) === 0
    ? Address.isHost(host) && host.length <= 253 && host.replace(/\.$/, "").split(".").every(isLabel)
    : !host.includes("%")

const isLabel = (label: string): boolean => label.length >= 1 && label.length <= 63

/** A host, in brackets if and only if it has colons, and optionally a port from 1 to 65535. */
const isHostPort = (text: string, isHost: (host: string) => boolean): boolean => {
  const [, bracketed, plain, port = "443"] = /^(?:\[([^\]]*:[^\]]*)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  return isHost(bracketed ?? plain ?? "") && Number(port) >= 1 && Number(port) <= 65535
}

/** `<prefix>_TARGET`, or else `<prefix>_HOST` (localhost) and `<prefix>_GRPC_PORT` (50051). */
export const config = (prefix: string): Config.Config<string> =>
  Config.all({
    target: Setting.optional(`${prefix}_TARGET`, {
      description:
        "The [gRPC target](https://github.com/grpc/grpc/blob/master/doc/naming.md) to call, with the scheme `dns`, `ipv4`, `ipv6` " +
        "or `unix`, and without IPv6 zones.",
      unset: `\`${prefix}_HOST\` and \`${prefix}_GRPC_PORT\``,
      expected: 'a gRPC target such as "recommendations:50051" or "dns:///recommendations:50051"',
      parse: Option.liftPredicate(isTarget)
    }),
    host: Setting.host(`${prefix}_HOST`, { description: "The host to call.", unset: "`localhost`" }).pipe(
      Config.map(Option.getOrElse(() => "localhost"))
    ),
    port: Setting.port(`${prefix}_GRPC_PORT`, { description: "The port to call.", default: 50051 }),
    // grpc-js reads this variable as well
    usesDnsServers: Setting.flag("GRPC_NODE_USE_ALTERNATIVE_RESOLVER", {
      description:
        "Whether grpc-js queries DNS servers instead of the system's resolver. Only then may a target name a DNS server, " +
        "as in `dns://10.0.0.1:53/recommendations:50051`.",
      default: false
    })
  }).pipe(
    Config.mapEffect(
      Effect.fnUntraced(function* ({ usesDnsServers, host, port, target }) {
        if (Option.isNone(target)) {
          yield* reject(host.includes("%"), `${prefix}_HOST`, host, "a name or an IP address without a zone")
          return Address.format({ host, port })
        }
        yield* reject(
          hasDnsServer(target.value) && !usesDnsServers,
          `${prefix}_TARGET`,
          target.value,
          "a target without a DNS server (dns:///name), since grpc-js queries it only with GRPC_NODE_USE_ALTERNATIVE_RESOLVER=true"
        )
        return target.value
      })
    )
  )

const reject = (isInvalid: boolean, variable: string, value: string, expected: string) =>
  isInvalid ? Effect.fail(new Setting.SettingError({ variable, value, expected })) : Effect.void
