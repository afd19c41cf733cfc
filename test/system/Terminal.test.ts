/**
 * A terminal whose output is paused does not block a service. The test needs python3, which creates the terminal.
 */
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"

import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schedule } from "effect"
import { HttpClient } from "effect/http"

import { Installation } from "../integration/Installation.ts"

/**
 * A script that starts a program on a terminal, reads the terminal until the program has logged the port of its probes, and never again.
 * It prints the program's process id and that port, and kills the program when its own input ends.
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

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })("a service", (it) => {
  it.effect("answers probes while the output of its terminal is paused", () =>
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
      // each signal logs a line; the terminal buffers a few kilobytes
      for (let count = 0; count < 200; count++) {
        process.kill(pid, "SIGUSR2")
        assert.strictEqual((yield* probe).status, 200)
      }
    }).pipe(Effect.scoped)
  )
})
