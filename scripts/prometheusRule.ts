/**
 * Writes the PrometheusRule of k8s/components/monitoring from ops/prometheus/rules.yaml, for the Prometheus operator. A copy is needed
 * because Kustomize reads no files outside of k8s/.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

const head = `# Generated from ops/prometheus/rules.yaml by \`npm run rules\`; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: online-books
  namespace: online-books
spec:
`

const rules = readFileSync(`${root}ops/prometheus/rules.yaml`, "utf8")
const groups = rules.slice(rules.indexOf("groups:\n")).replaceAll(/^(?=.)/gm, "  ")
writeFileSync(`${root}k8s/components/monitoring/prometheusrule.yaml`, head + groups)
