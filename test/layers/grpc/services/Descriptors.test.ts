import { assert, describe, it } from "@effect/vitest"
import descriptor from "protobufjs/ext/descriptor/index.js"

import * as Descriptors from "../../../../src/layers/grpc/services/Descriptors.ts"

/** A set of files, each as it would be written with `bytes` of what no decoder knows behind it. */
const setOf = (files: ReadonlyArray<object>, bytes: ReadonlyArray<number> = []) =>
  Buffer.concat(
    files.map((file) => {
      const encoded = Buffer.concat([descriptor.FileDescriptorProto.encode(file).finish(), Uint8Array.from(bytes)])
      assert.isBelow(encoded.length, 128)
      return Buffer.concat([Uint8Array.of(0x0a, encoded.length), encoded])
    })
  )

// field 1000 of a varint that is 1, as an option of the file would be in its options
const unknown = [0xc0, 0x3e, 0x01]

const base = { name: "base.proto", package: "a.b", messageType: [{ name: "Base", nestedType: [{ name: "Inner" }] }] }
const extending = {
  name: "extending.proto",
  dependency: ["base.proto"],
  extension: [{ name: "late", extendee: ".a.b.Base", number: 200 }],
  messageType: [{ name: "M", extension: [{ name: "early", extendee: ".a.b.Base", number: 100 }] }]
}

describe("descriptors", () => {
  it("are the bytes that were given, whatever is in them", () => {
    const set = setOf([base], unknown)
    const { files } = Descriptors.fromSets([set])
    const { bytes } = files.get("base.proto")!
    assert.deepStrictEqual(Buffer.from(bytes), set.subarray(2))
    assert.deepStrictEqual([...bytes.subarray(-3)], unknown)
  })

  it("say where an extension is defined", () => {
    const { extensions, symbols } = Descriptors.fromSets([setOf([base, extending])])
    const numbers = extensions.get("a.b.Base")
    assert.strictEqual(numbers?.get(100)?.name, "extending.proto")
    assert.strictEqual(numbers?.get(200)?.name, "extending.proto")
    assert.strictEqual(numbers?.size, 2)
    assert.strictEqual(extensions.get("a.b.Base.Inner")?.size, 0)
    assert.isUndefined(extensions.get("a.b.Other"))
    assert.strictEqual(symbols.get("late")?.name, "extending.proto")
    assert.strictEqual(symbols.get("M.early")?.name, "extending.proto")
  })

  it("of one file in two sets are those of the first", () => {
    const { files, symbols } = Descriptors.fromSets([
      setOf([base]),
      setOf([{ name: "base.proto", package: "a.b", messageType: [{ name: "Other" }] }, extending])
    ])
    assert.strictEqual(files.size, 2)
    assert.isUndefined(symbols.get("a.b.Other"))
  })

  it("come with all that they need, once, even in a circle or without a file", () => {
    const file = (name: string, ...dependency: ReadonlyArray<string>) => ({ name, dependency })
    const all = Descriptors.fromSets([setOf([file("d"), file("c", "d"), file("b", "d", "none"), file("a", "b", "c")])])
    const names = (name: string) => Descriptors.closure(all, all.files.get(name)!).map(({ name }) => name)
    assert.deepStrictEqual(names("a"), ["a", "b", "c", "d"])
    assert.deepStrictEqual(names("d"), ["d"])
    const circle = Descriptors.fromSets([setOf([file("x", "y"), file("y", "x")])])
    assert.lengthOf(Descriptors.closure(circle, circle.files.get("y")!), 2)
  })
})
