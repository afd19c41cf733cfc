/**
 * A terminal whose output is paused does not block the process (needs python3, which can make one).
 */
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"

import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schedule } from "effect"
import { HttpClient } from "effect/http"

import { Installation } from "../integration/Installation.ts"

/**
 * Starts a program on a terminal that nobody reads once the program has said where it answers probes, writes its process id and that
 * port, and ends it with itself.
 */
const onTerminal = `
import os, pty, re, subprocess, sys
master, slave = pty.openpty()
child = subprocess.Popen(sys.argv[1:], stdout=slave, stdin=subprocess.DEVNULL)
text, port = b"", None
while port is None:
    text += os.read(master, 1024)
    port = re.search(rb"Admin server listening on http://127.0.0.1:(\\d+)\\D", text)
print(child.pid, int(port[1]), flush=True)
sys.stdin.read()
child.kill()
`

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })(
  "a process on a terminal",
  (it) => {
    it.effect("that is paused answers", () =>
      Effect.gen(function* () {
        const { folder } = yield* Installation
        const python = yield* Effect.acquireRelease(
          Effect.sync(() =>
            spawn("python3", ["-c", onTerminal, process.execPath, `${folder}/dist/recommendations.js`], {
              env: {
                PATH: process.env["PATH"],
                RECOMMENDATIONS_GRPC_PORT: "0",
                RECOMMENDATIONS_ADMIN_PORT: "0"
              },
              stdio: ["pipe", "pipe", "inherit"]
            })
          ),
          ({ stdin }) => Effect.sync(() => stdin.end())
        )
        const [pid = 0, adminPort] = yield* Effect.callback<ReadonlyArray<number>>((resume) => {
          createInterface(python.stdout).once("line", (line) => resume(Effect.succeed(line.split(" ").map(Number))))
        })
        const probe = Effect.timeout(HttpClient.get(`http://127.0.0.1:${adminPort}/livez`), "2 seconds")
        yield* Effect.retry(probe, { schedule: Schedule.spaced("50 millis"), times: 200 })
        // a line each, of which a terminal takes a few kilobytes
        for (let count = 0; count < 200; count++) {
          process.kill(pid, "SIGUSR2")
          assert.strictEqual((yield* probe).status, 200)
        }
      }).pipe(Effect.scoped)
    )
  }
)
