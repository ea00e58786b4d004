"""What keeps pods waiting beside room: rules between pods, and domains that a gang must share.

Asked only about clusters in which some pod asks something of others; looks at each node.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bayplan import filters
from bayplan.aftermath import Aftermath
from bayplan.keys import NodeName, PodKey
from bayplan.peers import Meant, Neighbours
from bayplan.plan import Reason, Rejection
from bayplan.snapshot import Node, Pod, Snapshot
from bayplan.why.rooms import beside


class Obstacles:
    """The cluster as a plan leaves it, and the rules between its pods."""

    def __init__(self, aftermath: Aftermath) -> None:
        snapshot, goes = aftermath.snapshot, aftermath.goes
        self.meant = Meant(snapshot)
        after = Snapshot.of(snapshot.nodes, (_after(pod, goes) for pod in snapshot.pods))
        self._nodes = snapshot.nodes
        self._free = after.free()
        self._neighbours = Neighbours(after)
        self._gangs: dict[tuple[object, ...], Rejection | None] = {}

    def single(self, pod: Pod) -> Rejection | None:
        """Return which rule keeps the pod off every node with room; None if it is no rule."""
        roomy = [n for n in self._nodes if filters.reject(pod, n, self._free[n.name]) is None]
        return self._neighbours.over_nodes(pod, roomy)

    def takes(self, pod: Pod, node: Node) -> bool:
        """Return whether no rule between pods keeps the pod off the node as it is then."""
        return self._neighbours.refusal(pod, node) is None

    def gang(self, members: Sequence[Pod]) -> Rejection | None:
        """Return why a gang, which has room in all, may not use it; None if nothing is known.

        Gangs that are alike get one answer, which names none of them.
        """
        alike = (members[0].gang_topology, *((pod.kind, self.meant(pod)) for pod in members))
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
        fits = {value: self._fit(members, nodes) for value, nodes in sorted(domains.items())}
        best = max(fits, key=lambda value: fits[value])
        if fits[best] == len(members):
            return None
        message = (
            f"waits whole within one {key}: the best one, {best}, has room for {fits[best]} of its "
            f"{len(members)} pods"
        )
        return Rejection(reason=Reason.GANG_TOPOLOGY, message=message, resolvable=True)

    def _fit(self, members: Sequence[Pod], nodes: Sequence[Node]) -> int:
        """Return how many of the members have room on `nodes`, placed one by one."""
        free = {node.name: self._free[node.name] for node in nodes}
        for done, pod in enumerate(members):
            roomy = [n.name for n in nodes if filters.reject(pod, n, free[n.name]) is None]
            if not roomy:
                return done
            tightest = min(roomy, key=lambda name: (free[name].gpus, name))
            free[tightest] = beside(free[tightest], pod.requests)
        return len(members)


def _after(pod: Pod, goes: Mapping[PodKey, NodeName | None]) -> Pod:
    if pod.key not in goes:
        return pod
    return replace(pod, node=goes[pod.key], waiting=False)
