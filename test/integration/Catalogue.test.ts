/**
 * Catalogue files of every size and condition, with the built Recommendations and a client.
 */
import { execFileSync } from "node:child_process"
import { existsSync } from "node:fs"
import { readFile, truncate, writeFile } from "node:fs/promises"
import { fileURLToPath } from "node:url"

import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"

import { RecommendationsService } from "../../src/generated/v1/services.ts"
import * as NodeGrpcChannel from "../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../src/layers/grpc/GrpcClient.ts"
import { Installation } from "./Installation.ts"
import { manyBooks } from "./ManyBooks.ts"

const clientOf = Effect.fnUntraced(function* (port: number) {
  const context = yield* Layer.build(NodeGrpcChannel.layer({ target: `localhost:${port}` }))
  return yield* Effect.provideContext(GrpcClient.make(RecommendationsService), context)
})

/** The resident memory of a process, in bytes. */
const residentMemory = (pid: number) =>
  Effect.promise(async () => Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024)

const goodbooks = fileURLToPath(new URL("../../../shared/data/goodbooks/catalog.csv", import.meta.url))

layer(Installation.layer, { excludeTestServices: true })("a catalogue file", (it) => {
  it.effect("of 10,000 books is served", () =>
    Effect.gen(function* () {
      const installation = yield* Installation
      yield* installation.write("many.csv", manyBooks(10_000))
      const { output, port } = yield* installation.start("recommendations", { CATALOG_FILE: "many.csv" })
      assert.match(yield* output, /"message":"Catalogue loaded".*"books":10000\b/)
      const client = yield* clientOf(port)
      const { books } = yield* client.Recommend({ maxResults: 100 })
      assert.strictEqual(new Set(books.map(({ id }) => id)).size, 100)
      const { categories } = yield* client.ListCategories({})
      assert.strictEqual(categories.length, 13)
      const [mystery] = categories
      const all = yield* client.Recommend({ category: 1, maxResults: 100 })
      assert.isTrue(all.books.every((book) => book.categories.includes(1)))
      assert.isAbove(mystery?.bookCount ?? 0, 1000)
    })
  )

  it.effect.runIf(existsSync("/proc/self/status"))(
    "of 500,000 books takes less than 600 bytes of memory for each",
    () =>
      Effect.gen(function* () {
        const installation = yield* Installation
        const residentWith = Effect.fnUntraced(function* (count: number) {
          yield* installation.write("size.csv", manyBooks(count))
          const { pid, port } = yield* installation.start("recommendations", { CATALOG_FILE: "size.csv" })
          const { books } = yield* (yield* clientOf(port)).Recommend({})
          assert.strictEqual(books.length, 10)
          return yield* residentMemory(pid)
        }, Effect.scoped)
        const few = yield* residentWith(100)
        const many = yield* residentWith(500_000)
        assert.isBelow((many - few) / 500_000, 600)
      })
  )

  // this catalogue is not part of the project, so it is tested only where it is available
  if (existsSync(goodbooks)) {
    it.effect("of 9,693 real books is served", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const { output, port } = yield* start("recommendations", { CATALOG_FILE: goodbooks })
        assert.match(yield* output, /"message":"Catalogue loaded".*"books":9693\b/)
        const { categories } = yield* (yield* clientOf(port)).ListCategories({})
        assert.deepStrictEqual(
          categories.map(({ bookCount }) => bookCount),
          [1899, 1802, 90, 2838, 2534, 1712, 1718, 1440, 643, 958, 2001, 1220, 1088]
        )
      })
    )
  }

  it.effect("with bad rows is rejected with an error for each", () =>
    Effect.gen(function* () {
      const installation = yield* Installation
      yield* installation.write(
        "bad.csv",
        'id,title,authors,year,isbn10,categories\nx,A,B,,,HORROR\n2,A,B,,,HORROR\n2,A,B,,,HORROR\n4,"A"B,B,,,HORROR\n'
      )
      const { exitCode, stderr } = yield* installation.run("recommendations", { CATALOG_FILE: "bad.csv" })
      assert.strictEqual(exitCode, 1)
      assert.deepStrictEqual(stderr.split("\n"), [
        `CATALOG_FILE="${installation.folder}/bad.csv": expected a catalogue, but 3 lines are invalid`,
        '  line 2: id: expected a whole number from 1 to 2147483647, got "x"',
        "  line 4: id: 2 duplicates line 3",
        "  line 5: parsing stopped at an invalid quote: Expected a delimiter or line break after a closing quote",
        ""
      ])
    })
  )

  it.effect("with 20,000 bad rows is rejected with an error for each", () =>
    Effect.gen(function* () {
      const installation = yield* Installation
      const rows = Array.from({ length: 20_000 }, (_, index) => `x${index},A,B,,,HORROR\n`).join("")
      yield* installation.write("worse.csv", `id,title,authors,year,isbn10,categories\n${rows}`)
      const { stderr } = yield* installation.run("recommendations", { CATALOG_FILE: "worse.csv" })
      assert.strictEqual(stderr.trimEnd().split("\n").length, 20_001)
    })
  )

  it.effect.each([
    { what: "a device", path: "/dev/zero", reason: "it is not a regular file (CharacterDevice)" },
    { what: "a pipe without a writer", path: "fifo", reason: "it is not a regular file (FIFO)" },
    { what: "a directory", path: "data", reason: "it is not a regular file (Directory)" },
    {
      what: "a sparse file of 5 GB",
      path: "sparse",
      reason: "the file has more than the 104857600 bytes of CATALOG_MAX_SIZE"
    },
    {
      what: "larger than CATALOG_MAX_SIZE",
      path: "data/books.csv",
      env: { CATALOG_MAX_SIZE: "1000" },
      reason: "the file has more than the 1000 bytes of CATALOG_MAX_SIZE"
    },
    {
      what: "a sparse file of 100 MB",
      path: "zeros",
      reason: "its header is not id,title,authors,year,isbn10,categories"
    }
  ])("that is $what is rejected with one line", ({ env = {}, path, reason }) =>
    Effect.gen(function* () {
      const installation = yield* Installation
      const file = path.startsWith("/") ? path : `${installation.folder}/${path}`
      if (path === "fifo") execFileSync("mkfifo", [file])
      if (path === "sparse") yield* Effect.promise(() => writeFile(file, "").then(() => truncate(file, 5e9)))
      if (path === "zeros") yield* Effect.promise(() => writeFile(file, "").then(() => truncate(file, 1e8)))
      const { exitCode, stderr } = yield* installation.run("recommendations", { CATALOG_FILE: file, ...env })
      const [line, ...others] = stderr.trimEnd().split("\n")
      assert.strictEqual(line, `CATALOG_FILE="${file}": expected a catalogue, but ${reason}`)
      assert.isAtMost(others.length, 1)
      assert.strictEqual(exitCode, 1)
    })
  )

  it.effect("with authors separated by semicolons is served, with warnings", () =>
    Effect.gen(function* () {
      const installation = yield* Installation
      const rows = Array.from({ length: 30 }, (_, index) => `${index + 1},A,Ann A; Bob B,,,HORROR\n`).join("")
      yield* installation.write("odd.csv", `id,title,authors,year,isbn10,categories\n${rows}`)
      const { output } = yield* installation.start("recommendations", { CATALOG_FILE: "odd.csv" })
      const text = yield* output
      assert.match(text, /"message":"Catalogue loaded".*"books":30\b/)
      assert.match(text, /"line":2,.*"authors: names are separated by commas, got \\"Ann A; Bob B\\""/)
      assert.strictEqual(text.match(/names are separated by commas/g)?.length, 20)
      assert.match(text, /"message":"10 further warnings about the catalogue suppressed"/)
    })
  )

  it.effect("that does not exist is rejected", () =>
    Effect.gen(function* () {
      const installation = yield* Installation
      const { exitCode, stderr } = yield* installation.run("recommendations", { CATALOG_FILE: "nope.csv" })
      assert.strictEqual(exitCode, 1)
      assert.strictEqual(
        stderr,
        `CATALOG_FILE="${installation.folder}/nope.csv": expected a catalogue, but there is no such file\n`
      )
    })
  )
})
