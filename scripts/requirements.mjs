/**
 * Checks the requirements of the scripts of package.json, and fails with one line that says what is missing and what to type. Plain
 * JavaScript, so that any Node can run it: the other scripts are TypeScript, which an old Node refuses with a stack.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs"

const root = new URL("..", import.meta.url)
const project = JSON.parse(readFileSync(new URL("package.json", root), "utf8"))

/** The npm package of Node for this platform, if there is one, and the version of all of them. */
const nodePackage = () => {
  const nodes = Object.entries(project.optionalDependencies).filter(([name]) => name.startsWith("node-"))
  const platform = process.platform === "win32" ? "win" : process.platform
  const name = nodes.map(([name]) => name).find((name) => name.endsWith(`-${platform}-${process.arch}`))
  return [name, nodes[0][1]]
}

/** The message for the first missing requirement. */
const missing = () => {
  for (const name of Object.keys(project.dependencies)) {
    if (!existsSync(new URL(`node_modules/${name}/package.json`, root))) {
      return `The package ${name} is not installed. Type: npm ci`
    }
  }
  // npm links the Node of the package for this platform into node_modules/.bin, which comes first in the PATH of scripts
  const [name, pinned] = nodePackage()
  const major = (version) => Number(version.split(".")[0])
  if (major(process.versions.node) < major(pinned)) {
    const remedy =
      name === undefined
        ? `Install it: npm has none for ${process.platform} ${process.arch}`
        : "Type: npm ci --include=optional"
    return `Node ${pinned} is needed, and this is ${process.version}. ${remedy}`
  }
  // the binaries of buf are in a package for each platform
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
