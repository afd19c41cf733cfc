/**
 * Protos that are part of the program, as protobufjs' JSON, which scripts/generate.ts embeds: what it takes to send their messages and
 * to read them, and nothing else.
 *
 * proto-loader makes all that can be known of all messages, at once, and is itself most of the work: two APIs with health and reflection
 * started 18 ms later with it, an eighth of the whole (npm run bench). What is made here is made when it is used.
 */
import type { Deserialize, Serialize } from "@grpc/proto-loader"
import { Record } from "effect"
import protobuf from "protobufjs"

import type { ServerMethod, ServerMethods } from "./GrpcService.ts"

/** The options of proto-loader, as far as they are of any use here. */
export type Options = Pick<protobuf.IConversionOptions, "defaults" | "longs">

/** How a message is sent and read: as proto-loader does it. */
interface Message {
  readonly serialize: Serialize<object>
  readonly deserialize: Deserialize<object>
}

/** The services by their full names. */
export const services = (
  definitions: protobuf.INamespace,
  options: Options
): { readonly [service: string]: ServerMethods } => {
  const root = once(() => protobuf.Root.fromJSON(definitions).resolveAll())
  const all: { [service: string]: ServerMethods } = {}
  const add = (scope: string, { nested = {} }: protobuf.INamespace) => {
    for (const [name, object] of Object.entries(nested)) {
      const fullName = scope === "" ? name : `${scope}.${name}`
      if ("methods" in object) {
        const message = (name: string) =>
          lazily(
            once(() => root().lookupService(fullName).lookupType(name)),
            options
          )
        all[fullName] = Record.map(object.methods, (method, methodName): ServerMethod => ({
          path: `/${fullName}/${methodName}`,
          requestStream: method.requestStream ?? false,
          responseStream: method.responseStream ?? false,
          requestDeserialize: message(method.requestType).deserialize,
          responseSerialize: message(method.responseType).serialize
        }))
      } else if ("nested" in object) add(fullName, object)
    }
  }
  add("", definitions)
  return all
}

/** The messages by their full names. */
export const messages = (definitions: protobuf.INamespace, options: Options): ((name: string) => Message) => {
  const root = once(() => protobuf.Root.fromJSON(definitions).resolveAll())
  return (name) =>
    lazily(
      once(() => root().lookupType(name)),
      options
    )
}

const lazily = (type: () => protobuf.Type, options: Options): Message => ({
  serialize: (message) => type().encode(type().fromObject(message)).finish() as Buffer,
  deserialize: (bytes) => type().toObject(type().decode(bytes), options)
})

/** Makes something when it is first asked for. */
const once = <A>(make: () => A): (() => A) => {
  let made: { readonly value: A } | undefined
  return () => (made ??= { value: make() }).value
}
