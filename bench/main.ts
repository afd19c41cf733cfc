/**
 * Compares this project's servers with other implementations in one run: `npm run bench` prints a table for each row of {@link rows}.
 *
 * Options: `--only three,page` runs some rows, `--names ours,hand` some contestants (by a part of their name), `--effort 0.5` half as
 * many rounds, `--processes 3` sets the processes of each contestant, `--json` prints all measurements as JSON.
 */
import { spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { cpus, release, tmpdir, totalmem } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"

import * as Contestants from "./Contestants.ts"
import * as Load from "./Load.ts"
import * as Processes from "./Processes.ts"
import * as Report from "./Report.ts"
import type { Result, Row } from "./Row.ts"
import { rows } from "./Rows.ts"

const machine = () => ({
  processor: cpus()[0]?.model.trim() ?? "unknown",
  cores: cpus().length,
  memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
  kernel: `Linux ${release()}`,
  node: process.version,
  date: new Date().toISOString().slice(0, 10)
})

const main = async () => {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      names: { type: "string" },
      effort: { type: "string", default: "1" },
      processes: { type: "string", default: "3" },
      json: { type: "boolean", default: false }
    }
  })
  const only = values.only?.split(",")
  const unknown = only?.find((key) => !rows.some((row) => row.key === key))
  if (unknown !== undefined) {
    console.error(`Unknown row ${unknown}; expected some of ${rows.map(({ key }) => key).join(",")}`)
    process.exitCode = 1
    return
  }
  const missing = Load.missing()
  if (missing.length > 0) {
    console.error(`Missing load generators: ${missing.join(", ")}`)
    process.exitCode = 1
    return
  }
  if (Processes.isPinned) spawnSync("taskset", ["-cp", String(Processes.otherCore), String(process.pid)])
  else console.error("taskset (util-linux) is missing, or there is one core only: load and servers share cores")

  const folder = mkdtempSync(join(tmpdir(), "bench-"))
  const results: Array<{ readonly row: Row; readonly result: Result }> = []
  const { cores, date, kernel, memory, node, processor } = machine()
  if (!values.json) console.log(`${date}, ${cores} x ${processor}, ${memory}, ${kernel}, Node ${node}\n`)
  try {
    await Contestants.prepare()
    for (const row of rows) {
      if (only !== undefined && !only.includes(row.key)) continue
      const sink = Processes.start({
        core: Processes.otherCore,
        command: process.execPath,
        args: [join(import.meta.dirname, "otlpSink.ts")]
      })
      const [port] = (await once(sink, "message")) as [number]
      const result = await row.run({
        folder,
        collector: `http://127.0.0.1:${port}`,
        effort: Number(values.effort),
        processes: Number(values.processes),
        names: values.names?.split(",") ?? []
      })
      Processes.stop()
      if (result.lines.length === 0) continue
      results.push({ row, result })
      if (!values.json) console.log(`${Report.format(row, result)}\n`)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
  if (!values.json) return
  const printed = results.map(({ result, row }) => ({
    key: row.key,
    title: row.title,
    ...result,
    verdicts: Report.verdicts(row, result)
  }))
  console.log(JSON.stringify({ machine: machine(), rows: printed }, undefined, 2))
}

await main()
process.exit()
