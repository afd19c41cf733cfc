/**
 * Preloaded into a server by {@link file://./profile.ts}: profiles it from one message of the parent to the next, which names the file
 * to write.
 */
import { writeFileSync } from "node:fs"
import { Session } from "node:inspector/promises"

const session = new Session()
session.connect()

process.on("message", async (file: string) => {
  if (file === "") {
    await session.post("Profiler.enable")
    await session.post("Profiler.setSamplingInterval", { interval: 200 })
    await session.post("Profiler.start")
  } else {
    const { profile } = await session.post("Profiler.stop")
    writeFileSync(file, JSON.stringify(profile))
  }
  process.send?.("done")
})
process.channel?.unref()
