/**
 * Both services in containers, started as the documentation says: by `docker run`, and by Docker Compose with its further files.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Layer, Schedule, Schema } from "effect"
import { HttpClient } from "effect/http"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import { Docker, root, type Service, services } from "./Docker.ts"

const adminPorts: { readonly [S in Service]: number } = { recommendations: 9101, marketplace: 9102 }

/** Runs the page's tests against a shop, as `npm run test:page` does. */
const pageTests = Effect.fnUntraced(function* (url: string) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const output = yield* spawner.string(
    ChildProcess.make(
      process.execPath,
      ["node_modules/vitest/vitest.mjs", "run", "--project", "integration", "test/integration/Page.test.ts"],
      { cwd: root, env: { PAGE_URL: url, NO_COLOR: "1" }, extendEnv: true, stdin: "ignore" }
    )
  )
  assert.match(output, /Tests +\d+ passed \(\d+\)/)
})

/**
 * Requests the shop's page until it shows books, for 10 s at least. Marketplace calls a replica that has come back within two seconds, and on a
 * busy machine the first calls can exceed the budget of a page.
 */
const page = Effect.fnUntraced(function* (url: string) {
  const attempt = HttpClient.get(url).pipe(
    Effect.flatMap((response) => Effect.map(response.text, (body) => ({ status: response.status, body })))
  )
  const countBooks = (body: string) => (body.match(/<li[ >]/g) ?? []).length
  const { body, status } = yield* Effect.repeat(attempt, {
    until: ({ body }) => countBooks(body) > 0,
    schedule: Schedule.spaced("50 millis"),
    times: 200
  })
  assert.strictEqual(status, 200)
  assert.strictEqual(countBooks(body), 3, body)
})

/** Requests a path of an admin port from within a container, and returns the body of a response with status 200. */
const fetchFrom = Effect.fnUntraced(function* (container: string, url: string) {
  const { docker } = yield* Docker
  const script = `fetch("${url}").then(async (response) => {
    console.log(await response.text())
    process.exitCode = response.status === 200 ? 0 : 1
  })`
  return yield* docker("exec", container, "node", "-e", script)
})

const exitCodeOf = Effect.fnUntraced(function* (container: string) {
  const { docker } = yield* Docker
  return (yield* docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", container)).trim()
})

/** Asserts that a stopped container has finished its work and ended by itself. */
const assertDrained = Effect.fnUntraced(function* (container: string) {
  const { docker } = yield* Docker
  assert.strictEqual(yield* exitCodeOf(container), "exited 0")
  const log = yield* docker("logs", container)
  assert.match(log, /SIGTERM received: draining/)
  assert.match(log, /(gRPC|HTTP) server closed: \d+ \w+ in flight finished, 0 aborted/)
})

/** Returns the names of the secrets that a container's own user can read. */
const secretsOf = Effect.fnUntraced(function* (container: string) {
  const { docker } = yield* Docker
  const script = `
    const { existsSync, readdirSync, readFileSync } = require("node:fs")
    const names = existsSync("/run/secrets") ? readdirSync("/run/secrets") : []
    for (const name of names) readFileSync("/run/secrets/" + name)
    console.log(names.sort().join(" "))`
  return (yield* docker("exec", container, "node", "-e", script)).trim()
})

/** The only block of commands in the documentation that contains a text. */
const documented = Effect.fnUntraced(function* (text: string) {
  const fs = yield* FileSystem.FileSystem
  const names = ["README.md", ...(yield* fs.readDirectory(`${root}docs`)).map((name) => `docs/${name}`)]
  const documents = yield* Effect.forEach(
    names.filter((name) => name.endsWith(".md")),
    (name) => fs.readFileString(`${root}${name}`)
  )
  const blocks = documents
    .flatMap((document) => Array.from(document.matchAll(/^```sh\n([^]*?)^```$/gm), ([, block = ""]) => block))
    .filter((block) => block.includes(text))
  assert.lengthOf(blocks, 1, `blocks of commands with ${text}`)
  return blocks[0] ?? ""
})

/** What the tests ask of a database of Compose: statements of SQL, which print their rows. */
type Query = (statement: string) => Effect.Effect<string, never, Docker>

/**
 * Runs the documented commands of a backup, changes the database, and runs those of the restore. `shell` runs commands beside the compose
 * files.
 */
const backUpAndRestore = Effect.fnUntraced(function* (
  isPostgres: boolean,
  query: Query,
  shell: (script: string) => Effect.Effect<string>
) {
  const nextId = Effect.map(query("SELECT next_id FROM reader_ids"), Number)
  yield* query("INSERT INTO readers (user_id, version) VALUES (2000000001, 1)")
  const before = yield* nextId
  yield* shell(yield* documented(isPostgres ? ">backup.dump" : ">backup.db"))
  yield* query("UPDATE readers SET user_id = 2000000002 WHERE user_id = 2000000001")
  yield* shell(yield* documented(isPostgres ? "<backup.dump" : "<backup.db"))
  assert.strictEqual((yield* query("SELECT user_id FROM readers WHERE user_id > 2000000000")).trim(), "2000000001")
  assert.strictEqual(yield* nextId, before + 1_000_000)
})

/** A catalogue, and ratings of one of its books and of books of the catalogue before. */
const imported = {
  "my-books.csv": `id,title,authors,year,isbn10,categories\n${[5000, 5001, 5002]
    .map((id) => `${id},A Book ${id},An Author,2026,,MYSTERY\n`)
    .join("")}`,
  "my-ratings.csv": "user_id,book_id,rating\n3,1,5\n3,2,1\n4,5000,3\n"
}

/** Runs the documented imports. Books that are not in the new catalogue can still be rated. */
const importFiles = Effect.fnUntraced(function* (
  folder: string,
  query: Query,
  shell: (script: string) => Effect.Effect<string>
) {
  const fs = yield* FileSystem.FileSystem
  for (const [name, text] of Object.entries(imported)) yield* fs.writeFileString(`${folder}/${name}`, text)
  yield* shell(yield* documented("dist/import.js catalog /import/"))
  assert.strictEqual((yield* query("SELECT count(*) FROM catalogs")).trim(), "2")
  assert.strictEqual((yield* query("SELECT count(*) FROM reader_books WHERE rating IS NOT NULL")).trim(), "3")
})

/** Runs a statement in the container of PostgreSQL. */
const queryPostgres =
  (container: string): Query =>
  (statement) =>
    Effect.flatMap(Docker, ({ docker }) =>
      docker(
        "exec",
        container,
        "psql",
        "--username=online_books",
        "--tuples-only",
        "--no-align",
        "--quiet",
        "--command",
        statement
      )
    )

/** Runs a statement in the container of the service. */
const querySqlite =
  (container: string): Query =>
  (statement) =>
    Effect.flatMap(Docker, ({ docker }) =>
      docker(
        "exec",
        container,
        "node",
        "-e",
        `const { DatabaseSync } = require("node:sqlite")
        const database = new DatabaseSync("/var/lib/online-books/books.db", { timeout: 10_000 })
        for (const row of database.prepare(${JSON.stringify(statement)}).all()) console.log(Object.values(row).join("|"))`
      )
    )

/** Reads how process 1 of a container runs, by a second process in it, which has the same limits. */
const inspector = `
  const { readFileSync, rmSync, writeFileSync } = require("node:fs")
  const read = (name) => readFileSync("/proc/1/" + name, "utf8")
  const field = (name) => new RegExp("^" + name + ":\\\\s*(.*)$", "m").exec(read("status"))[1].trim()
  const tryToWrite = (file) => {
    try { writeFileSync(file, "") } catch (error) { return error.code }
    rmSync(file)
    return "written"
  }
  console.log(JSON.stringify({
    uids: field("Uid"), gids: field("Gid"), groups: field("Groups"),
    capabilities: field("CapEff"), bounding: field("CapBnd"), noNewPrivileges: field("NoNewPrivs"),
    command: read("cmdline").split("\\0").slice(0, -1),
    options: read("environ").split("\\0").find((variable) => variable.startsWith("NODE_OPTIONS=")),
    memory: process.constrainedMemory(),
    heap: require("node:v8").getHeapStatistics().heap_size_limit / process.constrainedMemory(),
    app: tryToWrite("/app/dist/new"), tmp: tryToWrite("/tmp/new"), data: tryToWrite("/var/lib/online-books/new"), cwd: process.cwd()
  }))
`

const Inspected = Schema.fromJsonString(
  Schema.Struct({
    uids: Schema.String,
    gids: Schema.String,
    groups: Schema.String,
    capabilities: Schema.String,
    bounding: Schema.String,
    noNewPrivileges: Schema.String,
    command: Schema.Array(Schema.String),
    options: Schema.String,
    /** Bytes. */
    memory: Schema.Int,
    /** The heap's limit as a share of the memory. */
    heap: Schema.Finite,
    app: Schema.String,
    tmp: Schema.String,
    data: Schema.String,
    cwd: Schema.String
  })
)

/** Asserts that a container has no more rights than its service needs. */
const assertConfined = Effect.fnUntraced(function* (container: string, service: Service) {
  const { docker } = yield* Docker
  const json = yield* docker("exec", container, "node", "-e", inspector)
  const { groups, heap, ...inspected } = yield* Schema.decodeEffect(Inspected)(json)
  // 65 % of the memory for old objects, and some for young ones
  assert.isAtLeast(heap, 0.65)
  assert.isAtMost(heap, 0.8)
  assert.match(groups, /^(1000)?$/)
  assert.deepStrictEqual(inspected, {
    uids: "1000\t1000\t1000\t1000",
    gids: "1000\t1000\t1000\t1000",
    capabilities: "0000000000000000",
    bounding: "0000000000000000",
    noNewPrivileges: "1",
    command: ["node", `dist/${service}.js`],
    options: "NODE_OPTIONS=--enable-source-maps --max-old-space-size-percentage=65",
    memory: 384 * 1024 * 1024,
    app: "EROFS",
    tmp: "EROFS",
    // the image of Marketplace has no such folder
    data: service === "recommendations" ? "written" : "ENOENT",
    cwd: "/app"
  })
})

layer(Layer.mergeAll(Docker.layerBuilt, NodeServices.layer, NodeHttpClient.layerUndici), {
  excludeTestServices: true,
  timeout: "10 minutes"
})("containers", (it) => {
  it.effect(
    "started by the documented `docker run` commands serve pages, are confined, and drain on `docker stop`",
    () =>
      Effect.gen(function* () {
        const { docker, follow, shell } = yield* Docker
        // the commands name the containers, and this test removes them
        assert.strictEqual(
          yield* docker("ps", "--all", "--quiet", "--filter=name=^(recommendations|marketplace)$"),
          "",
          "containers called recommendations or marketplace exist already: remove them first"
        )
        yield* Effect.addFinalizer(() =>
          shell(
            "docker rm --force recommendations marketplace; docker network rm online-books || true; docker volume rm online-books || true"
          )
        )
        const start = yield* documented("docker run ")
        yield* shell(start.replaceAll("docker build ", "docker build --network host "))
        yield* (yield* follow("logs", "--follow", "recommendations")).match(/gRPC server listening on /)
        yield* (yield* follow("logs", "--follow", "marketplace")).match(/HTTP server listening on /)

        yield* page("http://localhost:5000/")
        yield* pageTests("http://localhost:5000")
        for (const service of services) {
          yield* assertConfined(service, service)
          // from another container, as a load balancer or Prometheus would
          for (const from of services) yield* fetchFrom(from, `http://${service}:${adminPorts[service]}/readyz`)
        }

        const [stop = "", ...remove] = (yield* documented("docker stop ")).split("&&")
        yield* shell(stop)
        for (const service of services) yield* assertDrained(service)
        yield* shell(remove.join("&&"))
        assert.strictEqual(yield* docker("ps", "--all", "--quiet", "--filter=name=^(recommendations|marketplace)$"), "")
        assert.strictEqual(yield* docker("network", "ls", "--quiet", "--filter=name=^online-books$"), "")
      }).pipe(Effect.scoped),
    300_000
  )

  it.effect.each([
    { name: "compose.yaml", hasTls: false, replicas: 1 },
    { name: "compose.yaml compose.tls.yaml compose.replicas.yaml", hasTls: true, replicas: 3 }
  ])(
    "started by Docker Compose become healthy, serve pages and drain: $name",
    ({ hasTls, name, replicas }) =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const { compose, docker, follow, shell } = yield* Docker
        const files = name.split(" ")
        // a folder of its own, since the certificates are made beside the files
        const folder = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-compose-" })
        for (const file of files) yield* fs.copy(`${root}${file}`, `${folder}/${file}`)
        yield* shell(`"${process.execPath}" scripts/certs.ts "${folder}/certs"`)

        const project = "online-books-test"
        const run = (...args: ReadonlyArray<string>) =>
          compose(["--project-name", project, ...files.flatMap((file) => ["--file", file]), ...args], {
            cwd: folder,
            // a port of the system's choice
            env: { SHOP_ADDRESS: "127.0.0.1:0" }
          })
        const containersOf = (service: Service | "postgres") =>
          Effect.map(
            docker(
              "ps",
              "--all",
              "--quiet",
              "--no-trunc",
              `--filter=label=com.docker.compose.project=${project}`,
              `--filter=label=com.docker.compose.service=${service}`
            ),
            (ids) => ids.split("\n").filter((id) => id !== "")
          )

        yield* Effect.addFinalizer(() => run("down", "--timeout", "0", "--volumes"))
        yield* run("up", "--detach", "--no-build")
        const recommendations = yield* containersOf("recommendations")
        const marketplaces = yield* containersOf("marketplace")
        assert.lengthOf(recommendations, replicas)
        assert.lengthOf(marketplaces, 1)
        const events = yield* follow(
          "events",
          "--since=1",
          "--filter=event=health_status",
          "--format={{.Actor.ID}} {{.Action}}"
        )
        for (const id of [...recommendations, ...marketplaces]) {
          yield* events.match(new RegExp(`^${id} health_status: healthy$`, "m"))
        }

        const url = `http://${(yield* run("port", "marketplace", "5000")).trim()}`
        yield* page(url)
        yield* pageTests(url)
        for (const id of recommendations) {
          yield* assertConfined(id, "recommendations")
          // each replica has answered calls
          const metrics = yield* fetchFrom(id, "http://127.0.0.1:9101/metrics")
          assert.match(metrics, /^grpc_server_handled_total\{[^}]*grpc_method="Recommend"[^}]*\} [1-9]/m)
        }
        for (const id of marketplaces) yield* assertConfined(id, "marketplace")

        // each service can read its own certificates and key, and other users of this machine can read none of them
        const secrets = (service: Service) => (hasTls ? `ca.pem ${service}-key.pem ${service}.pem` : "")
        for (const id of recommendations) assert.strictEqual(yield* secretsOf(id), secrets("recommendations"))
        for (const id of marketplaces) assert.strictEqual(yield* secretsOf(id), secrets("marketplace"))
        assert.strictEqual(process.getuid?.(), 0, "this test needs root to act as another user")
        yield* fs.chmod(folder, 0o755)
        for (const file of yield* fs.readDirectory(`${folder}/certs`)) {
          yield* shell(`! setpriv --reuid=1000 --regid=1000 --clear-groups cat "${folder}/certs/${file}" 2>/dev/null`)
        }

        const inFolder = (script: string) =>
          shell(
            `cd "${folder}"
            export COMPOSE_PROJECT_NAME=${project} COMPOSE_FILE=${files.join(":")} SHOP_ADDRESS=127.0.0.1:0
            ${script}`
          )
        const [database = ""] = yield* replicas > 1 ? containersOf("postgres") : Effect.succeed(recommendations)
        const query = replicas > 1 ? queryPostgres(database) : querySqlite(database)
        yield* importFiles(folder, query, inFolder)
        yield* backUpAndRestore(replicas > 1, query, inFolder)
        // the second time since the container was made
        const restarted = /gRPC server listening on [^]*gRPC server listening on /
        for (const id of recommendations) yield* (yield* follow("logs", "--follow", id)).match(restarted)
        yield* page(url)

        if (replicas > 1) {
          // pages are served while a replica is missing
          yield* docker("stop", recommendations[0] ?? "")
          for (const _ of recommendations) yield* page(url)
        }
        yield* run("stop")
        for (const id of [...recommendations, ...marketplaces]) yield* assertDrained(id)
      }).pipe(Effect.scoped),
    300_000
  )
})
