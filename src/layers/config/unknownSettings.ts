/**
 * Warns about environment variables that look like settings but are none, such as misspelt ones. Unset settings have defaults, so nothing
 * else would reveal them.
 */
import { ConfigProvider, Effect } from "effect"

/** Variables with these prefixes also belong to OpenTelemetry and to grpc-js. */
const sharedPrefixes = new Set(["OTEL", "GRPC"])

/** The variables with the prefix of a known one that are not known, each with the nearest known name. */
export const find = Effect.fnUntraced(function* (known: ReadonlyArray<string>) {
  const provider = yield* ConfigProvider.ConfigProvider
  const prefixes = new Set(known.map((variable) => variable.slice(0, variable.indexOf("_"))))
  const own = [...prefixes].filter((prefix) => !sharedPrefixes.has(prefix))
  const variables = (yield* Effect.forEach(own, (prefix) => variablesUnder(provider, [prefix]))).flat()
  const all = new Set(variables)
  return variables
    .filter((variable) => !known.includes(variable) && !isInjected(variable, all))
    .map((variable) => ({ variable, nearest: nearestOf(variable, known) }))
})

/** The variables that begin with segments, which underscores separate. */
const variablesUnder = (
  provider: ConfigProvider.ConfigProvider,
  path: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<string>, ConfigProvider.SourceError> =>
  Effect.gen(function* () {
    const node = yield* provider.load(path)
    const own = node?.value === undefined ? [] : [path.join("_")]
    const children = node?._tag === "Record" ? [...node.keys] : []
    const deeper = yield* Effect.forEach(children, (child) => variablesUnder(provider, [...path, child]))
    return [...own, ...deeper.flat()]
  })

/** Kubernetes sets X_SERVICE_HOST and more for each Service X of the namespace, unless `enableServiceLinks` is false. */
const isInjected = (variable: string, all: ReadonlySet<string>): boolean => {
  const [, service] = /^(.+?)_(?:PORT|SERVICE)(?:_|$)/.exec(variable) ?? []
  return service !== undefined && all.has(`${service}_SERVICE_HOST`)
}

const nearestOf = (variable: string, known: ReadonlyArray<string>): string =>
  known.toSorted((a, b) => distance(variable, a) - distance(variable, b))[0] ?? ""

/** The Levenshtein distance: how many characters have to be added, removed or replaced. */
const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row.at(-1)!
}

/** Logs a warning for each unknown setting, before an effect. */
export const warnAbout =
  (known: ReadonlyArray<string>) =>
  <A, E, R>(main: Effect.Effect<A, E, R>): Effect.Effect<A, E | ConfigProvider.SourceError, R> =>
    find(known).pipe(
      Effect.flatMap(
        Effect.forEach(({ nearest, variable }) =>
          Effect.logWarning(`Unknown setting ${variable}: did you mean ${nearest}?`)
        )
      ),
      Effect.andThen(main)
    )
