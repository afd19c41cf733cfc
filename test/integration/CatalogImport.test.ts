/**
 * Catalogues that are imported while the built Recommendations runs, or between its starts.
 */
import { readFile } from "node:fs/promises"

import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"

import type { Book__Output } from "../../src/generated/v1/onlinebooks/recommendations/v1/Book.ts"
import { CatalogService, RecommendationsService } from "../../src/generated/v1/services.ts"
import * as NodeGrpcChannel from "../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../src/layers/grpc/GrpcClient.ts"
import { Installation } from "./Installation.ts"

const connect = Effect.fnUntraced(function* (port: number) {
  const context = yield* Layer.build(NodeGrpcChannel.layer({ target: `localhost:${port}` }))
  return yield* Effect.provideContext(
    Effect.all({ catalog: GrpcClient.make(CatalogService), recommendations: GrpcClient.make(RecommendationsService) }),
    context
  )
})

/** A catalogue file whose books have the number of their edition as year, and titles that make a leak of a catalogue visible. */
const edition = (number: number, count: number): string => {
  const title = "A title of usual words ".repeat(20)
  const rows = Array.from(
    { length: count },
    (_, index) => `${index + 1},${title},Author ${index % 97},${number},,HORROR`
  )
  return ["id,title,authors,year,isbn10,categories", ...rows, ""].join("\n")
}

/** The edition of an answer: the same of all its books. */
const editionOf = (books: ReadonlyArray<Book__Output>): number | undefined => {
  const [found, ...others] = new Set(books.map(({ year }) => year))
  assert.deepStrictEqual(others, [], "an answer mixes two catalogues")
  return found
}

/** The resident memory of a process, in bytes. */
const residentMemory = (pid: number) =>
  Effect.promise(async () => Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024)

/** Waits until Recommendations serves an edition. */
const served = Effect.fnUntraced(function* ({ recommendations }: Effect.Success<ReturnType<typeof connect>>) {
  return editionOf((yield* recommendations.Recommend({ maxResults: 100 })).books)
})

layer(Installation.layer, { excludeTestServices: true })("npm run import -- catalog", (it) => {
  it.effect(
    "replaces 10,000 books ten times under load: no failed call, no mixed answer, memory as before",
    () =>
      Effect.gen(function* () {
        const installation = yield* Installation
        const DATABASE_URL = `sqlite:${installation.folder}/replaced.db`
        yield* installation.write("edition-1.csv", edition(1, 10_000))
        const { pid, port, written } = yield* installation.start("recommendations", {
          DATABASE_URL,
          CATALOG_FILE: "edition-1.csv",
          MODEL_REFRESH: "50 millis"
        })
        const clients = yield* connect(port)
        const { catalog, recommendations } = clients
        let answers = 0
        const ask = Effect.gen(function* () {
          const recommended = yield* recommendations.Recommend({ maxResults: 100 })
          const inCategory = yield* recommendations.Recommend({ category: 13, maxResults: 100 })
          const listed = yield* catalog.ListBooks({ pageSize: 50 })
          const found = yield* catalog.SearchBooks({ query: "author 7" })
          for (const { books } of [recommended, inCategory, listed, found]) {
            assert.isAbove(books.length, 0)
            editionOf(books)
            answers++
          }
        })
        const memory: Array<number> = []
        const replace = Effect.gen(function* () {
          for (let number = 2; number <= 11; number++) {
            const file = `${installation.folder}/edition.csv`
            yield* installation.write("edition.csv", edition(number, 10_000))
            assert.deepInclude(yield* installation.runImport(["catalog", file], { DATABASE_URL }), {
              exitCode: 0,
              stderr: ""
            })
            yield* written(`"catalogId":${number},`)
            assert.strictEqual(yield* served(clients), number)
            memory.push(yield* residentMemory(pid))
          }
        })
        const load = Effect.all(
          Array.from({ length: 3 }, () => Effect.forever(ask)),
          { concurrency: "unbounded" }
        )
        yield* Effect.raceFirst(replace, load)
        assert.isAbove(answers, 1_000)
        // a leak would keep several megabytes of each catalogue
        const [before, after] = [Math.max(...memory.slice(0, 3)), Math.min(...memory.slice(-3))]
        assert.isBelow(after, before + 20_000_000)
      }),
    120_000
  )

  it.effect("is kept by a restart after SIGKILL, with another file or the same", () =>
    Effect.gen(function* () {
      const installation = yield* Installation
      const DATABASE_URL = `sqlite:${installation.folder}/kept.db`
      for (const number of [1, 2]) yield* installation.write(`kept-${number}.csv`, edition(number, 100))
      const start = () =>
        installation.start("recommendations", {
          DATABASE_URL,
          CATALOG_FILE: "kept-1.csv",
          MODEL_REFRESH: "20 millis"
        })
      const first = yield* start()
      assert.strictEqual(yield* served(yield* connect(first.port)), 1)
      // npm runs scripts in the project's root; a relative path is the caller's
      const { exitCode } = yield* installation.runImport(["catalog", "kept-2.csv"], {
        DATABASE_URL,
        INIT_CWD: installation.folder
      })
      assert.strictEqual(exitCode, 0)
      yield* first.written(`"catalogId":2,`)
      yield* first.signal("SIGKILL")
      yield* Effect.exit(first.exitCode)
      const second = yield* start()
      assert.strictEqual(yield* served(yield* connect(second.port)), 2)
      assert.notInclude(yield* second.output, "Catalogue imported")
      // an older file, by hand
      yield* installation.runImport(["catalog", `${installation.folder}/kept-1.csv`], { DATABASE_URL })
      yield* second.written(`"catalogId":3,`)
      assert.strictEqual(yield* served(yield* connect(second.port)), 1)
    })
  )

  it.effect.each([
    { what: "no command", args: [], message: /^Expected a command/ },
    { what: "another command", args: ["books"], message: /^Unknown subcommand "books"/ },
    {
      what: "a misspelt command",
      args: ["catalogs"],
      message: /^Unknown subcommand "catalogs" for "import" Did you mean/
    },
    { what: "no file", args: ["catalog"], message: /^Missing required argument: FILE/ },
    {
      what: "an argument too many",
      args: ["database", "sqlite:/tmp/x.db", "postgres://shop:secret word@db/shop"],
      message: /^Unexpected positional argument: "postgres:\/\/<redacted> \(--help lists them\)$/
    },
    {
      what: "a URL in place of a command",
      args: ["postgres://shop:secret@db/shop"],
      message: /^Unknown subcommand "postgres:\/\/<redacted> \(--help lists them\)$/
    },
    {
      what: "a password in an unknown flag",
      args: ["database", "--password=secret", "sqlite:/tmp/x.db"],
      message: /^Unrecognized flag: --password/
    },
    {
      what: "a URL in place of a catalogue",
      args: ["catalog", "postgres://shop:secret@db/shop"],
      message: /^FILE: expected a path, not a URL$/
    },
    {
      what: "a URL in place of ratings",
      args: ["ratings", "postgres://shop:secret@db/shop"],
      message: /^FILE: expected a path, not a URL$/
    },
    {
      what: "a strict import of the standard input",
      args: ["ratings", "--strict", "/dev/stdin"],
      input: "user_id,book_id,rating\n1,1,5\n",
      message:
        /^FILE="\/dev\/stdin": expected a file of ratings, but --strict reads the file twice, so it has to be a regular file$/
    },
    {
      what: "a second use of the standard input",
      args: ["ratings", "/dev/stdin"],
      env: { CATALOG_FILE: "/dev/stdin" },
      input: edition(1, 3),
      message: /^FILE="\/dev\/stdin": expected a file of ratings, but the standard input has been read already$/
    },
    {
      what: "a missing file",
      args: ["catalog", "/nowhere/books.csv"],
      message: /^FILE="\/nowhere\/books.csv": expected a catalogue, but there is no such file$/
    },
    {
      what: "a device",
      args: ["catalog", "/dev/zero"],
      message: /^FILE="\/dev\/zero": expected a catalogue, but it is not a regular file \(CharacterDevice\)$/
    },
    {
      what: "a file that is too large",
      args: ["catalog", "/proc/self/exe"],
      env: { CATALOG_MAX_SIZE: "10" },
      message: /: expected a catalogue, but the file has more than the 10 bytes of CATALOG_MAX_SIZE$/
    },
    {
      what: "a database that cannot be reached",
      args: ["catalog", "/dev/null"],
      env: { DATABASE_URL: "postgres://shop:secret@127.0.0.1:1/shop" },
      message:
        /^The database is unavailable: postgres:\/\/\S+: the connection failed \(connect ECONNREFUSED 127.0.0.1:1\)$/
    },
    {
      what: "a bad URL of the database",
      args: ["catalog", "/dev/null"],
      env: { DATABASE_URL: "mysql://shop:secret@127.0.0.1/shop" },
      message: /^DATABASE_URL="<redacted>": expected sqlite:PATH/
    }
  ])("exits with 1 and one line: $what", ({ args, env = {}, input, message }) =>
    Effect.gen(function* () {
      const { exitCode, stderr } = yield* (yield* Installation).runImport(
        args,
        { DATABASE_URL: "sqlite::memory:", ...env },
        input
      )
      assert.match(stderr.trimEnd(), message)
      assert.deepStrictEqual([exitCode, stderr.trimEnd().includes("\n"), stderr.includes("secret")], [1, false, false])
    })
  )

  it.effect("reads the standard input, for containers", () =>
    Effect.gen(function* () {
      const installation = yield* Installation
      const { exitCode, stderr, stdout } = yield* installation.runImport(
        ["catalog", "/dev/stdin"],
        { DATABASE_URL: "sqlite::memory:" },
        edition(1, 3_000)
      )
      assert.deepStrictEqual([exitCode, stderr], [0, ""])
      assert.match(stdout, /"message":"Catalogue imported".*"path":"\/dev\/stdin".*"books":3000\b/)
    })
  )
})
