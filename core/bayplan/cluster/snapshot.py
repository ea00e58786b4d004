"""The frozen view of a cluster that one pass decides on.

Nodes, pods and gangs as plain values: everything is hashable, ordered by name, and counted in
the integer units of `bayplan.cluster.units`. The codec makes these from Kubernetes objects; rules,
solver, validator and steps only read them.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress, count, repeat
from operator import attrgetter
from typing import Final, cast

from bayplan.cluster.budgets import Budget
from bayplan.cluster.columns import NONE, Column, alike
from bayplan.cluster.constraints import Volume
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Ended, Pod, PodKind
from bayplan.cluster.resources import Resources

#: The kinds of the pods on one node, in no order that means anything.
Guests = tuple[PodKind, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All nodes and pods of one moment, each sorted by name, in whatever order they come.

    `budgets` are the PodDisruptionBudgets, for those who may disturb pods; `volumes` those that not
    every node reaches, for those who place them; `ended` the pods of gangs that ended well, for who
    counts what is needed of a gang.
    """

    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    budgets: tuple[Budget, ...] = ()
    volumes: tuple[Volume, ...] = ()
    ended: tuple[Ended, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(sorted(self.nodes, key=attrgetter("name"))))
        object.__setattr__(self, "pods", tuple(sorted(self.pods, key=attrgetter("key"))))
        object.__setattr__(self, "budgets", tuple(sorted(self.budgets, key=attrgetter("key"))))

    @classmethod
    def of(
        cls, nodes: Iterable[Node], pods: Iterable[Pod], budgets: Iterable[Budget] = ()
    ) -> "Snapshot":
        """Return a snapshot of the nodes, pods and budgets."""
        return cls(nodes=tuple(nodes), pods=tuple(pods), budgets=tuple(budgets))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what a plan depends on; the same for any order of nodes and pods.

        A pod is known by its uid, and what never changes under a uid (its names, age and owner)
        is not looked at again.
        """
        told = list(map(PodKind.in_words, self.kinds))
        in_order = sorted(range(len(told)), key=told.__getitem__)
        words = {kind: str(n) for n, kind in enumerate(in_order)}
        spots = (*self.spot_of.values, "")  # the last stands for -1, no node
        # Labels matter only where some pod asks for pods by them.
        labelled = self.pods if any(kind.constraints.peers for kind in self.kinds) else ()
        bound = map(attrgetter("bound"), self.pods)
        digest = hashlib.sha256()
        for part in (
            map(Node.in_words, self.nodes, repeat({})),
            map(repr, self.budgets),
            map(told.__getitem__, in_order),
            map(attrgetter("uid"), self.pods),
            map(words.__getitem__, self.kind_of.numbers),
            map(spots.__getitem__, self.spot_of.numbers),
            map(_STANDING.__getitem__, zip(self.waits, bound, strict=True)),
            # Hardly any pod is more than that.
            map(_belonging, self.in_gangs),
            map(_leaving, self.leaving),
            (f"{pod.uid} {pod.replaces}" for pod in filter(attrgetter("replaces"), self.pods)),
            (repr(pod.labels) for pod in labelled),
        ):
            digest.update("\n".join(part).encode())
            digest.update(b"\n\n")
        return digest.hexdigest()

    @cached_property
    def kind_of(self) -> Column[PodKind]:
        """The kind of each pod."""
        return Column.of(map(attrgetter("kind"), self.pods))

    @cached_property
    def spot_of(self) -> Column[NodeName]:
        """The node of each pod, numbered as in `nodes`; those that are not there come after."""
        names = tuple(map(attrgetter("name"), self.nodes))
        return Column.of(map(attrgetter("node"), self.pods), names, self.rows)

    @cached_property
    def node_kinds(self) -> Column[Node]:
        """The nodes by all but their names and labels, with the first of each number."""
        sizes = map(id, map(attrgetter("allocatable"), self.nodes))
        rest = map(attrgetter("taints", "schedulable", "ready"), self.nodes)
        return alike(self.nodes, zip(sizes, rest, strict=True))

    @cached_property
    def rows(self) -> Mapping[NodeName, int]:
        """Where each node is in `nodes`."""
        return dict(zip(map(attrgetter("name"), self.nodes), count(), strict=False))

    @cached_property
    def waits(self) -> bytes:
        """Of each pod 1 if it waits for a plan, else 0."""
        return bytes(map(attrgetter("waiting"), self.pods))

    @property
    def kinds(self) -> tuple[PodKind, ...]:
        """The kinds of all pods, those first that are first by name."""
        return self.kind_of.values

    @cached_property
    def in_gangs(self) -> tuple[Pod, ...]:
        """The pods that belong to a gang."""
        return tuple(filter(attrgetter("gang"), self.pods))

    @cached_property
    def leaving(self) -> tuple[Pod, ...]:
        """The pods that are being deleted, or give way to replacements that are there."""
        followed = {pod.replaces for pod in filter(attrgetter("serves_by"), self.pods)}
        if not followed:
            return tuple(filter(attrgetter("terminating"), self.pods))
        return tuple(
            pod
            for pod in self.pods
            if pod.terminating or (pod.gives_way_by and pod.uid in followed)
        )

    @cached_property
    def here(self) -> Mapping[NodeName, Sequence[Pod]]:
        """The pods on each node, by name; not those on nodes that are not there."""
        here: dict[NodeName | None, list[Pod]] = {node.name: [] for node in self.nodes}
        elsewhere: list[Pod] = []
        for pod in self.pods:
            here.get(pod.node, elsewhere).append(pod)
        return cast("dict[NodeName, list[Pod]]", here)

    @cached_property
    def guests(self) -> Mapping[NodeName, Guests]:
        """The kinds of the pods on each node; nodes with equal guests share one tuple."""
        kind = attrgetter("kind")
        known: dict[Guests, Guests] = {}
        return {name: _shared(map(kind, pods), known) for name, pods in self.here.items()}

    @cached_property
    def by_key(self) -> Mapping[PodKey, Pod]:
        """The pods by namespace and name."""
        return dict(zip(map(attrgetter("key"), self.pods), self.pods, strict=True))

    def indices(self, keys: Iterable[PodKey]) -> list[int]:
        """Return where pods are in `pods`, -1 for those that are not there.

        It is quick about pods that wait, whoever they are, and about few others; for all, there is
        `by_key`.
        """
        asked = tuple(keys)
        found = list(map(self._waiting_at.get, asked, repeat(NONE)))
        if NONE not in found:
            return found
        return [self._index(key) if i == NONE else i for key, i in zip(asked, found, strict=True)]

    @cached_property
    def _waiting_at(self) -> Mapping[PodKey, int]:
        return dict(
            zip(map(attrgetter("key"), self._waiting), compress(count(), self.waits), strict=True)
        )

    def _index(self, key: PodKey) -> int:
        at = bisect_left(self.pods, key, key=attrgetter("key"))
        return at if at < len(self.pods) and self.pods[at].key == key else NONE

    def once_left(self, now: float) -> "Snapshot":
        """Return the cluster as it will be when the pods that are leaving have left.

        What is planned beside a draining pod would otherwise make another pod go for the same
        newcomer. A pod that overstays its deadline counts as staying. The very same snapshot when
        nobody is leaving.
        """
        gone = {pod.uid for pod in self.leaving if pod.leaves(now)}
        if not gone:
            return self
        stay = tuple(pod for pod in self.pods if pod.uid not in gone)
        return replace(self, pods=stay)

    def without_overdue(self, now: float) -> "Snapshot":
        """Return the cluster in which whoever should long have given way stays, for all we know.

        Nobody is to disturb such a pod: it may be all that serves.
        """
        overdue = {pod.uid for pod in self.pods if pod.gives_way_by and not pod.leaves(now)}
        if not overdue:
            return self
        pods = (_staying(pod) if pod.uid in overdue else pod for pod in self.pods)
        return replace(self, pods=tuple(pods))

    def waiting(self) -> tuple[Pod, ...]:
        """Return the pods that wait for a plan."""
        return self._waiting

    @cached_property
    def _waiting(self) -> tuple[Pod, ...]:
        return tuple(compress(self.pods, self.waits))

    def placed(self) -> tuple[Pod, ...]:
        """Return the pods that have a node."""
        return tuple(pod for pod in self.pods if pod.node is not None)

    def free(self) -> dict[NodeName, Resources]:
        """Return each node's room that no pod uses; may be negative on an over-full node."""
        rooms: dict[tuple[object, ...], Resources] = {}
        return {node.name: _room(node, self.guests[node.name], rooms) for node in self.nodes}


def _staying(pod: Pod) -> Pod:
    why = "should have given way to its replacement long ago"
    return replace(pod, gives_way_by=0, disruption=Disruption.FIXED, fixed_by=why)


def _shared(kinds: Iterable[PodKind], known: dict[Guests, Guests]) -> Guests:
    """Return the kinds as the one tuple that stands for them in `known`."""
    guests = tuple(sorted(kinds, key=id))
    return known.setdefault(guests, guests)


def _room(node: Node, guests: Guests, rooms: dict[tuple[object, ...], Resources]) -> Resources:
    """Return what the guests leave of the node; nodes in the same state share one calculation."""
    state = (node.allocatable.items, guests)
    if state not in rooms:
        left = dict(node.allocatable.items)
        for kind in guests:
            for name, n in kind.requests.items:
                left[name] = left.get(name, 0) - n
        rooms[state] = Resources.of(left)
    return rooms[state]


#: What a digest says of pods that wait, that are bound and that are only pinned.
_STANDING: Final = {(1, True): "w", (1, False): "w", (0, True): "b", (0, False): "p"}


def _belonging(pod: Pod) -> str:
    """Return which pod it is and what may change about its gang, with what its owner needs."""
    min_units = (pod.min_units,) if pod.min_units else ()
    return repr((pod.uid, pod.gang, pod.gang_min_count, pod.gang_topology, *min_units))


def _leaving(pod: Pod) -> str:
    """Return which pod it is and when it leaves."""
    return f"{pod.uid} {pod.leaves_at}"
