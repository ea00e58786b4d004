"""Nodes that are alike, counted: what a sentence about a whole cluster is made from.

A fleet of thousands of nodes has few different ones to a pod that looks for room, so whoever asks
about all of them looks at each kind of node once. Volumes tell apart what is alike otherwise, disks
inside nodes every single one: so they do not count here, and a pod with volumes is given the rooms
of those nodes alone that they leave to it.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

import numpy as np

from bayplan.aftermath import Aftermath, Numbers
from bayplan.cluster import shares, units
from bayplan.cluster.constraints import Constraints, NodeTerm
from bayplan.cluster.keys import BudgetKey, NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Disruption, Pod, PodKind
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Guests
from bayplan.plan import Reason, Rejection
from bayplan.rules.filters import Looks, eligibility, static_rejection
from bayplan.rules.reach import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Nodes that look the same and have the same room.

    Attributes:
        look: One object for all nodes that look the same and are of one size.
        nodes: The nodes, first the first of them by name.
        free: What is free on each; negative where it is over-full.
    """

    look: object
    nodes: tuple[Node, ...]
    free: Resources

    @property
    def node(self) -> Node:
        """The first of the nodes."""
        return self.nodes[0]

    @property
    def count(self) -> int:
        """How many nodes they are."""
        return len(self.nodes)


#: Of each volume the terms of which one must hold for a node.
Volumes = tuple[tuple[NodeTerm, ...], ...]

#: How many nodes refuse for good: by reason, and by what it is about.
Refusing = Counter[tuple[Reason, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """The nodes that a pod with volumes is not given: all that these do not leave to it.

    Attributes:
        refusing: How many they are, and why they refuse.
        sizes: One node of each size that any node has.
    """

    refusing: Refusing = field(default_factory=Counter)
    sizes: tuple[Node, ...] = ()


class Rooms:
    """The rooms of all nodes, and of those that the volumes of pods leave to them."""

    def __init__(self, rooms: tuple[Room, ...], nodes: Sequence[Node], reach: Reach) -> None:
        self.all, self._nodes, self._reach = rooms, nodes, reach
        self._near: dict[frozenset[Volumes], tuple[Room, ...]] = {}

    def near(self, pods: Collection[Pod]) -> tuple[Room, ...]:
        """Return the rooms of the nodes that volumes leave to one of the pods at least.

        Nodes that the volumes of some of them reach, and those of others do not, are apart.
        """
        asked = frozenset(pod.constraints.volumes for pod in pods)
        if not any(asked):
            return self.all
        if asked not in self._near:
            self._near[asked] = told_apart(self._reached(asked), pods)
        return self._near[asked]

    def _reached(self, asked: Iterable[Volumes]) -> list[Room]:
        rows = set[int]().union(*map(self._reach.of_all, asked))
        by_room: dict[int, list[Node]] = defaultdict(list)
        for row in sorted(rows):
            node = self._nodes[row]
            by_room[self._room_of[node.name]].append(node)
        return [replace(self.all[i], nodes=tuple(nodes)) for i, nodes in by_room.items()]

    @cached_property
    def _room_of(self) -> Mapping[NodeName, int]:
        """In which of the rooms each node is."""
        return {node.name: i for i, room in enumerate(self.all) for node in room.nodes}


def told_apart(rooms: Iterable[Room], pods: Iterable[Pod]) -> tuple[Room, ...]:
    """Return the rooms, apart where their nodes look different to one of these pods."""
    looks = Looks.of({pod.constraints for pod in pods})
    if not looks.labels and not looks.names:
        return tuple(rooms)
    first: dict[tuple[int, object], Node] = {}
    parts: list[Room] = []
    for room in rooms:
        by_look: dict[tuple[int, object], list[Node]] = defaultdict(list)
        for node in room.nodes:
            by_look[id(room.look), looks.at(node)].append(node)
        for look, nodes in by_look.items():
            parts.append(replace(room, look=first.setdefault(look, nodes[0]), nodes=tuple(nodes)))
    return tuple(parts)


class _Beside:
    """What guests leave of nodes, for many nodes at once; equal rooms are one object."""

    def __init__(self, kinds: Sequence[PodKind], sizes: Iterable[Resources]) -> None:
        asked = [kind.requests for kind in kinds]
        self._sizes = {id(size): size for size in sizes}
        self._names = sorted({name for each in (*asked, *self._sizes.values()) for name in each})
        self._asked, self._there = self._table(asked), self._table(self._sizes.values())
        self._row_of = {size: row for row, size in enumerate(self._sizes)}
        self._number = {kind: k for k, kind in enumerate(kinds)}
        self._values: dict[bytes, Resources] = {}

    def rooms(self, sizes: Sequence[Resources], guests: Sequence[Guests]) -> list[Resources]:
        """Return for each node what is free beside its guests; negative where it is over-full."""
        present = list(map(self._number.__getitem__, chain.from_iterable(guests)))
        sums = np.zeros((len(present) + 1, len(self._names)), dtype=np.int64)
        np.cumsum(self._asked[np.array(present, dtype=np.int64)], axis=0, out=sums[1:])
        ends = np.cumsum([0, *map(len, guests)])
        there = self._there[[self._row_of[id(size)] for size in sizes]]
        return list(map(self._value, there - np.diff(sums[ends], axis=0)))

    def _table(self, rows: Iterable[Resources]) -> Numbers:
        """Return [row, resource] the amounts."""
        table = [[row[name] for name in self._names] for row in rows]
        return np.array(table, dtype=np.int64).reshape(len(table), len(self._names))

    def _value(self, amounts: Numbers) -> Resources:
        written = amounts.tobytes()
        if written not in self._values:
            named = zip(self._names, amounts.tolist(), strict=True)
            self._values[written] = Resources.of(dict(named))
        return self._values[written]


class Census:
    """The nodes of a cluster as a plan leaves them, grouped by look and guests."""

    def __init__(self, after: Aftermath, asked: Iterable[Constraints]) -> None:
        """Count the cluster after the plan.

        Nodes are alike or not in the eyes of pods with the constraints that are `asked` about.
        """
        looks = Looks.of({without_volumes(each) for each in asked}).over(after.snapshot)
        alike = list(after.alike(looks))
        sizes = [nodes[0].allocatable for _, _, nodes in alike]
        self._nodes, self._reach = after.snapshot.nodes, Reach(after.snapshot.nodes)
        self._guests = tuple(after.guests[state] for _, state, _ in alike)
        self._beside = _Beside(after.snapshot.kinds, sizes)
        rooms = tuple(
            Room(look=looks.values[look], nodes=tuple(nodes), free=free)
            for (look, _, nodes), free in zip(
                alike, self._beside.rooms(sizes, self._guests), strict=True
            )
        )
        self._rooms = Rooms(rooms, self._nodes, self._reach)
        self._sizes = tuple({id(room.node.allocatable): room.node for room in rooms}.values())
        # How many evictions PodDisruptionBudgets admit beside those of the plan.
        self._admits = _admitted(after)
        self._refusing: dict[Constraints, Counter[tuple[Reason, str] | None]] = {}

    def held(self, kind: PodKind) -> str:
        """Return why pods must stay though their manifests would let them go; "" if they need not.

        In words that follow "it".
        """
        if kind.budget and self.admits(kind.budget) <= 0:
            return (
                f"has PodDisruptionBudget {kind.budget}, which admits no more evictions than this"
                " plan makes"
            )
        return kind.fixed_by

    def admits(self, budget: BudgetKey) -> int:
        """Return how many evictions a PodDisruptionBudget admits beside those of the plan.

        One that is gone limits nobody.
        """
        return self._admits.get(budget, sys.maxsize)

    def rooms(self, stays: Callable[[PodKind], bool]) -> Rooms:
        """Return the rooms of nodes on which only the guests are that `stays` selects."""
        stay = {kind for kind in self.kinds() if stays(kind)}
        alike: dict[tuple[int, Guests], list[Room]] = defaultdict(list)
        for room, guests in zip(self._rooms.all, self._guests, strict=True):
            alike[id(room.look), tuple(filter(stay.__contains__, guests))].append(room)
        sizes = [rooms[0].node.allocatable for rooms in alike.values()]
        frees = self._beside.rooms(sizes, [staying for _, staying in alike])
        merged: dict[tuple[int, int], list[Room]] = defaultdict(list)
        free_of: dict[int, Resources] = {}
        for ((look, _), rooms), free in zip(alike.items(), frees, strict=True):
            merged[look, id(free)] += rooms
            free_of[id(free)] = free
        found = (
            Room(
                look=rooms[0].look,
                nodes=tuple(chain.from_iterable(room.nodes for room in rooms)),
                free=free_of[free],
            )
            for (_, free), rooms in merged.items()
        )
        return Rooms(tuple(found), self._nodes, self._reach)

    def by_guests(self) -> Rooms:
        """Return the rooms as they are, apart where the guests differ."""
        return self._rooms

    def beyond(self, pod: Pod, rooms: Iterable[Room]) -> Beyond:
        """Return the nodes that are in none of the `rooms`, all of which its volumes rule out."""
        bare = without_volumes(pod.constraints)
        if bare is pod.constraints:
            return Beyond()
        if bare not in self._refusing:
            self._refusing[bare] = _refusing(bare, self._rooms.all)
        left = self._refusing[bare].copy()
        left.subtract(_refusing(bare, rooms))
        refusing = Refusing({why: n for why, n in left.items() if why and n})
        if left[None]:
            refusing[Reason.VOLUME_ELSEWHERE, ""] = left[None]
        return Beyond(refusing=refusing, sizes=self._sizes)

    def lets_go(self, kind: PodKind) -> bool:
        """Return whether a pod of the kind could be evicted."""
        return kind.disruption is not Disruption.FIXED and not self.held(kind)

    def kinds(self) -> frozenset[PodKind]:
        """Return the kinds of the pods on the nodes."""
        return frozenset().union(*self._guests)


def without_volumes(constraints: Constraints) -> Constraints:
    """Return what is asked for beside volumes; the same object where there are none."""
    return replace(constraints, volumes=()) if constraints.volumes else constraints


def _refusing(
    constraints: Constraints, rooms: Iterable[Room]
) -> Counter[tuple[Reason, str] | None]:
    """Return how many nodes refuse a pod, whatever its size, by why; None for those that do not."""
    found: Counter[tuple[Reason, str] | None] = Counter()
    known: dict[int, tuple[Reason, str] | None] = {}
    for room in rooms:
        if id(room.look) not in known:
            refusal = eligibility(constraints, room.node)
            known[id(room.look)] = (refusal.reason, refusal.about) if refusal else None
        found[known[id(room.look)]] += room.count
    return found


def _admitted(after: Aftermath) -> Mapping[BudgetKey, int]:
    snapshot = after.snapshot
    if not snapshot.budgets:
        return {}
    budgets = (snapshot.pods[i].budget for i in snapshot.indices(after.goes) if i >= 0)
    disturbed = Counter(budget for budget in budgets if budget is not None)
    return {b.key: b.allowed - disturbed[b.key] for b in snapshot.budgets}


def refusals(pod: Pod, rooms: Sequence[Room]) -> list[Rejection | None]:
    """Return for each room why its nodes would refuse the pod if they were empty."""
    known: dict[int, Rejection | None] = {}
    for room in rooms:
        if id(room.look) not in known:
            known[id(room.look)] = static_rejection(pod, room.node)
    return [known[id(room.look)] for room in rooms]


def usable(pod: Pod, rooms: Sequence[Room]) -> list[Room]:
    """Return the rooms on nodes that would take the pod if they were empty."""
    found = zip(rooms, refusals(pod, rooms), strict=True)
    return [room for room, refusal in found if refusal is None]


def fill(pod: Pod, count: int, rooms: Sequence[Room]) -> tuple[int, tuple[Room, ...]]:
    """Return how many of `count` pods like `pod` find room, and the rooms that are left then.

    The tightest rooms are filled first, each until no further pod fits.
    """
    fits: list[Room] = []
    parts: list[Room] = []
    enough: dict[int, bool] = {}
    for room, refusal in zip(rooms, refusals(pod, rooms), strict=True):
        free = id(room.free)
        if free not in enough:
            enough[free] = pod.requests.fits(room.free)
        (fits if refusal is None and enough[free] else parts).append(room)
    left = count
    for room in sorted(fits, key=lambda room: (room.free.gpus, room.node.name)):
        if not left:
            parts.append(room)
            continue
        most = _copies(pod.requests, room.free, left)
        whole, rest = divmod(min(left, most * room.count), most)
        left -= whole * most + rest
        parts += _split(room, pod.requests, [most] * whole + [rest] * bool(rest))
    return count - left, tuple(parts)


def _copies(requests: Resources, free: Resources, most: int) -> int:
    """Return how many pods with these requests fit, at most `most` where they share GPUs."""
    copies = min((free[name] + units.implied(name)) // n for name, n in requests.items)
    if not shares.concerned(requests.items, free.items):
        return copies
    copies = min(copies, most)
    while copies and not times(requests, copies).fits(free):
        copies -= 1
    return copies


def _split(room: Room, requests: Resources, copies: Sequence[int]) -> list[Room]:
    """Return the room with that many pods on its first nodes."""
    parts: dict[int, list[Node]] = defaultdict(list)
    for node, n in zip(room.nodes, [*copies, *[0] * (room.count - len(copies))], strict=True):
        parts[n].append(node)
    return [
        replace(room, nodes=tuple(nodes), free=beside(room.free, requests, n))
        for n, nodes in parts.items()
    ]


def changed(rooms: Iterable[Room], room: Room, node: Node, free: Resources) -> tuple[Room, ...]:
    """Return the rooms with one node of one of them changed."""
    others = [each for each in rooms if each is not room]
    rest = tuple(each for each in room.nodes if each is not node)
    return (
        *others,
        *([replace(room, nodes=rest)] if rest else []),
        replace(room, nodes=(node,), free=free),
    )


def beside(free: Resources, requests: Resources, count: int = 1) -> Resources:
    """Return what is left beside so many pods; a share goes where it leaves the least of a GPU."""
    if not requests.share_milli or requests.device is not None:
        return free - times(requests, count)
    for _ in range(count):
        free -= requests.on_device(shares.tightest(requests.share_milli, free.items))
    return free


def times(requests: Resources, count: int) -> Resources:
    """Return what `count` pods use."""
    return Resources.of({name: n * count for name, n in requests.items})
