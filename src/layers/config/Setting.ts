/**
 * Settings from the environment, as {@link Config}s that say what was wrong: a bad one names the variable, its value and
 * what was expected, in one line. A variable that is set to nothing counts as not set, as OpenTelemetry has it, but for
 * those that would open a server to everybody: there it is an error.
 */
import { Config, ConfigProvider, Duration, Effect, Option } from "effect"

import { isHost } from "./Address.ts"
import { quoteText } from "./quoteText.ts"

/** The environment of the process. Effect's own provider does not tell a variable that is set to nothing from one that is not set. */
export const environment = (env?: Record<string, string>): ConfigProvider.ConfigProvider =>
  ConfigProvider.fromEnv({ ...(env === undefined ? {} : { env }), preserveEmptyStrings: true })

/** A variable with a value that cannot be. */
export class SettingError extends Config.ConfigError {
  readonly variable: string
  readonly value: string
  readonly expected: string

  constructor(options: { readonly variable: string; readonly value: string; readonly expected: string }) {
    const message = `${options.variable}=${quoteText(options.value)}: expected ${options.expected}`
    super(new ConfigProvider.SourceError({ message }))
    this.variable = options.variable
    this.value = options.value
    this.expected = options.expected
  }

  override get message() {
    return this.cause.message
  }
}

/**
 * A variable that may be absent, read by `parse`, which gives none for a value other than the `expected`. What is wrong with a
 * secret one is told without its value.
 */
export const optional = <A>(
  variable: string,
  options: {
    readonly expected: string
    readonly parse: (value: string) => Option.Option<A>
    readonly isSecret?: ((value: string) => boolean) | undefined
    /** Whether it is an error to set it to nothing, which otherwise counts as not set. */
    readonly refuseEmpty?: boolean | undefined
  }
): Config.Config<Option.Option<A>> =>
  Config.String(variable).pipe(
    Config.option,
    Config.mapEffect((value) =>
      options.refuseEmpty === true && Option.exists(value, isBlank)
        ? Effect.fail(
            new SettingError({
              variable,
              value: value.pipe(Option.getOrElse(() => "")),
              expected: `${options.expected}, or not to be set at all`
            })
          )
        : Effect.succeed(Option.filter(value, (text) => text !== ""))
    ),
    Config.mapEffect(
      Option.match({
        onNone: () => Effect.succeedNone,
        onSome: (value) =>
          Option.match(options.parse(value), {
            onNone: () =>
              Effect.fail(
                new SettingError({
                  variable,
                  value: options.isSecret?.(value) === true ? "<redacted>" : value,
                  expected: options.expected
                })
              ),
            onSome: (parsed) => Effect.succeedSome(parsed)
          })
      })
    )
  )

const isBlank = (text: string): boolean => text.trim() === ""

const withDefault =
  <A>(orElse: A) =>
  (config: Config.Config<Option.Option<A>>): Config.Config<A> =>
    Config.map(
      config,
      Option.getOrElse(() => orElse)
    )

/** Any text. */
export const text = (variable: string, orElse: string): Config.Config<string> =>
  optional(variable, { expected: "text", parse: Option.some }).pipe(withDefault(orElse))

/** The name or the address of a host, without a port. */
export const host = (variable: string): Config.Config<Option.Option<string>> =>
  optional(variable, {
    expected: "the name of a host or an IP address, without a port",
    parse: Option.liftPredicate(isHost)
  })

/** Yes or no. */
export const flag = (variable: string, orElse: boolean): Config.Config<boolean> =>
  optional(variable, {
    expected: "true or false",
    parse: (value) => (/^(true|false)$/i.test(value) ? Option.some(value.toLowerCase() === "true") : Option.none())
  }).pipe(withDefault(orElse))

/** A TCP port; 0 lets the system pick one. */
export const port = (variable: string, orElse: number): Config.Config<number> =>
  optional(variable, {
    expected: "a port, a whole number from 0 to 65535",
    parse: (value) => (/^\d{1,5}$/.test(value) && Number(value) <= 65535 ? Option.some(Number(value)) : Option.none())
  }).pipe(withDefault(orElse))

/** A whole number from a minimum (0) to a maximum (2^31 - 1). */
export const count = (variable: string, orElse: number, minimum = 0, maximum = maxCount): Config.Config<number> =>
  optional(variable, {
    expected: `a whole number from ${minimum} to ${maximum}`,
    parse: (value) =>
      /^\d{1,16}$/.test(value) && Number(value) >= minimum && Number(value) <= maximum
        ? Option.some(Number(value))
        : Option.none()
  }).pipe(withDefault(orElse))

/** What fits into 31 bits, as HTTP/2 has its numbers. */
const maxCount = 2 ** 31 - 1

/** A number from a minimum (0) to 1. */
export const ratio = (variable: string, orElse: number, minimum = 0): Config.Config<number> =>
  optional(variable, {
    expected: `a number from ${minimum} to 1`,
    parse: (value) =>
      /^(0?\.\d+|0|1(\.0+)?)$/.test(value) && Number(value) >= minimum ? Option.some(Number(value)) : Option.none()
  }).pipe(withDefault(orElse))

const shortUnits: { readonly [unit: string]: Duration.Unit } = { ms: "millis", s: "seconds", m: "minutes", h: "hours" }

/** The durations that a setting may have. */
export interface DurationRange {
  /** Zero, unless it would mean "never" or "always" by accident. */
  readonly minimum?: Duration.Input | undefined
  /** 24 days, which Node's timers can just wait; less for what is multiplied, or has jitter. */
  readonly maximum?: Duration.Input | undefined
}

/**
 * A span of time of a range, as Effect reads them ("800 millis", "25 seconds") or short ("800ms", "25s", "2m", "1h").
 */
export const duration = (
  variable: string,
  orElse: Duration.Duration,
  { maximum = "24 days", minimum = 0 }: DurationRange = {}
): Config.Config<Duration.Duration> => {
  const range = { minimum: Duration.fromInputUnsafe(minimum), maximum: Duration.fromInputUnsafe(maximum) }
  return optional(variable, {
    expected:
      `a duration from ${Duration.format(range.minimum)} to ${Duration.format(range.maximum)}, ` +
      'such as "800 millis", "25 seconds" or "25s"',
    parse: (value) => {
      const [, amount, unit] = /^(\d+(?:\.\d+)?)\s*([a-z]+)$/.exec(value.trim()) ?? []
      if (amount === undefined || unit === undefined) return Option.none()
      return Duration.fromInput(`${Number(amount)} ${shortUnits[unit] ?? (unit as Duration.Unit)}`).pipe(
        Option.filter(Duration.between(range))
      )
    }
  }).pipe(withDefault(orElse))
}

/** One of some words, in any case. */
export const oneOf = <Word extends string>(
  variable: string,
  words: ReadonlyArray<Word>
): Config.Config<Option.Option<Word>> =>
  optional(variable, {
    expected: `one of ${words.join(", ")}`,
    parse: (value) => Option.fromUndefinedOr(words.find((word) => word.toLowerCase() === value.toLowerCase()))
  })
