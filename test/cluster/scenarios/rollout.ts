/**
 * Every pod of both Deployments is replaced.
 */
import { type Scenario, underLoad } from "../Scenario.ts"
import { restart } from "../Shop.ts"

export const rollout: Scenario = {
  name: "rollout",
  description: "Restarts both Deployments at once",
  run: underLoad("both restarted", restart)
}
