/**
 * Settings from the environment, as {@link Config}s with a description. A bad value fails with one line that names the variable,
 * its value and what was expected. A variable set to the empty string counts as unset, as OpenTelemetry specifies, unless
 * `refuseEmpty` makes it an error.
 */
import { Config, ConfigProvider, Context, Duration, Effect, Option } from "effect"

import { isHost } from "./Address.ts"
import { quoteText } from "./quoteText.ts"

/** The environment of the process. Unlike Effect's default provider it keeps empty values, so that they can be refused. */
export const environment = (env?: Record<string, string>): ConfigProvider.ConfigProvider =>
  ConfigProvider.fromEnv({ ...(env === undefined ? {} : { env }), preserveEmptyStrings: true })

/** The documentation of a setting; `npm run settings` writes it to docs/settings.md. */
export interface Documentation {
  readonly variable: string
  /** Sentences in Markdown. */
  readonly description: string
  /** What a value has to be: type, unit and range. */
  readonly expected: string
  /** The default, or what holds while the variable is not set, in Markdown. */
  readonly unset: string
}

/** Called with each setting when it is read. */
export const OnRead = Context.Reference<(setting: Documentation) => void>("layers/config/Setting/OnRead", {
  defaultValue: () => () => {}
})

/** A variable has a value that is not accepted. */
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

interface Options<A> extends Omit<Documentation, "variable"> {
  /** Gives none for a value other than the `expected`. */
  readonly parse: (value: string) => Option.Option<A>
  /** Whether error messages have to hide the value. */
  readonly isSecret?: ((value: string) => boolean) | undefined
  /** Makes a blank value an error: for variables whose absence means less protection. */
  readonly refuseEmpty?: boolean | undefined
}

/** A variable without a default. */
export const optional = <A>(
  variable: string,
  { description, expected, isSecret, parse, refuseEmpty, unset }: Options<A>
): Config.Config<Option.Option<A>> =>
  Config.String(variable).pipe(
    Config.option,
    Config.mapEffect(
      Effect.fnUntraced(function* (value) {
        const onRead = yield* OnRead
        onRead({ variable, description, expected, unset })
        const given = Option.getOrElse(value, () => "")
        const refuse = (shown: string, accepted = expected) =>
          Effect.fail(new SettingError({ variable, value: shown, expected: accepted }))
        if (refuseEmpty === true && Option.isSome(value) && isBlank(given)) {
          return yield* refuse(given, `${expected}, or not to be set at all`)
        }
        if (given === "") return Option.none()
        const parsed = parse(given)
        return Option.isSome(parsed) ? parsed : yield* refuse(isSecret?.(given) === true ? "<redacted>" : given)
      })
    )
  )

const isBlank = (text: string): boolean => text.trim() === ""

/** A setting with a default, which the documentation spells as `unset`, if given. */
export const withDefault = <A>(
  variable: string,
  options: Omit<Options<A>, "unset"> & { readonly default: A; readonly unset?: string | undefined }
): Config.Config<A> =>
  Config.map(
    optional(variable, { ...options, unset: `\`${options.unset ?? String(options.default)}\`` }),
    Option.getOrElse(() => options.default)
  )

interface WithDefault<A> {
  readonly description: string
  readonly default: A
}

/** Any text. */
export const text = (variable: string, options: WithDefault<string>): Config.Config<string> =>
  withDefault(variable, { ...options, expected: "text", parse: Option.some })

/** The name or the address of a host, without a port. */
export const host = (
  variable: string,
  options: Pick<Documentation, "description" | "unset">
): Config.Config<Option.Option<string>> =>
  optional(variable, {
    ...options,
    expected: "the name of a host or an IP address, without a port",
    parse: Option.liftPredicate(isHost)
  })

/** True or false, in any case. */
export const flag = (variable: string, options: WithDefault<boolean>): Config.Config<boolean> =>
  withDefault(variable, {
    ...options,
    expected: "true or false",
    parse: (value) => (/^(true|false)$/i.test(value) ? Option.some(value.toLowerCase() === "true") : Option.none())
  })

/** A TCP port; 0 selects a free port. */
export const port = (variable: string, options: WithDefault<number>): Config.Config<number> =>
  withDefault(variable, {
    ...options,
    expected: "a port, a whole number from 0 to 65535",
    parse: (value) => (/^\d{1,5}$/.test(value) && Number(value) <= 65535 ? Option.some(Number(value)) : Option.none())
  })

/** The whole numbers that a setting may have. */
interface CountRange {
  /** Such as bytes; without one it is the number of what the description names. */
  readonly unit?: string | undefined
  /** 0 by default. */
  readonly minimum?: number | undefined
  /** 2^31 - 1 by default, the largest number of HTTP/2 and the longest delay of a timer. */
  readonly maximum?: number | undefined
}

const wholeNumber = ({ maximum = 2 ** 31 - 1, minimum = 0, unit }: CountRange) => ({
  expected: `a whole number ${unit === undefined ? "" : `of ${unit} `}from ${minimum} to ${maximum}`,
  parse: (value: string) =>
    /^\d{1,16}$/.test(value) && Number(value) >= minimum && Number(value) <= maximum
      ? Option.some(Number(value))
      : Option.none()
})

/** A whole number of a range. */
export const count = (variable: string, options: WithDefault<number> & CountRange): Config.Config<number> =>
  withDefault(variable, { ...options, ...wholeNumber(options) })

/** A {@link count} without a default. */
export const optionalCount = (
  variable: string,
  options: Pick<Documentation, "description" | "unset"> & CountRange
): Config.Config<Option.Option<number>> => optional(variable, { ...options, ...wholeNumber(options) })

/** A number from a minimum (0 by default) to 1. */
export const ratio = (
  variable: string,
  { minimum = 0, ...options }: WithDefault<number> & { readonly minimum?: number | undefined }
): Config.Config<number> =>
  withDefault(variable, {
    ...options,
    expected: `a number from ${minimum} to 1`,
    parse: (value) =>
      /^(0?\.\d+|0|1(\.0+)?)$/.test(value) && Number(value) >= minimum ? Option.some(Number(value)) : Option.none()
  })

const shortUnits: { readonly [unit: string]: Duration.Unit } = {
  ms: "millis",
  s: "seconds",
  m: "minutes",
  h: "hours",
  d: "days"
}

/** The durations that a setting may have. */
export interface DurationRange {
  /** 0 by default. */
  readonly minimum?: Duration.Input | undefined
  /** 24 days by default, the longest that a timer of Node can wait. */
  readonly maximum?: Duration.Input | undefined
}

/** Follows the range of a duration in error messages. */
export const durationExamples = ', such as "800 millis", "25 seconds" or "25s"'

/** A duration of a range, in Effect's notation ("800 millis", "25 seconds") or short ("800ms", "25s", "2m", "1h", "90d"). */
export const duration = (
  variable: string,
  { maximum = "24 days", minimum = 0, ...options }: WithDefault<Duration.Duration> & DurationRange
): Config.Config<Duration.Duration> => {
  const range = { minimum: Duration.fromInputUnsafe(minimum), maximum: Duration.fromInputUnsafe(maximum) }
  return withDefault(variable, {
    ...options,
    unset: spell(options.default),
    expected: `a duration from ${Duration.format(range.minimum)} to ${Duration.format(range.maximum)}${durationExamples}`,
    parse: (value) => {
      const [, amount, unit] = /^(\d+(?:\.\d+)?)\s*([a-z]+)$/.exec(value.trim()) ?? []
      if (amount === undefined || unit === undefined) return Option.none()
      return Duration.fromInput(`${Number(amount)} ${shortUnits[unit] ?? (unit as Duration.Unit)}`).pipe(
        Option.filter(Duration.between(range))
      )
    }
  })
}

const millisOf = { day: 86_400_000, hour: 3_600_000, minute: 60_000, second: 1000, milli: 1 }

/** A duration as it can be set, in the largest unit that it is a multiple of. */
const spell = (value: Duration.Duration): string => {
  const millis = Duration.toMillis(value)
  const [unit, size] = (millis > 0 && Object.entries(millisOf).find(([, size]) => millis % size === 0)) || [
    "second",
    1000
  ]
  const amount = millis / size
  return `${amount} ${unit}${amount === 1 ? "" : "s"}`
}

/** One of some words, in any case. */
export const oneOf = <Word extends string>(
  variable: string,
  { words, ...options }: Pick<Documentation, "description" | "unset"> & { readonly words: ReadonlyArray<Word> }
): Config.Config<Option.Option<Word>> =>
  optional(variable, {
    ...options,
    expected: `one of ${words.join(", ")}`,
    parse: (value) => Option.fromUndefinedOr(words.find((word) => word.toLowerCase() === value.toLowerCase()))
  })
