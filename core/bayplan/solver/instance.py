"""The problem as arrays: pod classes times nodes, with gangs.

Pods that are alike (same requests, constraints, priority, and what may be done to them) form one
class, of which only the number per node matters. What a plan may not touch is subtracted from
the room of its node here, so that the engines only see what they decide.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayplan import filters, units
from bayplan.snapshot import (
    Constraints,
    Disruption,
    GangKey,
    Node,
    NodeName,
    Pod,
    PodKey,
    Resources,
    Snapshot,
    newest_member,
)

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: A gang of fewer pods needs no care: its pods are placed one by one.
_SMALLEST_GANG: Final = 2


class PlaceGroup(NamedTuple):
    """Waiting pods that one placing stage counts."""

    tier: int
    preempts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PodClass:
    """Pods that are alike.

    Attributes:
        requests: What each uses.
        constraints: What each asks of its node.
        keep_tier: Priority of the running ones.
        place: Stage that counts the waiting ones; None without any.
        running: Running pods that a plan may disturb, oldest first.
        waiting: Waiting pods, oldest first.
        movable: Whether a running one may get another node.
        gang: The running gang whose fate these pods share.
        kind: Index of the gang kind the waiting ones are placed with.
    """

    requests: Resources
    constraints: Constraints
    keep_tier: int
    place: PlaceGroup | None
    running: tuple[Pod, ...]
    waiting: tuple[Pod, ...]
    movable: bool
    gang: GangKey | None
    kind: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GangKind:
    """Waiting gangs that are alike: the same number of pods of the same classes.

    Attributes:
        place: Stage that counts their pods.
        gangs: The gangs as their waiting pods, oldest gang first.
        need: Class index and number of pods, for each class of one gang.
        running: The running part the gang needs, if it has one.
    """

    place: PlaceGroup
    gangs: tuple[tuple[Pod, ...], ...]
    need: tuple[tuple[int, int], ...]
    running: GangKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGang:
    """A gang with running pods: evicted whole, or not at all.

    Attributes:
        key: The gang.
        classes: Indices of the classes of its running pods.
        pinned: Whether one of its pods must not be evicted, and so none.
    """

    key: GangKey
    classes: tuple[int, ...]
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomplete:
    """A gang that cannot be placed yet because pods of it do not exist."""

    key: GangKey
    existing: int
    min_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What the engines decide on; arrays are read-only.

    Attributes:
        nodes: All nodes, by name.
        classes: Classes of pods, highest tier first.
        kinds: Kinds of waiting gangs.
        gangs: Running gangs that a plan may disturb.
        incomplete: Gangs that wait for pods to be created.
        resources: Names of the columns of `requests`, `room` and `capacity`.
        requests: [class, resource] what one pod uses.
        room: [node, resource] allocatable less what may not be touched; may be negative.
        capacity: [node, resource] as `room`, but at least what runs there now.
        running: [class, node] number of pods now.
        arrivals: [class, node] whether a pod of the class may come to the node.
        upper: [class, node] most pods of the class the node can end up with.
    """

    nodes: tuple[Node, ...]
    classes: tuple[PodClass, ...]
    kinds: tuple[GangKind, ...]
    gangs: tuple[RunningGang, ...]
    incomplete: tuple[Incomplete, ...]
    resources: tuple[str, ...]
    requests: Counts = field(repr=False)
    room: Counts = field(repr=False)
    capacity: Counts = field(repr=False)
    running: Counts = field(repr=False)
    arrivals: Mask = field(repr=False)
    upper: Counts = field(repr=False)

    @property
    def run_totals(self) -> Counts:
        """Number of running pods by class."""
        return np.array([len(c.running) for c in self.classes], dtype=np.int64)

    @property
    def wait_totals(self) -> Counts:
        """Number of waiting pods by class."""
        return np.array([len(c.waiting) for c in self.classes], dtype=np.int64)

    @property
    def variables(self) -> int:
        """Number of (class, node) pairs that a plan decides."""
        return int(np.count_nonzero(self.upper))


def build(snapshot: Snapshot) -> Instance:
    """Return the snapshot as classes and arrays; the same for any order of the input."""
    members = _members(snapshot)
    classes, kinds = _classes(snapshot, members)
    resources = _resources(snapshot)
    room = _room(snapshot, resources)
    requests = _amounts([c.requests for c in classes], resources)
    running = _running(classes, snapshot.nodes)
    capacity = np.maximum(room, running.T @ requests)
    arrivals = _arrivals(classes, snapshot.nodes) & np.all(capacity == room, axis=1)
    return Instance(
        nodes=snapshot.nodes,
        classes=classes,
        kinds=kinds,
        gangs=_running_gangs(classes, members),
        incomplete=tuple(m.incomplete() for m in members.values() if m.lacks_pods),
        resources=resources,
        requests=requests,
        room=room,
        capacity=capacity,
        running=running,
        arrivals=arrivals,
        upper=_upper(classes, requests, capacity, running, arrivals),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Members:
    """The pods of one gang that count."""

    key: GangKey
    min_count: int
    running: tuple[Pod, ...]
    waiting: tuple[Pod, ...]

    @property
    def place(self) -> PlaceGroup:
        """The stage of its waiting pods: its lowest tier, so that no member outranks itself."""
        return PlaceGroup(
            min(pod.priority for pod in self.waiting), all(pod.preempts for pod in self.waiting)
        )

    @property
    def lacks_pods(self) -> bool:
        """Whether it waits for pods that do not exist."""
        return bool(self.waiting) and len(self.running) + len(self.waiting) < self.min_count

    @property
    def below_minimum(self) -> bool:
        """Whether its waiting pods must be placed together."""
        return bool(self.waiting) and len(self.running) < self.min_count

    def incomplete(self) -> Incomplete:
        existing = len(self.running) + len(self.waiting)
        return Incomplete(key=self.key, existing=existing, min_count=self.min_count)


def _members(snapshot: Snapshot) -> dict[GangKey, _Members]:
    """Return the gangs by key; terminating pods and those of vanished nodes do not count."""
    known = {node.name for node in snapshot.nodes}
    found: dict[GangKey, list[Pod]] = defaultdict(list)
    for pod in snapshot.pods:
        if pod.gang is not None and not pod.terminating and (pod.waiting or pod.node in known):
            found[pod.gang].append(pod)
    members = (
        _Members(
            key=key,
            min_count=newest_member(pods).gang_min_count,
            running=tuple(pod for pod in pods if not pod.waiting),
            waiting=tuple(pod for pod in pods if pod.waiting),
        )
        for key, pods in sorted(found.items())
    )
    return {m.key: m for m in members if m.min_count >= _SMALLEST_GANG}


class _Key(NamedTuple):
    """What makes pods alike; sorts highest tier first, then largest."""

    tier: int
    preempts: bool
    keep_tier: int
    requests: Resources
    constraints: Constraints
    movable: bool
    gang: GangKey | None
    kind: "tuple[object, ...] | None"

    def order(self) -> tuple[object, ...]:
        return (-self.tier, -self.keep_tier, repr(self))


def _classes(
    snapshot: Snapshot, members: dict[GangKey, _Members]
) -> tuple[tuple[PodClass, ...], tuple[GangKind, ...]]:
    shapes = {key: _shape(m) for key, m in members.items() if m.below_minimum}
    grouped: dict[_Key, list[Pod]] = defaultdict(list)
    for pod in _decided(snapshot, members):
        grouped[_key(pod, members, shapes)].append(pod)
    keys = sorted(grouped, key=_Key.order)
    index = {key: i for i, key in enumerate(keys)}
    kinds = _kinds(members, shapes, index)
    kind_of = {i: k for k, kind in enumerate(kinds) for i, _ in kind.need}
    classes = tuple(_class(key, grouped[key], kind_of.get(index[key])) for key in keys)
    return classes, kinds


def _decided(snapshot: Snapshot, members: dict[GangKey, _Members]) -> Iterable[Pod]:
    """Return the pods a plan decides on: running ones it may disturb, waiting ones it can place."""
    known = {node.name for node in snapshot.nodes}
    for pod in snapshot.pods:
        gang = members.get(pod.gang) if pod.gang else None
        runs = may_disturb(pod) and pod.node in known
        if runs or (pod.waiting and not pod.terminating and not (gang and gang.lacks_pods)):
            yield pod


def may_disturb(pod: Pod) -> bool:
    """Return whether a plan may move or evict the pod."""
    return pod.node is not None and not pod.terminating and pod.disruption is not Disruption.FIXED


def _key(
    pod: Pod, members: dict[GangKey, _Members], shapes: dict[GangKey, tuple[object, ...]]
) -> _Key:
    gang = members.get(pod.gang) if pod.gang else None
    place = gang.place if gang and pod.waiting else PlaceGroup(pod.priority, pod.preempts)
    kind = shapes.get(gang.key) if gang and pod.waiting else None
    # Identical waiting gangs share their classes; what runs, or joins what runs, has its own.
    shared = gang is None or (pod.waiting and not gang.running)
    return _Key(
        tier=place.tier,
        preempts=place.preempts,
        keep_tier=pod.priority,
        requests=pod.requests,
        constraints=pod.constraints,
        movable=pod.waiting or pod.disruption is Disruption.MOVABLE,
        gang=None if shared or gang is None else gang.key,
        kind=kind if pod.waiting or gang is None else ("running",),
    )


def _shape(gang: _Members) -> tuple[object, ...]:
    """Return what makes gangs identical: tier and multiset of pods; its own key if part runs."""
    pods = Counter((pod.requests, pod.constraints, pod.priority) for pod in gang.waiting)
    own = gang.key if gang.running else None
    return (gang.place, own, tuple(sorted(pods.items(), key=repr)))


def _kinds(
    members: dict[GangKey, _Members],
    shapes: dict[GangKey, tuple[object, ...]],
    index: dict[_Key, int],
) -> tuple[GangKind, ...]:
    alike: dict[tuple[object, ...], list[_Members]] = defaultdict(list)
    for key, shape in shapes.items():
        if not members[key].lacks_pods:
            alike[shape].append(members[key])
    kinds = []
    for shape in sorted(alike, key=repr):
        gangs = sorted(alike[shape], key=lambda m: (min(p.created_at for p in m.waiting), m.key))
        need = Counter(index[_key(pod, members, shapes)] for pod in gangs[0].waiting)
        kinds.append(
            GangKind(
                place=gangs[0].place,
                gangs=tuple(m.waiting for m in gangs),
                need=tuple(sorted(need.items())),
                running=gangs[0].key if gangs[0].running else None,
            )
        )
    return tuple(kinds)


def _class(key: _Key, pods: list[Pod], kind: int | None) -> PodClass:
    oldest_first = sorted(pods, key=age)
    waiting = tuple(pod for pod in oldest_first if pod.waiting)
    return PodClass(
        requests=key.requests,
        constraints=key.constraints,
        keep_tier=key.keep_tier,
        place=PlaceGroup(key.tier, key.preempts) if waiting else None,
        running=tuple(pod for pod in oldest_first if not pod.waiting),
        waiting=waiting,
        movable=key.movable,
        gang=key.gang,
        kind=kind,
    )


def age(pod: Pod) -> tuple[int, PodKey]:
    """Return what orders pods among equals: oldest first, then by name."""
    return (pod.created_at, pod.key)


def _running_gangs(
    classes: Sequence[PodClass], members: dict[GangKey, _Members]
) -> tuple[RunningGang, ...]:
    of: dict[GangKey, list[int]] = defaultdict(list)
    for i, each in enumerate(classes):
        if each.gang is not None and each.running:
            of[each.gang].append(i)
    return tuple(
        RunningGang(
            key=key,
            classes=tuple(indices),
            pinned=not all(may_disturb(pod) for pod in members[key].running),
        )
        for key, indices in sorted(of.items())
    )


def _resources(snapshot: Snapshot) -> tuple[str, ...]:
    names = {name for pod in snapshot.pods for name in pod.requests}
    names |= {name for node in snapshot.nodes for name in node.allocatable if units.is_gpu(name)}
    return tuple(sorted(names))


def _amounts(rows: Sequence[Resources], resources: tuple[str, ...]) -> Counts:
    column = {name: k for k, name in enumerate(resources)}
    amounts = np.zeros((len(rows), len(resources)), dtype=np.int64)
    for i, row in enumerate(rows):
        for name, n in row.items:
            if name in column:
                amounts[i, column[name]] = n
    return amounts


def _room(snapshot: Snapshot, resources: tuple[str, ...]) -> Counts:
    """Return allocatable less every placed pod that a plan may not disturb."""
    room = _amounts([node.allocatable for node in snapshot.nodes], resources)
    row = {node.name: n for n, node in enumerate(snapshot.nodes)}
    column = {name: k for k, name in enumerate(resources)}
    for pod in snapshot.placed():
        if pod.node in row and not may_disturb(pod):
            for name, amount in pod.requests.items:
                room[row[NodeName(pod.node)], column[name]] -= amount
    return room


def _running(classes: Sequence[PodClass], nodes: Sequence[Node]) -> Counts:
    row = {node.name: n for n, node in enumerate(nodes)}
    counts = np.zeros((len(classes), len(nodes)), dtype=np.int64)
    for i, each in enumerate(classes):
        for pod in each.running:
            assert pod.node is not None  # noqa: S101 - what may_disturb() selects
            counts[i, row[pod.node]] += 1
    return counts


def _arrivals(classes: Sequence[PodClass], nodes: Sequence[Node]) -> Mask:
    """Return where pods of a class may go, room aside; each set of constraints is checked once."""
    masks: dict[Constraints, Mask] = {}
    rows = np.zeros((len(classes), len(nodes)), dtype=np.bool_)
    for i, each in enumerate(classes):
        if each.movable and each.constraints not in masks:
            refused = (filters.eligibility(each.constraints, node) for node in nodes)
            masks[each.constraints] = np.array([r is None for r in refused], dtype=np.bool_)
        if each.movable:
            rows[i] = masks[each.constraints]
    return rows


def _upper(
    classes: Sequence[PodClass], requests: Counts, capacity: Counts, running: Counts, arrivals: Mask
) -> Counts:
    """Return the most pods of a class a node can hold; without arrivals, what runs there."""
    upper = running.copy()
    for i, each in enumerate(classes):
        uses = requests[i] > 0
        copies = np.full(capacity.shape[0], len(each.running) + len(each.waiting), dtype=np.int64)
        if uses.any():
            fit = (np.maximum(capacity[:, uses], 0) // requests[i][uses]).min(axis=1)
            copies = np.minimum(copies, fit)
        upper[i] = np.where(arrivals[i], np.maximum(copies, running[i]), running[i])
    return upper
