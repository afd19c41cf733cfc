/**
 * Evaluates network policies by the rules of
 * https://kubernetes.io/docs/concepts/services-networking/network-policies/.
 */
import { BlockList, isIPv6 } from "node:net"

import type { Labels, LabelSelector, Of } from "./Manifests.ts"
import { selects } from "./Manifests.ts"

/** One end of a connection. */
export interface Peer {
  readonly name: string
  readonly address: string
  /** Missing for a node and for addresses outside the cluster. */
  readonly pod?: {
    readonly namespace: string
    readonly namespaceLabels: Labels
    readonly labels: Labels
    /** The numbers of its named ports. */
    readonly ports: { readonly [name: string]: number }
  }
}

/** The destination port of a connection. */
export interface Port {
  readonly protocol: "TCP" | "UDP"
  readonly port: number
}

type Policy = Of<"NetworkPolicy">
type Spec = NonNullable<Policy["spec"]>
type Rule = NonNullable<Spec["ingress"]>[number] & NonNullable<Spec["egress"]>[number]
type RulePeer = NonNullable<Rule["from"]>[number]
export type Direction = "Ingress" | "Egress"

/** The directions that a policy restricts for the pods that it selects. */
const directions = ({ egress, policyTypes }: Spec): ReadonlyArray<string> =>
  policyTypes ?? (egress === undefined ? ["Ingress"] : ["Ingress", "Egress"])

const networks = new Map<string, BlockList>()

const networkOf = (cidr: string): BlockList => {
  const known = networks.get(cidr)
  if (known !== undefined) return known
  const [address = "", bits] = cidr.split("/")
  const network = new BlockList()
  network.addSubnet(address, Number(bits), isIPv6(address) ? "ipv6" : "ipv4")
  networks.set(cidr, network)
  return network
}

const isWithin = (address: string, cidr: string): boolean =>
  isIPv6(address) === cidr.includes(":") && networkOf(cidr).check(address, isIPv6(address) ? "ipv6" : "ipv4")

const isPeer = ({ ipBlock, namespaceSelector, podSelector }: RulePeer, { address, pod }: Peer, namespace: string) => {
  if (ipBlock !== undefined) {
    return isWithin(address, ipBlock.cidr) && !ipBlock.except?.some((cidr) => isWithin(address, cidr))
  }
  if (pod === undefined) return false
  const isInNamespace =
    namespaceSelector === undefined
      ? pod.namespace === namespace
      : selects(namespaceSelector as LabelSelector, pod.namespaceLabels)
  return isInNamespace && selects((podSelector ?? {}) as LabelSelector, pod.labels)
}

const isPort = (rule: NonNullable<Rule["ports"]>[number], { port, protocol }: Port, to: Peer): boolean => {
  if ((rule.protocol ?? "TCP") !== protocol) return false
  if (rule.port === undefined) return true
  const first = typeof rule.port === "string" ? to.pod?.ports[rule.port] : rule.port
  return first !== undefined && port >= first && port <= (rule.endPort ?? first)
}

/**
 * Whether the policies of one pod allow a connection: from `other` to the pod (Ingress), or from the pod to `other` (Egress). A pod
 * that no policy selects allows all connections, as does a peer that is not a pod.
 */
export const allows = (
  policies: ReadonlyArray<Policy>,
  direction: Direction,
  self: Peer,
  other: Peer,
  port: Port
): boolean => {
  const { pod } = self
  if (pod === undefined) return true
  const specs = policies
    .filter(({ metadata }) => metadata.namespace === pod.namespace)
    .map(({ spec }): Spec => spec ?? {})
    .filter((spec) => directions(spec).includes(direction))
    .filter(({ podSelector }) => selects((podSelector ?? {}) as LabelSelector, pod.labels))
  const rules = specs.flatMap(
    (spec): ReadonlyArray<Rule> => (direction === "Ingress" ? spec.ingress : spec.egress) ?? []
  )
  const to = direction === "Ingress" ? self : other
  const isFor = ({ from, ports = [], to: destinations }: Rule) => {
    const peers = (direction === "Ingress" ? from : destinations) ?? []
    // an empty list matches all peers
    const isOfPeers = peers.length === 0 || peers.some((peer) => isPeer(peer, other, pod.namespace))
    return isOfPeers && (ports.length === 0 || ports.some((one) => isPort(one, port, to)))
  }
  return specs.length === 0 || rules.some(isFor)
}

/** Whether `from` can connect to a port of `to`. Both sides must allow it. */
export const allowed = (policies: ReadonlyArray<Policy>, from: Peer, to: Peer, port: Port): boolean =>
  allows(policies, "Egress", from, to, port) && allows(policies, "Ingress", to, from, port)
