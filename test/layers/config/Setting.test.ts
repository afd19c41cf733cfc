import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Config, Duration, Effect, Option } from "effect"

import * as Setting from "../../../src/layers/config/Setting.ts"
import { config as target } from "../../../src/layers/grpc/client/Target.ts"

const read = <A>(config: Config.Config<A>, env: Record<string, string>) => config.parse(ConfigProvider.fromEnv({ env }))

const description = "What it is for."
const port = Setting.port("A_PORT", { description, default: 50051 })
const duration = Setting.duration("A_DELAY", { description, default: Duration.seconds(1) })
const host = Setting.host("A_HOST", { description, unset: "every address" })
const level = Setting.oneOf("A_LEVEL", { description, words: ["Info", "Debug"], unset: "`Info`" })

describe("a setting", () => {
  it.effect("has its default when the variable is not set, or set to nothing", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* read(port, {}), 50051)
      assert.strictEqual(yield* read(port, { A_PORT: "" }), 50051)
      assert.deepStrictEqual(yield* read(duration, {}), Duration.seconds(1))
      assert.deepStrictEqual(yield* read(level, { A_LEVEL: "" }), Option.none())
      assert.strictEqual(yield* read(Setting.text("A", { description, default: "b" }), {}), "b")
    })
  )

  it.effect("is not confused by variables whose names go on", () =>
    Effect.gen(function* () {
      // what Kubernetes puts into every container beside a Service named "a"
      assert.strictEqual(yield* read(port, { A_PORT: "7", A_PORT_50051_TCP: "tcp://10.0.0.1:50051" }), 7)
      assert.strictEqual(yield* read(port, { A_PORT_50051_TCP: "tcp://10.0.0.1:50051" }), 50051)
    })
  )

  it.effect.each([
    ["0", 0],
    ["65535", 65535]
  ] as const)("reads the port %s", ([value, expected]) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* read(port, { A_PORT: value }), expected)
    })
  )

  it.effect.each([
    ["0 seconds", 0],
    ["800 millis", 800],
    ["25 seconds", 25_000],
    ["25s", 25_000],
    ["1.5s", 1_500],
    ["800ms", 800],
    ["2m", 120_000],
    ["1h", 3_600_000],
    [" 1 minute ", 60_000]
  ] as const)("reads the duration %s", ([value, millis]) =>
    Effect.gen(function* () {
      assert.strictEqual(Duration.toMillis(yield* read(duration, { A_DELAY: value })), millis)
    })
  )

  it.effect.each(["localhost", "recommendations", "a-b.example.", "0.0.0.0", "::", "fe80::1"])(
    "reads the host %s",
    (value) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* read(host, { A_HOST: value }), Option.some(value))
      })
  )

  it.effect.each([
    [{}, "localhost:50051"],
    [{ A_HOST: "b" }, "b:50051"],
    [{ A_HOST: "::1", A_GRPC_PORT: "7" }, "[::1]:7"],
    [{ A_HOST: "b", A_TARGET: "c:8" }, "c:8"],
    [{ A_TARGET: "[::1]:8" }, "[::1]:8"],
    [{ A_TARGET: "dns:///c:8" }, "dns:///c:8"],
    [{ A_TARGET: "dns://10.0.0.1:53/c:8", GRPC_NODE_USE_ALTERNATIVE_RESOLVER: "true" }, "dns://10.0.0.1:53/c:8"],
    [{ A_TARGET: "dns:[::1]:8" }, "dns:[::1]:8"],
    [{ A_TARGET: "ipv6:[::1]:8,[::2]" }, "ipv6:[::1]:8,[::2]"],
    [{ A_TARGET: "unix:///tmp/a" }, "unix:///tmp/a"],
    [{ A_TARGET: "dns:c" }, "dns:c"],
    [{ A_TARGET: "ipv4:10.0.0.1:8,10.0.0.2:8" }, "ipv4:10.0.0.1:8,10.0.0.2:8"],
    [{ A_TARGET: "ipv6:[::1]:8" }, "ipv6:[::1]:8"],
    [{ A_TARGET: "unix:/tmp/a" }, "unix:/tmp/a"]
  ] as ReadonlyArray<readonly [Record<string, string>, string]>)("reads the target of %j: %s", ([env, expected]) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* read(target("A"), env), expected)
    })
  )

  it.effect.each([
    "foo bar",
    "http://a:1",
    "a:99999",
    "a:0",
    "a:b:c",
    "dns:///",
    "dns://a/b:1",
    "dns://10.0.0.1:99999/b",
    "dns://a:1",
    "ipv4:a",
    "ipv4:::1",
    "ipv6:zz",
    "unix:",
    "unix:///",
    "unix://tmp/a",
    `unix:/${"a".repeat(107)}`,
    "unix-abstract:8",
    "xds:8",
    "xds:///a",
    "vsock:2:8",
    "[fe80::1%eth0]:8",
    "dns:[fe80::1%eth0]:8",
    "ipv6:[fe80::1%eth0]:8",
    "dns://[fe80::1%eth0]:53/a",
    "ipv6:[::1]:0",
    "ipv4:[10.0.0.1]:8",
    "ipv4:10.0.0.1:65536",
    "[a]:8",
    "a..b:8",
    `${"a".repeat(64)}:8`
  ])("refuses the target %s", (value) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(read(target("A"), { A_TARGET: value }))
      assert.strictEqual(
        error.message,
        `A_TARGET="${value}": expected a gRPC target such as "recommendations:50051" or "dns:///recommendations:50051"`
      )
    })
  )

  it.effect("rejects a target with a DNS server that grpc-js would not query", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(read(target("A"), { A_TARGET: "dns://10.0.0.1/c:8" }))
      assert.strictEqual(
        error.message,
        'A_TARGET="dns://10.0.0.1/c:8": expected a target without a DNS server (dns:///name), ' +
          "since grpc-js queries it only with GRPC_NODE_USE_ALTERNATIVE_RESOLVER=true"
      )
    })
  )

  it.effect("refuses a host with a zone", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(read(target("A"), { A_HOST: "fe80::1%eth0" }))
      assert.strictEqual(error.message, 'A_HOST="fe80::1%eth0": expected a name or an IP address without a zone')
    })
  )

  it.effect("reads words in any case", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* read(level, { A_LEVEL: "dEBUG" }), Option.some("Debug"))
    })
  )

  it.effect.each([
    [port, "A_PORT", "-1", "a port, a whole number from 0 to 65535"],
    [port, "A_PORT", "65536", "a port, a whole number from 0 to 65535"],
    [port, "A_PORT", "80 ", "a port, a whole number from 0 to 65535"],
    [port, "A_PORT", "tcp://10.0.0.1:50051", "a port, a whole number from 0 to 65535"],
    [duration, "A_DELAY", "25", 'a duration from 0 to 24d, such as "800 millis", "25 seconds" or "25s"'],
    [duration, "A_DELAY", "-1 seconds", 'a duration from 0 to 24d, such as "800 millis", "25 seconds" or "25s"'],
    [duration, "A_DELAY", "Infinity", 'a duration from 0 to 24d, such as "800 millis", "25 seconds" or "25s"'],
    [duration, "A_DELAY", "25 days", 'a duration from 0 to 24d, such as "800 millis", "25 seconds" or "25s"'],
    [host, "A_HOST", "localhost:80", "the name of a host or an IP address, without a port"],
    [host, "A_HOST", "http://localhost", "the name of a host or an IP address, without a port"],
    [host, "A_HOST", "[::1]", "the name of a host or an IP address, without a port"],
    [level, "A_LEVEL", "loud", "one of Info, Debug"],
    [level, "A_LEVEL", "two\nlines", "one of Info, Debug"]
  ] as const)("says in one line what is wrong: %s", ([config, variable, value, expected]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(read<unknown>(config, { [variable]: value }))
      assert.strictEqual(error.message, `${variable}=${JSON.stringify(value)}: expected ${expected}`)
      assert.notInclude(error.message, "\n")
    })
  )

  it.effect.each([
    [port, "a port, a whole number from 0 to 65535", "`50051`"],
    [duration, 'a duration from 0 to 24d, such as "800 millis", "25 seconds" or "25s"', "`1 second`"],
    [
      Setting.duration("A", { description, default: Duration.millis(1_500), maximum: "1 hour" }),
      'a duration from 0 to 1h, such as "800 millis", "25 seconds" or "25s"',
      "`1500 millis`"
    ],
    [
      Setting.duration("A", { description, default: Duration.minutes(5) }),
      'a duration from 0 to 24d, such as "800 millis", "25 seconds" or "25s"',
      "`5 minutes`"
    ],
    [
      Setting.duration("A", { description, default: Duration.days(90), maximum: "36500 days" }),
      'a duration from 0 to 36500d, such as "800 millis", "25 seconds" or "25s"',
      "`90 days`"
    ],
    [host, "the name of a host or an IP address, without a port", "every address"],
    [level, "one of Info, Debug", "`Info`"],
    [
      Setting.count("A", { description, default: 1, unit: "bytes" }),
      "a whole number of bytes from 0 to 2147483647",
      "`1`"
    ],
    [
      Setting.optionalCount("A", { description, unset: "no limit", maximum: 9 }),
      "a whole number from 0 to 9",
      "no limit"
    ],
    [Setting.ratio("A", { description, default: 0.5 }), "a number from 0 to 1", "`0.5`"],
    [Setting.flag("A", { description, default: false }), "true or false", "`false`"]
  ] as const)("documents itself when it is read: %#", ([config, expected, unset]) =>
    Effect.gen(function* () {
      const read: Array<Setting.Documentation> = []
      yield* (config as Config.Config<unknown>)
        .parse(ConfigProvider.fromEnv({ env: {} }))
        .pipe(Effect.provideService(Setting.OnRead, (setting) => void read.push(setting)))
      assert.deepStrictEqual(
        read.map((setting) => [setting.description, setting.expected, setting.unset]),
        [[description, expected, unset]]
      )
    })
  )
})
