/**
 * The methods and messages of protos that scripts/generate.ts has embedded in the program as protobufjs' JSON.
 *
 * Definitions are parsed when one of their messages is first used, since a program uses few of the messages that its protos define.
 * proto-loader does the same for every message at once, which delays the start.
 */
import { Record } from "effect"
import protobuf from "protobufjs"

import type { Kind } from "./GrpcCall.ts"
import type { GrpcService } from "./GrpcService.ts"
import * as MessageCodec from "./MessageCodec.ts"

/** Definition of a method, for servers and clients. */
export interface ServiceMethod {
  /** "/package.Service/Method". */
  readonly path: string
  readonly kind: Kind
  /** Whether the proto marks it NO_SIDE_EFFECTS or IDEMPOTENT. */
  readonly isIdempotent: boolean
  readonly request: MessageCodec.Codec
  readonly response: MessageCodec.Codec
}

/** The methods of a service by name. */
export interface ServiceMethods {
  readonly [method: string]: ServiceMethod
}

export const methods = ({ definitions, name }: GrpcService<unknown>): ServiceMethods => {
  const service = serviceOf(definitions, name)
  const codecOf = (type: string) => MessageCodec.make(() => rootOf(definitions).lookupService(name).lookupType(type))
  return Record.map(service.methods, (method, methodName): ServiceMethod => ({
    path: `/${name}/${methodName}`,
    kind: kindOf(method),
    isIdempotent: idempotencyLevels.has(method.options?.["idempotency_level"]),
    request: codecOf(method.requestType),
    response: codecOf(method.responseType)
  }))
}

/** The codec of a message, by its full name. */
export const codec = (definitions: protobuf.INamespace, name: string): MessageCodec.Codec =>
  MessageCodec.make(() => rootOf(definitions).lookupType(name))

const roots = new WeakMap<protobuf.INamespace, protobuf.Root>()

const rootOf = (definitions: protobuf.INamespace): protobuf.Root => {
  const known = roots.get(definitions)
  if (known !== undefined) return known
  const root = protobuf.Root.fromJSON(definitions)
  root.resolveAll()
  roots.set(definitions, root)
  return root
}

const serviceOf = (definitions: protobuf.INamespace, name: string): protobuf.IService => {
  const found = name
    .split(".")
    .reduce<protobuf.AnyNestedObject | undefined>(
      (scope, part) => (scope !== undefined && "nested" in scope ? scope.nested?.[part] : undefined),
      definitions
    )
  if (found === undefined || !("methods" in found)) throw new Error(`No service ${name} in its definitions`)
  return found
}

const kindOf = ({ requestStream = false, responseStream = false }: protobuf.IMethod): Kind =>
  requestStream ? (responseStream ? "bidi" : "clientStream") : responseStream ? "serverStream" : "unary"

const idempotencyLevels: ReadonlySet<unknown> = new Set(["IDEMPOTENT", "NO_SIDE_EFFECTS"])
