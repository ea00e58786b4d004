"""What keeps pods waiting beside room: rules between pods, and domains that a gang must share.

Asked only about clusters in which some pod asks something of others; looks at each node.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bayplan.aftermath import Aftermath
from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Reason, Rejection
from bayplan.rules import filters
from bayplan.rules.peers import Meant, Neighbours, asks, selects
from bayplan.rules.reach import Reach
from bayplan.why.leaving import Rules
from bayplan.why.rooms import beside


class Obstacles(Rules):
    """The cluster as a plan leaves it, and the rules between its pods."""

    def __init__(self, aftermath: Aftermath) -> None:
        snapshot, goes = aftermath.snapshot, aftermath.goes
        self.meant = Meant(snapshot)
        after = Snapshot.of(snapshot.nodes, (_after(pod, goes) for pod in snapshot.pods))
        self._nodes, self._reach = snapshot.nodes, Reach(snapshot.nodes)
        self._free = after.free()
        self._runs: dict[GangKey, set[NodeName]] = defaultdict(set)
        for pod in after.in_gangs:
            if pod.gang is not None and pod.node is not None:
                self._runs[pod.gang].add(pod.node)
        self._arrivals = [
            pod
            for pod in after.placed()
            if pod.constraints.peers is not None and pod.key in goes and asks(pod).spreads
        ]
        self._labels = {node.name: dict(node.labels) for node in after.nodes}
        self._neighbours = Neighbours(after)
        self._gangs: dict[tuple[object, ...], Rejection | None] = {}

    def single(self, pod: Pod) -> Rejection | None:
        """Return which rule keeps the pod off every node with room; None if it is no rule."""
        return self._neighbours.over_nodes(pod, self._roomy(pod))

    def for_now(self, pod: Pod) -> Rejection | None:
        """Return which pod that the plan places keeps the pod waiting until it runs, if any does.

        Asked of pods that no rule keeps off every node with room.
        """
        told = None
        for node in self._roomy(pod) if self._arrivals else ():
            exceeded = self._neighbours.exceeds(pod, node, self._arrivals)
            if exceeded is None and self.takes(pod, node):
                return None
            told = told or exceeded
        return told

    def free_without_its_own(self, pods: Sequence[Pod]) -> bool:
        """Return whether no rule would be left for the pods if they asked nothing of others."""
        whole = any(pod.gang_topology and pod.gang_topology.required for pod in pods)
        others = self._arrivals or any(map(self._neighbours.is_repelled, pods))
        return not whole and not others

    def _roomy(self, pod: Pod) -> Sequence[Node]:
        reached = map(self._nodes.__getitem__, self._reach.of_all(pod.constraints.volumes))
        return [n for n in reached if filters.reject(pod, n, self._free[n.name]) is None]

    def takes(self, pod: Pod, node: Node) -> bool:
        """Return whether rules between pods, and where its gang runs, leave the node to the pod."""
        homes, key = self._homes(pod)
        if homes and dict(node.labels).get(key) not in homes:
            return False
        return self._neighbours.refusal(pod, node) is None

    def look(self, pod: Pod) -> object:
        """Return who means the pod, and where its gang runs if it must be there as well."""
        return (self.meant(pod), self._homes(pod))

    def needs(self, pod: Pod, other: Pod) -> bool:
        """Return whether the pod is to be beside the other, or is spread with it."""
        rules = asks(pod)
        meant = [term.pods for term in rules.attracts] + [spread.pods for spread in rules.spreads]
        return any(selects(each, other) for each in meant)

    def bind(self, pods: Sequence[Pod]) -> bool:
        """Return whether places of these depend on each other or on others, beside the room."""
        return any(
            pod.constraints.peers is not None
            or self.meant(pod)
            or (pod.gang_topology is not None and pod.gang_topology.required)
            for pod in pods
        )

    def _homes(self, pod: Pod) -> tuple[frozenset[str], str]:
        """Return in which domains of which label the gang of the pod runs and must stay."""
        key = pod.gang_topology.required if pod.gang_topology else ""
        if not key or pod.gang is None:
            return frozenset(), ""
        nodes = (self._labels.get(name, {}) for name in self._runs.get(pod.gang, ()))
        return frozenset(labels[key] for labels in nodes if key in labels), key

    def gang(self, members: Sequence[Pod]) -> Rejection | None:
        """Return why a gang, which has room in all, may not use it; None if nothing is known.

        Gangs that are alike get one answer, which names none of them.
        """
        home = self._homes(members[0])
        alike = (members[0].gang_topology, home, *((pod.kind, self.meant(pod)) for pod in members))
        if alike not in self._gangs:
            self._gangs[alike] = self._gang(members)
        return self._gangs[alike]

    def _gang(self, members: Sequence[Pod]) -> Rejection | None:
        key = members[0].gang_topology.required if members[0].gang_topology else ""
        if key:
            scattered = self._scattered(members, key)
            if scattered is not None:
                return scattered
        for pod in members:
            refusal = self.single(pod)
            if refusal is not None and len(members) == 1:
                return refusal
            if refusal is not None:
                message = f"waits whole, and one of its pods finds no place: {refusal.message}"
                return replace(refusal, message=message)
        return None

    def _scattered(self, members: Sequence[Pod], key: str) -> Rejection | None:
        """Return how far the gang gets in the best domain of `key`; None if one has room."""
        domains: dict[str, list[Node]] = defaultdict(list)
        for node in self._nodes:
            value = dict(node.labels).get(key)
            if value is not None:
                domains[value].append(node)
        if not domains:
            message = f"must be within one {key}, and no node has that label"
            return Rejection(reason=Reason.GANG_TOPOLOGY, message=message)
        homes, _ = self._homes(members[0])
        fits = {
            value: self._fit(members, nodes)
            for value, nodes in sorted(domains.items())
            if not homes or value in homes
        }
        best = max(fits, key=lambda value: fits[value])
        if fits[best] == len(members):
            return None
        if homes:
            room = f"for {fits[best]} of its {len(members)} pods" if fits[best] else "for none"
            message = f"must be within {key}={best}, where its gang runs: there is room {room}"
            return Rejection(reason=Reason.GANG_TOPOLOGY, message=message, resolvable=True)
        message = (
            f"waits whole within one {key}: the best one, {best}, has room for {fits[best]} of its "
            f"{len(members)} pods"
        )
        return Rejection(reason=Reason.GANG_TOPOLOGY, message=message, resolvable=True)

    def _fit(self, members: Sequence[Pod], nodes: Sequence[Node]) -> int:
        """Return how many of the members have room on `nodes`, placed one by one."""
        free = {node.name: self._free[node.name] for node in nodes}
        done = 0
        for pod in members:
            roomy = [n.name for n in nodes if filters.reject(pod, n, free[n.name]) is None]
            if not roomy:
                continue
            done += 1
            tightest = min(roomy, key=lambda name: (free[name].gpus, name))
            free[tightest] = beside(free[tightest], pod.requests)
        return done


def _after(pod: Pod, goes: Mapping[PodKey, NodeName | None]) -> Pod:
    if pod.key not in goes:
        return pod
    return replace(pod, node=goes[pod.key], waiting=False)
