"""What a program has seen of nodes and pods, and what it assumes until the watch confirms it.

    pod seen waiting          assume(node, until)            watch: bound
    ───────────────▶ waiting ───────────────────▶ assumed ───────────────▶ placed
                        ▲                            │                        │
                        └──── forget / expire(now) ──┘    watch: deleted ─────┴──▶ gone

The webhook and the planner each feed one from their own watch. What the watch says always wins;
an assumption only adds room taken, and only until its deadline, so that a lost reply cannot hold
room for ever. Room is summed as events come in: `free` is O(1).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bayplan.snapshot import Node, NodeName, Pod, PodKey, Resources, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class _Assumption:
    uid: str
    node: NodeName
    until: float


class Cache:
    """Nodes and pods as last seen, with assumptions on top."""

    def __init__(self) -> None:
        self._nodes: dict[NodeName, Node] = {}
        self._pods: dict[PodKey, Pod] = {}
        self._assumed: dict[PodKey, _Assumption] = {}
        self._used: dict[NodeName, Resources] = defaultdict(Resources)
        self._replaced: dict[PodKey, str] = {}

    def replace_nodes(self, nodes: Iterable[Node]) -> None:
        """Take a full list of nodes; whatever is not in it is gone."""
        self._nodes = {node.name: node for node in nodes}

    def set_node(self, node: Node) -> None:
        """Take a node as it is now."""
        self._nodes[node.name] = node

    def remove_node(self, name: NodeName) -> None:
        """Drop a node; pods on it stay until the watch says otherwise."""
        self._nodes.pop(name, None)

    def replace_pods(self, pods: Iterable[Pod]) -> None:
        """Take a full list of pods; whatever is not in it is gone."""
        listed = {pod.key: pod for pod in pods}
        for key in [key for key in self._pods if key not in listed]:
            self.remove_pod(key)
        for pod in listed.values():
            self.set_pod(pod)

    def set_pod(self, pod: Pod) -> None:
        """Take a pod as it is now; an assumption it confirms or contradicts ends."""
        assumption = self._assumed.get(pod.key)
        if assumption and (assumption.uid != pod.uid or pod.node is not None):
            self.forget(pod.key)
        self._count(self._pods.get(pod.key), sign=-1)
        self._pods[pod.key] = pod
        self._replaced.pop(pod.key, None)
        if pod.replaces:
            self._replaced[pod.key] = pod.replaces
        self._count(pod, sign=1)

    def remove_pod(self, key: PodKey) -> None:
        """Drop a pod and what was assumed of it."""
        self.forget(key)
        self._replaced.pop(key, None)
        self._count(self._pods.pop(key, None), sign=-1)

    def assume(self, key: PodKey, node: NodeName, *, until: float) -> None:
        """Count a pod on `node` until the watch shows it there, or until the instant `until`."""
        self.forget(key)
        pod = self._pods.get(key)
        if pod is None or pod.node is not None:
            return
        self._assumed[key] = _Assumption(uid=pod.uid, node=node, until=until)
        self._used[node] = self._used[node] + pod.requests

    def forget(self, key: PodKey) -> None:
        """End an assumption; without one nothing happens."""
        assumption = self._assumed.pop(key, None)
        if assumption is not None:
            node = assumption.node
            self._used[node] = self._used[node] - self._pods[key].requests

    def expire(self, now: float) -> None:
        """End the assumptions whose deadline has passed."""
        for key in [key for key, a in self._assumed.items() if a.until <= now]:
            self.forget(key)

    def node(self, name: NodeName) -> Node | None:
        """Return a node, or None when it is not there."""
        return self._nodes.get(name)

    def pod(self, key: PodKey) -> Pod | None:
        """Return a pod as last seen, or None when it is not there."""
        return self._pods.get(key)

    def assumed_node(self, key: PodKey) -> NodeName | None:
        """Return where a pod is assumed to be, or None."""
        assumption = self._assumed.get(key)
        return assumption.node if assumption else None

    def is_replaced(self, uid: str) -> bool:
        """Return whether a pod has taken the place of the moved pod with this uid."""
        return uid in self._replaced.values()

    def free(self, name: NodeName) -> Resources:
        """Return a node's room that nothing uses; empty for an unknown node."""
        node = self._nodes.get(name)
        return node.allocatable - self._used[name] if node else Resources()

    def pods(self) -> Mapping[PodKey, Pod]:
        """Return the pods as last seen."""
        return self._pods

    def snapshot(self) -> Snapshot:
        """Return nodes and pods as one frozen value; assumed pods are on their node."""
        pods = (self._with_assumption(pod) for pod in self._pods.values())
        return Snapshot.of(self._nodes.values(), pods)

    def _with_assumption(self, pod: Pod) -> Pod:
        node = self.assumed_node(pod.key)
        return replace(pod, node=node, waiting=False, bound=False) if node else pod

    def _count(self, pod: Pod | None, *, sign: int) -> None:
        if pod is None or pod.node is None:
            return
        used = self._used[pod.node]
        self._used[pod.node] = used + pod.requests if sign > 0 else used - pod.requests
