"""The frozen view of a cluster that one pass decides on.

Nodes, pods and gangs as plain values: everything is hashable, ordered by name, and counted in
the integer units of `bayplan.cluster.units`. The codec makes these from Kubernetes objects; rules,
solver, validator and steps only read them.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from itertools import compress, count, repeat
from operator import attrgetter
from typing import Final, cast
from weakref import WeakValueDictionary

from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.columns import NONE, Column, alike
from bayplan.cluster.constraints import Constraints, GangTopology, Taint, Volume
from bayplan.cluster.keys import BudgetKey, GangKey, NodeName, Owner, PodKey
from bayplan.cluster.resources import Resources

#: Seconds after its deadline from which a terminating pod counts as stuck: its room stays taken.
OVERSTAY_S: Final = 60

#: Seconds from the instant by which its replacement serves, after which a pod counts as stuck.
GOODBYE_S: Final = 900

#: The most that instant can be ahead: a cold start of a day, and what comes on top of it.
MOST_BESIDE_S: Final = 100_000

#: The largest cost of a move: what a model that starts for most of an hour may say.
MAX_MOVE_COST: Final = 100

#: The size of a gang whose label does not say it: no number of pods is enough.
UNKNOWN_COUNT: Final = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as far as placing pods is concerned.

    Attributes:
        name: The node's name.
        allocatable: What pods may use in sum; `pods` is the number of pods.
        labels: Labels, sorted by key.
        taints: Taints, sorted.
        schedulable: False when cordoned.
        ready: False when its Ready condition is not True.
    """

    name: NodeName
    allocatable: Resources
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[Taint, ...] = ()
    schedulable: bool = True
    ready: bool = True
    _words: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # One object for equal sizes, so that a fleet's nodes are told apart by identity.
        size = _SIZES.setdefault(self.allocatable.items, self.allocatable)
        object.__setattr__(self, "allocatable", size)

    def in_words(self, said: dict[object, str]) -> str:
        """Return the node in words, the same for equal nodes, for digests.

        They are put together once, for every pass asks; `said` are those of all but names.
        """
        if not self._words:
            alike = (id(self.allocatable), self.labels, self.taints, self.schedulable, self.ready)
            rest = said.get(alike)
            if rest is None:
                rest = said[alike] = repr((self.allocatable.items, *alike[1:]))
            object.__setattr__(self, "_words", f"{self.name} {rest}")
        return self._words


#: The sizes that some node has.
_SIZES: Final[WeakValueDictionary[tuple[tuple[str, int], ...], Resources]] = WeakValueDictionary()


class Disruption(StrEnum):
    """What a plan may do to a pod that has a node."""

    FIXED = "Fixed"  #: nothing: DaemonSet, static, bare, on its way, or the cluster's own
    EVICTABLE = "Evictable"  #: evict it; no plan knows where its replacement goes
    MOVABLE = "Movable"  #: evict it; its replacement comes back through us and is planned


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class PodKind:
    """What makes pods alike: to a plan, only their number per node differs.

    There is one object for equal values (but for a race of two threads), so that a fleet's pods
    are counted by identity, without comparing what they ask for.
    """

    requests: Resources
    priority: int
    constraints: Constraints
    disruption: Disruption
    preempts: bool
    move_cost: int
    budget: BudgetKey | None
    fixed_by: str

    @classmethod
    def of(cls, pod: "Pod") -> "PodKind":
        """Return the kind of the pod."""
        values = (
            *(pod.requests, pod.priority, pod.constraints, pod.disruption, pod.preempts),
            *(pod.move_cost, pod.budget, pod.fixed_by),
        )
        known = _KINDS.get(values)
        if known is None:
            made = cls(
                requests=pod.requests,
                priority=pod.priority,
                constraints=pod.constraints,
                disruption=pod.disruption,
                preempts=pod.preempts,
                move_cost=pod.move_cost,
                budget=pod.budget,
                fixed_by=pod.fixed_by,
            )
            known = _KINDS.setdefault(values, made)
        return known

    def in_words(self) -> str:
        """Return all of it as text; volumes only where there are some, for older recordings."""
        volumes, unreadable = self.constraints.volumes, self.constraints.unreadable
        told = f"{self!r} {volumes!r}" if volumes else repr(self)
        told = f"{told} {unreadable}" if unreadable else told
        told = f"{told} {self.constraints.barred}" if self.constraints.barred else told
        refused, refused_at = self.constraints.refused, self.constraints.refused_at
        return f"{told} {refused} {refused_at!r}" if refused else told


#: The kinds that some pod has.
_KINDS: Final[WeakValueDictionary[tuple[object, ...], PodKind]] = WeakValueDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that uses room or waits for some.

    Attributes:
        key: Namespace and name.
        uid: Identity; a pod made again under the same name has another one.
        requests: What it uses on its node, `pods: 1` included.
        priority: Its tier; higher is decided first.
        constraints: Selector, affinity and tolerations.
        node: Where it runs, or is pinned to; None while it has no node.
        waiting: Whether it waits behind our gate for a plan (then `node` is None).
        disruption: What a plan may do to it while it has a node.
        preempts: False for `preemptionPolicy: Never`: it makes nobody go.
        terminating: Being deleted: its room is taken now and free later.
        leaves_at: When it must have ended if it terminates, seconds since the epoch; else 0.
        gang: The gang it belongs to, if any.
        gang_min_count: How many pods of the gang must run for any of them to be useful.
        gang_topology: Where the gang's pods are to be with respect to each other, if it says so.
        floor: How many gangs its owner needs, as it says; else 0 (`bayplan.rules.floors`).
        labels: Labels, sorted by key: what rules between pods select by.
        owner: The controller that makes it again.
        created_at: Seconds since the epoch; earlier pods go first among equals.
        bound: Whether `node` is where it is bound; False while it is only pinned there.
        replaces: uid of the moved pod whose planned place it took; "" for all others.
        serves_by: By when it is to serve, if it starts before the pod that it replaces goes, in
            seconds since the epoch; else 0.
        gives_way_by: The same of its replacement, while that starts beside it; else 0.
        move_failed_at: When its replacement was last given up, in seconds since the epoch; else 0.
        started_at: When its node began to run it, seconds since the epoch; 0 before.
        move_cost: What a move of it costs, 1 to `MAX_MOVE_COST`.
        budget: The PodDisruptionBudget that limits its eviction (`bayplan.rules.restraints`).
        fixed_by: What keeps a plan from disturbing it for now, in words; "" if nothing does that
            is not its own manifest.
        offered: Whether its gate was lifted without a pin, for node autoscalers to see it.
        unplanned: Why no plan is made for it though it waits behind a gate, in words that follow
            its name; "" for all others.
        claims: Names of the PersistentVolumeClaims that it uses, of its namespace.
        refused: Why kube-scheduler finds no node for it, in its words; "" if it does not say so.
        health: How it does on its node; its kind says what that means for its budget.
        kind: What makes it like others.
    """

    key: PodKey
    uid: str
    requests: Resources
    priority: int = 0
    constraints: Constraints = field(default_factory=Constraints)
    node: NodeName | None = None
    waiting: bool = False
    disruption: Disruption = Disruption.FIXED
    preempts: bool = True
    terminating: bool = False
    leaves_at: int = 0
    gang: GangKey | None = None
    gang_min_count: int = 0
    gang_topology: GangTopology | None = None
    floor: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    owner: Owner | None = None
    created_at: int = 0
    bound: bool = True
    replaces: str = ""
    serves_by: int = 0
    gives_way_by: int = 0
    move_failed_at: int = 0
    started_at: int = 0
    move_cost: int = 1
    budget: BudgetKey | None = None
    fixed_by: str = ""
    offered: bool = False
    unplanned: str = ""
    claims: tuple[str, ...] = ()
    refused: str = ""
    health: Health = Health.READY
    kind: PodKind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", PodKind.of(self))

    def leaves(self, now: float) -> bool:
        """Return whether it is on its way out: who overstays its time counts as staying.

        It is being deleted, or its replacement starts, after which it finishes its requests.
        """
        if self.terminating:
            return now <= self.leaves_at + OVERSTAY_S
        return now - GOODBYE_S <= self.gives_way_by <= now + MOST_BESIDE_S


def _staying(pod: Pod) -> Pod:
    why = "should have given way to its replacement long ago"
    return replace(pod, gives_way_by=0, disruption=Disruption.FIXED, fixed_by=why)


def newest_member(pods: Sequence[Pod]) -> Pod:
    """Return the member of a gang whose label counts: those made later know the newer size."""
    return max(pods, key=lambda pod: (pod.waiting, pod.created_at, pod.key))


#: The kinds of the pods on one node, in no order that means anything.
Guests = tuple[PodKind, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All nodes and pods of one moment, each sorted by name, in whatever order they come.

    `budgets` are the PodDisruptionBudgets, for those who may disturb pods; `volumes` those that not
    every node reaches, for those who place them.
    """

    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    budgets: tuple[Budget, ...] = ()
    volumes: tuple[Volume, ...] = ()

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
    """Return which pod it is and what may change about its gang, a floor only if it has one."""
    floor = (pod.floor,) if pod.floor else ()
    return repr((pod.uid, pod.gang, pod.gang_min_count, pod.gang_topology, *floor))


def _leaving(pod: Pod) -> str:
    """Return which pod it is and when it leaves."""
    return f"{pod.uid} {pod.leaves_at}"
