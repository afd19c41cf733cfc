/**
 * An index of what proto files define, by their descriptors: google.protobuf.FileDescriptorSet, as `buf build` and `protoc` write it.
 *
 * Descriptors stay encoded. Decoding and encoding them again would lose custom options and fields that the decoder does not know.
 */
import protobuf from "protobufjs"
import descriptor from "protobufjs/ext/descriptor/index.js"

/** A proto file. */
export interface File {
  readonly name: string
  /** An encoded google.protobuf.FileDescriptorProto. */
  readonly bytes: Uint8Array
  /** The names of the files that it imports. */
  readonly imports: ReadonlyArray<string>
}

/** Everything that a set of files defines, by full name without a leading dot. */
export interface Descriptors {
  readonly files: ReadonlyMap<string, File>
  /** The files of messages, fields, oneofs, enums, enum values, extensions, services and methods. */
  readonly symbols: ReadonlyMap<string, File>
  /** The files of the extensions of each message, by the numbers of the extensions. */
  readonly extensions: ReadonlyMap<string, ReadonlyMap<number, File>>
}

/** Indexes sets of descriptors. A file that is in several sets is taken from the first one. */
export const fromSets = (sets: ReadonlyArray<Uint8Array>): Descriptors => {
  const files = new Map<string, File>()
  const symbols = new Map<string, File>()
  const extensions = new Map<string, Map<number, File>>()

  const extensionsOf = (message: string) => {
    const known = extensions.get(message)
    if (known !== undefined) return known
    const none = new Map<number, File>()
    extensions.set(message, none)
    return none
  }

  const addFile = (bytes: Uint8Array) => {
    const { dependency = [], name, package: packageName = "", ...content } = decode(bytes)
    if (files.has(name)) return
    const file: File = { name, bytes, imports: dependency }
    files.set(name, file)

    const add = (scope: string, { name }: Named) => {
      const fullName = scope === "" ? name : `${scope}.${name}`
      symbols.set(fullName, file)
      return fullName
    }
    const addAll = (scope: string, named: ReadonlyArray<Named> = []) => named.forEach((one) => add(scope, one))
    const addScope = (scope: string, { enumType = [], extension = [] }: Scope) => {
      for (const each of enumType) {
        add(scope, each)
        // enum values have the scope of their enum
        addAll(scope, each.value)
      }
      for (const each of extension) {
        add(scope, each)
        extensionsOf(each.extendee.replace(/^\./, "")).set(each.number, file)
      }
    }
    const addMessage = (scope: string, message: Message) => {
      const fullName = add(scope, message)
      extensionsOf(fullName)
      addAll(fullName, message.field)
      addAll(fullName, message.oneofDecl)
      addScope(fullName, message)
      message.nestedType?.forEach((nested) => addMessage(fullName, nested))
    }

    addScope(packageName, content)
    content.messageType?.forEach((message) => addMessage(packageName, message))
    content.service?.forEach((service) => addAll(add(packageName, service), service.method))
  }

  for (const set of sets) for (const bytes of split(set)) addFile(bytes)
  return { files, symbols, extensions }
}

/** A file and its transitive imports, each once; the file itself is the first. */
export const closure = ({ files }: Descriptors, file: File): ReadonlyArray<File> => {
  // the iteration of a Set includes elements that are added meanwhile
  const all = new Set([file])
  for (const { imports } of all) {
    for (const name of imports) {
      const imported = files.get(name)
      if (imported !== undefined) all.add(imported)
    }
  }
  return [...all]
}

/** The encoded descriptors of a set. */
const split = (set: Uint8Array): ReadonlyArray<Uint8Array> => {
  const reader = protobuf.Reader.create(set)
  const files: Array<Uint8Array> = []
  while (reader.pos < reader.len) {
    const tag = reader.uint32()
    if (tag === fileTag) files.push(reader.bytes())
    else reader.skipType(tag & 7)
  }
  return files
}

/** The tag of FileDescriptorSet.file: field 1, wire type 2. */
const fileTag = (1 << 3) | 2

interface Named {
  readonly name: string
}

interface Scope {
  readonly enumType?: ReadonlyArray<Named & { readonly value?: ReadonlyArray<Named> }>
  readonly extension?: ReadonlyArray<Named & { readonly extendee: string; readonly number: number }>
}

interface Message extends Named, Scope {
  readonly field?: ReadonlyArray<Named>
  readonly oneofDecl?: ReadonlyArray<Named>
  readonly nestedType?: ReadonlyArray<Message>
}

/** The used part of a google.protobuf.FileDescriptorProto. Empty lists are undefined. */
interface FileContent extends Named, Scope {
  readonly package?: string
  readonly dependency?: ReadonlyArray<string>
  readonly messageType?: ReadonlyArray<Message>
  readonly service?: ReadonlyArray<Named & { readonly method?: ReadonlyArray<Named> }>
}

const decode = (bytes: Uint8Array): FileContent =>
  descriptor.FileDescriptorProto.toObject(descriptor.FileDescriptorProto.decode(bytes)) as FileContent
