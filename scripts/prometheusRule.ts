/**
 * Writes the PrometheusRule of k8s/components/monitoring, which is ops/prometheus/rules.yaml in the form that the Prometheus
 * operator takes: Kustomize reads no files from outside of k8s/.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

const head = `# Made from ops/prometheus/rules.yaml by \`npm run rules\`. Change that one.
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
