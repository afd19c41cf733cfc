import { defineConfig } from "vitest/config"

/** The bundles take a moment to start, and a browser or a compiler more than one. */
const slow = { testTimeout: 60_000, hookTimeout: 60_000 }

/** What replaces, crashes, stops and floods servers, or builds images: it takes minutes, and has the machine to itself. */
const fleet = [
  ...["Fleet*", "Fuzz", "Overload", "Collector"].map((name) => `test/integration/${name}.test.ts`),
  // what builds images takes both processors
  ...["Cluster", "Containers", "Images"].map((name) => `test/system/${name}.test.ts`)
]

/** A million calls: minutes of work, which says little more than the twenty thousand that `layers` makes. */
const million = ["test/layers/grpc/LeaksOfMillion.test.ts"]

/** What needs a patch of grpc-js: a patch for correctness has its tests in a file of its name. */
const patches = ["test/layers/grpc/grpc-js/{StatusOrder,ResponseCompression}.test.ts"]

const project = (name: string, include: ReadonlyArray<string>, options: object = {}) => ({
  test: { name, include: include.map((folder) => `test/${folder}/**/*.test.ts`), ...options }
})

export default defineConfig({
  test: {
    // what passing tests log is of no interest
    silent: "passed-only",
    projects: [
      // no network, no processes
      project("unit", ["domain", "recommendations", "marketplace"], { testTimeout: 20_000 }),
      // real servers and clients in this process
      project("layers", ["layers"], {
        testTimeout: 20_000,
        exclude: million,
        setupFiles: ["test/layers/setup/patched.ts"]
      }),
      // the same for gRPC on the public API of grpc-js alone
      project("layers-unpatched", ["layers/grpc"], {
        testTimeout: 20_000,
        exclude: [...million, ...patches],
        setupFiles: ["test/layers/setup/unpatched.ts"]
      }),
      // gRPC's interoperability tests, with what Node alone has
      project("interop", ["interop"], { testTimeout: 60_000 }),
      // the built bundles, as processes, and the tools that check the project
      project("integration", ["integration", "toolchain", "k8s"], { ...slow, exclude: fleet }),
      // many processes under load, for minutes; grpc-js asks the name server of the test
      {
        test: {
          name: "fleet",
          include: fleet,
          env: { GRPC_NODE_USE_ALTERNATIVE_RESOLVER: "true" },
          ...slow,
          testTimeout: 120_000,
          // after the others and one after the other: what they measure is theirs
          fileParallelism: false,
          sequence: { groupOrder: 1 }
        }
      },
      { test: { name: "million", include: million, testTimeout: 1_200_000, sequence: { groupOrder: 2 } } },
      // with what only a system package has: Python's grpcio, Chromium
      project("system", ["system"], { ...slow, exclude: fleet })
    ]
  }
})
