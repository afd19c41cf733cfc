/**
 * A plain object that is made when something of it is first asked for. It is what it stands for in every way that a program can look
 * at it: spread, `in`, `Object.keys`, JSON, `console.log`, schemas, deep equality. Unlike a class with getters, which has no keys of its
 * own, and unlike getters on each object, which take longer to make than the object.
 *
 * Without it, objects are made at once: correct, and slower for those of whom nothing is asked.
 */

/** What Node's `util.inspect` asks an object for (https://nodejs.org/api/util.html#utilinspectcustom). */
const customInspect = Symbol.for("nodejs.util.inspect.custom")

/** Makes an object, when there is need to. */
export abstract class Source<A extends object> {
  #value: A | undefined

  protected abstract make(): A

  get value(): A {
    return (this.#value ??= this.make())
  }

  // Node prints what is behind a proxy, and not what the proxy shows, but asks with the proxy as `this`
  [customInspect](_depth: number, options: object, inspect: (value: unknown, options: object) => string): string {
    return inspect((sourceOf(this) as Source<A>).value, options)
  }
}

/** What asks an object for its source. */
const ownSource = Symbol("source")

/** It cannot be changed: a reader of a book does not write into it. */
const handler: ProxyHandler<Source<object>> = {
  get: (source, key) => (key === ownSource ? source : Reflect.get(source.value, key)),
  has: (source, key) => Reflect.has(source.value, key),
  ownKeys: (source) => Reflect.ownKeys(source.value),
  getOwnPropertyDescriptor: (source, key) => {
    const descriptor = Reflect.getOwnPropertyDescriptor(source.value, key)
    return descriptor === undefined ? undefined : { ...descriptor, configurable: true }
  },
  getPrototypeOf: (source) => Reflect.getPrototypeOf(source.value),
  set: () => false,
  defineProperty: () => false,
  deleteProperty: () => false,
  setPrototypeOf: () => false,
  preventExtensions: () => false
}

/** The object that a source makes. */
export const of = <A extends object>(source: Source<A>): A => new Proxy(source, handler) as unknown as A

/** The source of an object that {@link of} has given. */
export const sourceOf = (object: object): unknown => (object as { readonly [ownSource]?: unknown })[ownSource]
