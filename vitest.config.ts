import { availableParallelism } from "node:os"

import { defineConfig } from "vitest/config"

/** For tests that start processes, browsers or compilers. */
const slow = { testTimeout: 60_000, hookTimeout: 60_000 }

/** Tests that load several servers for minutes, or build images: they run one after the other, after all others. */
const fleet = [
  ...["Fleet*", "Fuzz", "Overload", "Collector"].map((name) => `test/integration/${name}.test.ts`),
  ...["Containers", "Database", "Images", "Predecessor"].map((name) => `test/system/${name}.test.ts`)
]

/** Tests of scripts and of patches, which start many processes or load one for a while. */
const tools = [
  ...["Generate", "SupplyChain"].map((name) => `test/toolchain/${name}.test.ts`),
  "test/integration/CatalogImport.test.ts",
  "test/integration/NpmScripts.test.ts",
  "test/layers/grpc/grpc-js/compat.test.ts"
]

/** Runs a process under load for a while. */
const leaks = ["test/layers/grpc/Leaks.test.ts"]

/** A million calls take minutes. */
const million = ["test/layers/grpc/LeaksOfMillion.test.ts"]

/** Tests that need a patch of grpc-js: a patch for correctness has its tests in a file of its name. */
const patches = ["test/layers/grpc/grpc-js/{StatusOrder,ResponseCompression}.test.ts"]

/** The test files of folders. The files of a worker share its modules, which saves more time than the tests themselves take. */
const project = (name: string, include: ReadonlyArray<string>, options: object = {}) => ({
  test: { name, include: include.map((folder) => `test/${folder}/**/*.test.ts`), isolate: false, ...options }
})

/** Projects run in the order of their names. */
export default defineConfig({
  test: {
    // logs of passing tests are left out
    silent: "passed-only",
    // Vitest's default is one less than there are processors; many tests wait for processes
    maxWorkers: availableParallelism() + 1,
    projects: [
      // no network, no processes
      project("unit", ["domain", "recommendations", "marketplace"], { testTimeout: 20_000 }),
      // real servers and clients in this process
      project("layers", ["layers"], {
        testTimeout: 20_000,
        exclude: [...leaks, ...million, ...tools],
        setupFiles: ["test/layers/setup/patched.ts"]
      }),
      // the same for gRPC on the public API of grpc-js alone
      project("layers-unpatched", ["layers/grpc"], {
        testTimeout: 20_000,
        exclude: [...million, ...patches, ...tools],
        setupFiles: ["test/layers/setup/unpatched.ts"]
      }),
      // what is stored, in files of SQLite
      project("storage", ["storage"], { testTimeout: 60_000, exclude: ["test/storage/Postgres*.test.ts"] }),
      // the same in a PostgreSQL
      project("storage-postgres", ["storage"], {
        testTimeout: 60_000,
        hookTimeout: 60_000,
        globalSetup: "test/storage/postgresSetup.ts"
      }),
      // the same through PgBouncer, which brings no notifications
      {
        test: {
          name: "storage-pgbouncer",
          include: ["CatalogStore", "DatabaseSearch", "Ratings", "Readers"].map(
            (name) => `test/storage/${name}.test.ts`
          ),
          isolate: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
          globalSetup: "test/storage/pgBouncerSetup.ts"
        }
      },
      // gRPC's interoperability tests that need only Node
      project("interop", ["interop"], { testTimeout: 60_000 }),
      // the built bundles as processes, and the tools that check the project
      {
        test: {
          name: "integration",
          include: ["integration", "toolchain"].map((folder) => `test/${folder}/**/*.test.ts`),
          exclude: [...fleet, ...tools],
          isolate: false,
          ...slow
        }
      },
      { test: { name: "tools", include: [...tools, ...leaks], isolate: false, ...slow } },
      {
        test: {
          name: "fleet",
          include: [...fleet, "test/integration/Garbage.test.ts"],
          env: {
            // makes grpc-js ask the test's name server
            GRPC_NODE_USE_ALTERNATIVE_RESOLVER: "true",
            // five times those of `integration`
            GARBAGE_TOTAL: "100000"
          },
          ...slow,
          testTimeout: 120_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 }
        }
      },
      { test: { name: "million", include: million, testTimeout: 1_200_000, sequence: { groupOrder: 2 } } },
      // with system packages: Python's grpcio, Chromium
      project("system", ["system"], { ...slow, exclude: fleet })
    ]
  }
})
