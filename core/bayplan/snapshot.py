"""The frozen view of a cluster that one pass decides on.

Nodes, pods and gangs as plain values: everything is hashable, ordered by name, and counted in
the integer units of `bayplan.units`. The codec makes these from Kubernetes objects; filters,
solver, validator and steps only read them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from typing import Final, NamedTuple, NewType, cast
from weakref import WeakValueDictionary

from bayplan import shares, units

NodeName = NewType("NodeName", str)

#: Seconds after its deadline from which a terminating pod counts as stuck: its room stays taken.
OVERSTAY_S: Final = 60

#: The largest cost of a move: what a model that starts for most of an hour may say.
MAX_MOVE_COST: Final = 100

#: The size of a gang whose label does not say it: no number of pods is enough.
UNKNOWN_COUNT: Final = 2**30


class PodKey(NamedTuple):
    """Where a pod is found: namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class GangKey(NamedTuple):
    """A set of pods that is placed whole or not at all; `name` is unique in its namespace."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class BudgetKey(NamedTuple):
    """Where a PodDisruptionBudget is found: namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Owner:
    """The controller that makes a pod again when it is gone."""

    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Resources:
    """Amounts by resource name, e.g. cpu in millicores, memory in MiB, GPUs as a count.

    `items` is sorted by name and holds no zero, so that equal amounts are equal values.
    """

    items: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, amounts: Mapping[str, int]) -> "Resources":
        """Return the amounts as a value; zeros are dropped."""
        return cls(tuple(sorted((name, n) for name, n in amounts.items() if n)))

    def __getitem__(self, name: str) -> int:
        return next((n for key, n in self.items if key == name), 0)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items)

    def __add__(self, other: "Resources") -> "Resources":
        return self._combined(other, sign=1)

    def __sub__(self, other: "Resources") -> "Resources":
        return self._combined(other, sign=-1)

    @property
    def gpus(self) -> int:
        """The whole GPUs among the amounts, of whatever vendor."""
        return sum(n for name, n in self.items if units.is_gpu(name))

    def fits(self, room: "Resources") -> bool:
        """Return whether every amount is there in `room`."""
        have = dict(room.items)
        enough = all(
            # The name is looked at only where the amount alone does not answer.
            n <= have.get(name, 0) or n <= have.get(name, 0) + units.implied(name)
            for name, n in self.items
        )
        if not enough or not shares.concerned(self.items, room.items):
            return enough
        return shares.fit(self.items, room.items)

    def shortfall(self, room: "Resources") -> "Resources":
        """Return what `room` lacks of these amounts; empty when they fit."""
        have = dict(room.items)
        short = {
            name: n - max(0, there)
            for name, n in self.items
            if n > (there := have.get(name, 0)) and n > (there := there + units.implied(name))
        }
        if shares.concerned(self.items, room.items):
            short = {name: n for name, n in short.items() if not units.is_part(name)}
            short |= shares.short_of(self.items, room.items)
        return Resources.of(short)

    @property
    def share_milli(self) -> int:
        """The thousandths of one GPU that are asked for; 0 unless it is a share."""
        return shares.asked(self.items)

    @property
    def device(self) -> int | None:
        """The number of the GPU that the share is on, where it is known."""
        return shares.number(self.items)

    def on_device(self, device: int | None) -> "Resources":
        """Return the same with the share on the GPU of that number, or on any with None."""
        milli = shares.asked(self.items)
        if not milli:
            return self
        rest = {
            name: n for name, n in self.items if not (units.is_share(name) or units.is_part(name))
        }
        share = {units.share(milli): 1} if device is None else {units.part(device): milli}
        return Resources.of(rest | share)

    def _combined(self, other: "Resources", *, sign: int) -> "Resources":
        amounts = dict(self.items)
        for name, n in other.items:
            amounts[name] = amounts.get(name, 0) + sign * n
        return Resources.of(amounts)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Taint:
    """A node's mark that keeps away pods which do not tolerate it."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Toleration:
    """A pod's permission to be on a tainted node; an empty key or effect matches all."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Requirement:
    """One line of a node selector: a label or field, an operator, and values."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NodeTerm:
    """Requirements that must all hold; a pod's terms are alternatives."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodSelector:
    """Which pods a rule between pods is about.

    Attributes:
        namespaces: Where they are; no namespace means all.
        labels: What must hold of their labels.
        nobody: Whether it selects no pod at all, whatever the rest says.
    """

    namespaces: tuple[str, ...] = ()
    labels: tuple[Requirement, ...] = ()
    nobody: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PodTerm:
    """Pods near which another must or must not be.

    A domain is the set of nodes that share a value of the label `key`.
    """

    key: str
    pods: PodSelector


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Spread:
    """A topology spread constraint that must hold (`DoNotSchedule`).

    Attributes:
        key: The label whose values are the domains.
        pods: The pods that are counted.
        max_skew: By how much the domain a pod comes to may exceed the emptiest one.
        min_domains: With fewer eligible domains the emptiest one counts as empty.
        honours_affinity: Whether only nodes that the pod selects are eligible.
        honours_taints: Whether only nodes whose taints it tolerates are.
    """

    key: str
    pods: PodSelector
    max_skew: int = 1
    min_domains: int = 1
    honours_affinity: bool = True
    honours_taints: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """What a pod asks of the pods around it.

    Attributes:
        repels: Required anti-affinity: no such pod in its domain.
        attracts: Required affinity: at least one such pod in its domain, for each term.
        spreads: How evenly it must be spread.
    """

    repels: tuple[PodTerm, ...] = ()
    attracts: tuple[PodTerm, ...] = ()
    spreads: tuple[Spread, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Preference:
    """Nodes on which a pod would rather be, with a weight of 1 to 100."""

    weight: int
    term: NodeTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A PodDisruptionBudget: how many of the pods that it covers may be disturbed now.

    Attributes:
        key: Namespace and name; it covers pods of its namespace.
        allowed: How many evictions it admits now.
        labels: What must hold of a pod's labels; nothing means that it covers every pod.
        healthy: How many of its pods are ready, as its controller has counted them.
        desired: How many of them must be.
        always: Whether pods that are not ready may always be evicted
            (`unhealthyPodEvictionPolicy: AlwaysAllow`).
    """

    key: BudgetKey
    allowed: int
    labels: tuple[Requirement, ...] = ()
    # What they mean for a pod is in its kind, so they are no part of a snapshot's fingerprint.
    healthy: int = field(default=0, repr=False)
    desired: int = field(default=0, repr=False)
    always: bool = field(default=False, repr=False)

    @property
    def frees_unready(self) -> bool:
        """Whether a pod that is not ready may be evicted, and nothing is taken off `allowed`.

        As the API server's eviction subresource has it: where none need be healthy, an unready pod
        is counted like a ready one.
        """
        return self.always or self.healthy >= self.desired > 0

    def costs(self, health: "Health") -> bool:
        """Return whether the eviction of a pod of that health takes one off `allowed`."""
        if health is Health.UNREADY:
            return not self.frees_unready
        return health is Health.READY


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What a pod asks of a node besides room. No terms mean no node affinity.

    `peers` is None for the many pods that ask nothing of other pods.
    """

    node_selector: tuple[tuple[str, str], ...] = ()
    affinity: tuple[NodeTerm, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    prefers: tuple[Preference, ...] = ()
    peers: Peers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GangTopology:
    """Where the pods of a gang should be with respect to each other.

    Attributes:
        required: Label of whose values they must all share one; "" for none.
        preferred: Labels of which they had better share a value, the dearest first.
    """

    required: str = ""
    preferred: tuple[str, ...] = ()


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

    def __post_init__(self) -> None:
        # One object for equal sizes, so that a fleet's nodes are told apart by identity.
        size = _SIZES.setdefault(self.allocatable, self.allocatable)
        object.__setattr__(self, "allocatable", size)


#: The sizes that some node has.
_SIZES: Final[WeakValueDictionary[Resources, Resources]] = WeakValueDictionary()


class Disruption(StrEnum):
    """What a plan may do to a pod that has a node."""

    FIXED = "Fixed"  #: nothing: DaemonSet, static, bare, on its way, or the cluster's own
    EVICTABLE = "Evictable"  #: evict it; no plan knows where its replacement goes
    MOVABLE = "Movable"  #: evict it; its replacement comes back through us and is planned


class Health(StrEnum):
    """How a pod with a node does, as far as PodDisruptionBudgets look at it."""

    READY = "Ready"  #: its condition Ready is True, or nobody has said anything of it
    UNREADY = "Unready"  #: it is not: it costs nobody a healthy pod
    PENDING = "Pending"  #: its containers have not begun: the API server asks no budget


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
        labels: Labels, sorted by key: what rules between pods select by.
        owner: The controller that makes it again.
        created_at: Seconds since the epoch; earlier pods go first among equals.
        bound: Whether `node` is where it is bound; False while it is only pinned there.
        replaces: uid of the moved pod whose planned place it took; "" for all others.
        started_at: When its node began to run it, seconds since the epoch; 0 before.
        move_cost: What a move of it costs, 1 to `MAX_MOVE_COST`.
        budget: The PodDisruptionBudget that limits its eviction, as `bayplan.restraints` finds.
        fixed_by: What keeps a plan from disturbing it for now, in words; "" if nothing does that
            is not its own manifest.
        offered: Whether its gate was lifted without a pin, for node autoscalers to see it.
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
    labels: tuple[tuple[str, str], ...] = ()
    owner: Owner | None = None
    created_at: int = 0
    bound: bool = True
    replaces: str = ""
    started_at: int = 0
    move_cost: int = 1
    budget: BudgetKey | None = None
    fixed_by: str = ""
    offered: bool = False
    health: Health = Health.READY
    kind: PodKind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", PodKind.of(self))


def newest_member(pods: Sequence[Pod]) -> Pod:
    """Return the member of a gang whose label counts: those made later know the newer size."""
    return max(pods, key=lambda pod: (pod.waiting, pod.created_at, pod.key))


#: The kinds of the pods on one node, in no order that means anything.
Guests = tuple[PodKind, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All nodes and pods of one moment, each sorted by name, in whatever order they come.

    `budgets` are the PodDisruptionBudgets, for those who may disturb pods.
    """

    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    budgets: tuple[Budget, ...] = ()

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
        kinds = {kind: repr(kind) for kind in self.kinds}
        numbers = {kind: str(n) for n, kind in enumerate(sorted(kinds, key=kinds.__getitem__))}
        # Labels matter only where some pod asks for pods by them.
        labelled = self.pods if any(kind.constraints.peers for kind in kinds) else ()
        digest = hashlib.sha256()
        for part in (
            _nodes_in_words(self.nodes),
            map(repr, self.budgets),
            map(kinds.__getitem__, numbers),
            map(attrgetter("uid"), self.pods),
            map(numbers.__getitem__, map(attrgetter("kind"), self.pods)),
            [pod.node or "" for pod in self.pods],
            ["w" if pod.waiting else "b" if pod.bound else "p" for pod in self.pods],
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
    def kinds(self) -> frozenset[PodKind]:
        """The kinds of all pods."""
        return frozenset(map(attrgetter("kind"), self.pods))

    @cached_property
    def in_gangs(self) -> tuple[Pod, ...]:
        """The pods that belong to a gang."""
        return tuple(filter(attrgetter("gang"), self.pods))

    @cached_property
    def leaving(self) -> tuple[Pod, ...]:
        """The pods that are being deleted."""
        return tuple(filter(attrgetter("terminating"), self.pods))

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
        known: dict[Guests, Guests] = {}
        kind = attrgetter("kind")
        return {name: _shared(map(kind, pods), known) for name, pods in self.here.items()}

    def guests_after(self, goes: Mapping[PodKey, NodeName | None]) -> Mapping[NodeName, Guests]:
        """Return the guests once some pods have another node, or none, as in `guests`."""
        after, by_key = dict(self.guests), self.by_key
        known = {guests: guests for guests in after.values()}
        # What a pod makes of a node by coming or going is the same for all nodes in one state.
        come: dict[tuple[int, PodKind], Guests] = {}
        gone: dict[tuple[int, PodKind], Guests] = {}
        for key, target in goes.items():
            pod = by_key.get(key)
            if pod is None:
                continue
            kind, source = pod.kind, pod.node
            if source is not None and source in after:
                guests = after[source]
                step = (id(guests), kind)
                if step not in gone:
                    gone[step] = _shared(_without(guests, kind), known)
                after[source] = gone[step]
            if target is not None and target in after:
                guests = after[target]
                step = (id(guests), kind)
                if step not in come:
                    come[step] = _shared((*guests, kind), known)
                after[target] = come[step]
        return after

    @cached_property
    def by_key(self) -> Mapping[PodKey, Pod]:
        """The pods by namespace and name."""
        return dict(zip(map(attrgetter("key"), self.pods), self.pods, strict=True))

    def once_left(self, now: float) -> "Snapshot":
        """Return the cluster as it will be when the pods that are leaving have left.

        What is planned beside a draining pod would otherwise make another pod go for the same
        newcomer. A pod that overstays its deadline counts as staying. The very same snapshot when
        nobody is leaving.
        """
        stay = [pod for pod in self.pods if not pod.terminating or pod.leaves_at + OVERSTAY_S < now]
        if len(stay) == len(self.pods):
            return self
        return Snapshot(nodes=self.nodes, pods=tuple(stay), budgets=self.budgets)

    def waiting(self) -> tuple[Pod, ...]:
        """Return the pods that wait for a plan."""
        return self._waiting

    @cached_property
    def _waiting(self) -> tuple[Pod, ...]:
        return tuple(filter(attrgetter("waiting"), self.pods))

    def placed(self) -> tuple[Pod, ...]:
        """Return the pods that have a node."""
        return tuple(pod for pod in self.pods if pod.node is not None)

    def free(self) -> dict[NodeName, Resources]:
        """Return each node's room that no pod uses; may be negative on an over-full node."""
        rooms: dict[tuple[object, ...], Resources] = {}
        return {node.name: _room(node, self.guests[node.name], rooms) for node in self.nodes}


def _without(guests: Guests, kind: PodKind) -> list[PodKind]:
    """Return the guests without one of the kind."""
    left = list(guests)
    left.remove(kind)
    return left


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


def _nodes_in_words(nodes: Sequence[Node]) -> Iterator[str]:
    """Yield each node; what many have in common is put into words once."""
    known: dict[tuple[object, ...], str] = {}
    for node in nodes:
        items = (id(node.allocatable), node.labels, node.taints, node.schedulable, node.ready)
        if items not in known:
            known[items] = repr((node.allocatable.items, *items[1:]))
        yield f"{node.name} {known[items]}"


def _belonging(pod: Pod) -> str:
    """Return which pod it is and what may change about its gang."""
    return repr((pod.uid, pod.gang, pod.gang_min_count, pod.gang_topology))


def _leaving(pod: Pod) -> str:
    """Return which pod it is and when it leaves."""
    return f"{pod.uid} {pod.leaves_at}"
