"""What a program has seen of nodes and pods, and what it assumes until the watch confirms it.

    pod waiting, or not seen yet    assume(pod, node, until)         watch: has a node
    ────────────────────────────▶ ───────────────────────▶ assumed ────────────────▶ placed
                               ▲                              │                         │
                               └─────── forget / expire ──────┘    watch: deleted ──────┴──▶ gone

The webhook and the planner each feed one from their own watch. What the watch says always wins;
an assumption only adds room taken, and only until its deadline, so that a lost reply cannot hold
room for ever. It belongs to a uid: a pod made again under the same name is another one. A pod that
was told two nodes counts on both, for nobody knows which reply was heard. Room is summed as events
come in: `free` is O(1), and nodes with equal room share one value of it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Final

from bayplan.cluster.keys import NodeName, Owner, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot

_NOTHING: Final = Resources()

#: More pods than a cluster ever has.
_PLENTY: Final = 2**31

#: No versions are known: every event counts.
_UNKNOWN: Final[Mapping[str, int]] = MappingProxyType({})

#: Values of room that are kept to be shared; what overflows is only equal, not the same.
_SHARED_ROOMS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """A pod that counts on `node` until the instant `until`, seen there or not."""

    pod: Pod
    node: NodeName
    until: float


class Cache:
    """Nodes and pods as last seen, with assumptions on top."""

    def __init__(self) -> None:
        self._nodes: dict[NodeName, Node] = {}
        self._pods: dict[PodKey, Pod] = {}
        self._versions: dict[PodKey, int] = {}
        self._assumed: dict[str, dict[NodeName, Assumption]] = {}  # the newest last
        self._deadlines: list[tuple[float, str]] = []  # a heap; some belong to nothing any more
        self._used: dict[NodeName, Resources] = {}
        self._free: dict[NodeName, Resources] = {}
        self._rooms: dict[Resources, Resources] = {}
        self._replaced: Counter[tuple[str, str]] = Counter()  # uids of moved pods and of owners
        self._followers: list[set[NodeName]] = []

    def follow(self) -> set[NodeName]:
        """Return a set to which every node is added that changes from now on, or its room does.

        Whoever asked for it takes out what it has looked at.
        """
        changed = set(self._nodes)
        self._followers.append(changed)
        return changed

    def replace_nodes(self, nodes: Iterable[Node]) -> None:
        """Take a full list of nodes; whatever is not in it is gone."""
        gone = self._nodes.keys()
        self._nodes = {node.name: node for node in nodes}
        self._free = {}
        for name in gone | self._nodes.keys():
            self._weigh(name)

    def set_node(self, node: Node) -> None:
        """Take a node as it is now."""
        self._nodes[node.name] = node
        self._weigh(node.name)

    def remove_node(self, name: NodeName) -> None:
        """Drop a node; pods on it stay until the watch says otherwise."""
        self._nodes.pop(name, None)
        self._free.pop(name, None)
        self._weigh(name)

    def replace_pods(self, pods: Iterable[Pod], versions: Mapping[str, int] = _UNKNOWN) -> None:
        """Take a full list of pods, with versions by uid; whatever is not in it is gone.

        What was assumed of a pod that was never seen stays: the list may be older than the pod.
        """
        for _ in self.replacing_pods(pods, versions):
            pass

    def replacing_pods(
        self, pods: Iterable[Pod], versions: Mapping[str, int], *, at_once: int = _PLENTY
    ) -> Iterator[None]:
        """Do the same in steps of so many pods; between them others may look.

        Who came counts before who has gone, so no room looks free that is taken. A list counts
        whatever was seen before: of a store that was restored, all versions may be lower.
        """
        listed = {pod.key: pod for pod in pods}
        for number, pod in enumerate(listed.values(), start=1):
            self._versions.pop(pod.key, None)
            self.set_pod(pod, version=versions.get(pod.uid, 0))
            if number % at_once == 0:
                yield
        for number, key in enumerate([key for key in self._pods if key not in listed], start=1):
            self.remove_pod(key)
            if number % at_once == 0:
                yield

    def set_pod(self, pod: Pod, *, version: int = 0) -> None:
        """Take a pod as it is now, unless a later version of it was seen; 0 is no version.

        An assumption that it confirms or contradicts ends.
        """
        seen = self._pods.get(pod.key)
        if seen is not None and seen.uid == pod.uid and version:
            if version < self._versions.get(pod.key, 0):
                return
        elif seen is not None and seen.uid != pod.uid:
            self.forget(seen.uid)
        counted = _room_of(seen)
        if pod.node is not None:
            counted += self._dismiss(pod.uid)
        self._pods[pod.key] = pod
        self._versions[pod.key] = version
        self._count_replaced(seen, -1)
        self._count_replaced(pod, 1)
        if counted != _room_of(pod):  # nearly always the same: most news of a pod is of its status
            for node, requests in counted:
                self._give_back(node, requests)
            for node, requests in _room_of(pod):
                self._take(node, requests)

    def remove_pod(self, key: PodKey, uid: str = "") -> None:
        """Drop a pod and what was assumed of it; with a uid, only the pod with that uid."""
        seen = self._pods.get(key)
        self.forget(uid or (seen.uid if seen else ""))
        if seen is None or uid not in {"", seen.uid}:
            return
        del self._pods[key]
        self._versions.pop(key, None)
        self._count_replaced(seen, -1)
        for node, requests in _room_of(seen):
            self._give_back(node, requests)

    def assume(self, pod: Pod, node: NodeName, *, until: float) -> None:
        """Count a pod on `node` until the watch shows where it is, or until the instant `until`.

        The pod need not have been seen: whoever asks may be ahead of our watch. It goes on counting
        on a node that it was told before: a late repetition of an older call may be all that this
        is, while the pod is bound there.
        """
        if self.seen_node(pod) is not None:
            self.forget(pod.uid)
            return
        self._unassume(pod.uid, node)
        assumption = Assumption(pod=pod, node=node, until=until)
        self._assumed.setdefault(pod.uid, {})[node] = assumption
        heappush(self._deadlines, (until, pod.uid))
        self._take(node, pod.requests)

    def forget(self, uid: str) -> None:
        """End what is assumed of a pod; without anything nothing happens."""
        for node, requests in self._dismiss(uid):
            self._give_back(node, requests)

    def expire(self, now: float) -> None:
        """End the assumptions whose deadline has passed."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, uid = heappop(self._deadlines)
            for assumption in [*self._assumed.get(uid, {}).values()]:
                if assumption.until <= now:  # not assumed anew since
                    self._unassume(uid, assumption.node)

    def _unassume(self, uid: str, node: NodeName) -> None:
        assumption = self._assumed.get(uid, {}).pop(node, None)
        if assumption is None:
            return
        if not self._assumed[uid]:
            del self._assumed[uid]
        self._give_back(node, assumption.pod.requests)

    def node(self, name: NodeName) -> Node | None:
        """Return a node, or None when it is not there."""
        return self._nodes.get(name)

    def pod(self, key: PodKey) -> Pod | None:
        """Return a pod as last seen, or None when it is not there."""
        return self._pods.get(key)

    def pod_at(self, key: PodKey, uid: str, version: int) -> Pod | None:
        """Return the pod if exactly this version of it was seen last."""
        pod = self._pods.get(key)
        same = pod is not None and pod.uid == uid and self._versions.get(key) == version != 0
        return pod if same else None

    def assumed_nodes(self, uid: str) -> tuple[NodeName, ...]:
        """Return where a pod is assumed to be, the node it was told last first."""
        return tuple(reversed(self._assumed.get(uid, ())))

    def seen_node(self, pod: Pod) -> NodeName | None:
        """Return the node on which this very pod was last seen, or None."""
        seen = self._pods.get(pod.key)
        return seen.node if seen is not None and seen.uid == pod.uid else None

    def assumptions(self) -> tuple[Assumption, ...]:
        """Return what is assumed now."""
        return tuple(each for told in self._assumed.values() for each in told.values())

    def held_by(self, pod: Pod, name: NodeName) -> Resources:
        """Return what this very pod takes of the node's room already, seen there or assumed."""
        told = self._assumed.get(pod.uid)
        if told is not None:
            return told[name].pod.requests if name in told else _NOTHING
        seen = self._pods.get(pod.key)
        here = seen is not None and self.seen_node(pod) == name
        return seen.requests if seen is not None and here else _NOTHING

    def is_replaced(self, uid: str, owner: Owner | None) -> bool:
        """Return whether a pod of this owner has taken the place of its moved one with this uid."""
        return owner is not None and (uid, owner.uid) in self._replaced

    def free(self, name: NodeName) -> Resources:
        """Return a node's room that nothing uses; empty for an unknown node."""
        return self._free.get(name, _NOTHING)

    def rooms(self) -> Mapping[NodeName, Resources]:
        """Return the room that nothing uses of each node."""
        return self._free

    def pods(self) -> Mapping[PodKey, Pod]:
        """Return the pods as last seen."""
        return self._pods

    def snapshot(self) -> Snapshot:
        """Return nodes and pods as one frozen value; assumed pods are on their node."""
        pods = dict(self._pods)
        for assumption in self.assumptions():
            pod = assumption.pod
            pods[pod.key] = replace(pod, node=assumption.node, waiting=False, bound=False)
        return Snapshot.of(self._nodes.values(), pods.values())

    def _dismiss(self, uid: str) -> list[tuple[NodeName, Resources]]:
        """End what is assumed of a pod; return the room that it still counts as taken."""
        told = self._assumed.pop(uid, {})
        return [(node, assumption.pod.requests) for node, assumption in told.items()]

    def _count_replaced(self, pod: Pod | None, more: int) -> None:
        """Count a pod that took the place of a moved one, or do so no more."""
        if pod is None or not pod.replaces or pod.owner is None:
            return
        place = pod.replaces, pod.owner.uid
        self._replaced[place] += more
        if not self._replaced[place]:
            del self._replaced[place]

    def _take(self, name: NodeName, requests: Resources) -> None:
        self._used[name] = self._used.get(name, _NOTHING) + requests
        self._weigh(name)

    def _give_back(self, name: NodeName, requests: Resources) -> None:
        used = self._used.pop(name, _NOTHING) - requests
        if used.items:
            self._used[name] = used
        self._weigh(name)

    def _weigh(self, name: NodeName) -> None:
        """Write down what is free on a node, as the value that equally free nodes share."""
        for changed in self._followers:
            changed.add(name)
        node = self._nodes.get(name)
        if node is None:
            return
        used = self._used.get(name)
        free = node.allocatable - used if used else node.allocatable
        if len(self._rooms) >= _SHARED_ROOMS:
            self._rooms.clear()
        self._free[name] = self._rooms.setdefault(free, free)


def _room_of(pod: Pod | None) -> list[tuple[NodeName, Resources]]:
    """Return the room that a pod takes as the watch shows it."""
    return [] if pod is None or pod.node is None else [(pod.node, pod.requests)]
