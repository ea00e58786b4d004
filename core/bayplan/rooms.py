"""Nodes that are alike, counted: what a sentence about a whole cluster is made from.

A fleet of thousands of nodes has few different ones to a pod that looks for room, so whoever asks
about all of them looks at each kind of node once.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bayplan import units
from bayplan.filters import Looks, reject
from bayplan.snapshot import (
    BudgetKey,
    Constraints,
    Guests,
    Node,
    NodeName,
    Pod,
    PodKey,
    PodKind,
    Resources,
    Snapshot,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Nodes that look the same and have the same room.

    Attributes:
        nodes: The nodes, first the first of them by name.
        free: What is free on each; negative where it is over-full.
    """

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Nodes that look the same and have the same guests."""

    look: object
    nodes: tuple[Node, ...]
    guests: Guests

    def room(self, stays: Callable[[PodKind], bool]) -> Room:
        """Return the room of the nodes when only the guests are there that `stays` selects."""
        left = dict(self.nodes[0].allocatable.items)
        for kind in filter(stays, self.guests):
            for name, n in kind.requests.items:
                left[name] = left.get(name, 0) - n
        return Room(nodes=self.nodes, free=Resources.of(left))


@dataclass(frozen=True, slots=True)
class Census:
    """The nodes of a cluster as a plan leaves them, grouped by look and guests.

    `_used_up` are the PodDisruptionBudgets that admit no more than the plan takes.
    """

    _groups: tuple[_Group, ...]
    _used_up: frozenset[BudgetKey] = frozenset()

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        goes: Mapping[PodKey, NodeName | None],
        asked: Iterable[Constraints],
    ) -> "Census":
        """Return the census.

        Args:
            snapshot: The cluster before the plan.
            goes: Where the plan sends pods; None for those that have no node after it.
            asked: What the pods ask for in whose eyes nodes are alike or not.
        """
        looks = Looks.of(asked)
        guests = snapshot.guests_after(goes)
        alike: dict[tuple[object, Guests], list[Node]] = defaultdict(list)
        for node in snapshot.nodes:
            look = (looks.at(node), node.allocatable.items)
            alike[look, guests[node.name]].append(node)
        return cls(
            tuple(
                _Group(look=look, nodes=tuple(nodes), guests=here)
                for (look, here), nodes in alike.items()
            ),
            _used_up(snapshot, goes),
        )

    def held(self, kind: PodKind) -> str:
        """Return why pods must stay though their manifests would let them go; "" if they need not.

        In words that follow "it".
        """
        if kind.budget in self._used_up:
            return (
                f"has PodDisruptionBudget {kind.budget}, which admits no more evictions than this"
                " plan makes"
            )
        return kind.fixed_by

    def holding(self) -> tuple[str, ...]:
        """Return why pods must stay for now, the reason of the most first."""
        counts: Counter[str] = Counter()
        for group in self._groups:
            for kind in group.guests:
                counts[self.held(kind)] += len(group.nodes)
        return tuple(sorted(filter(None, counts), key=lambda why: (-counts[why], why)))

    def rooms(self, stays: Callable[[PodKind], bool]) -> tuple[Room, ...]:
        """Return the rooms of nodes on which only the guests are that `stays` selects."""
        found: dict[tuple[object, ...], list[Room]] = defaultdict(list)
        for group in self._groups:
            room = group.room(stays)
            found[group.look, room.free.items].append(room)
        return tuple(
            Room(nodes=tuple(node for room in alike for node in room.nodes), free=alike[0].free)
            for alike in found.values()
        )

    def by_guests(self) -> tuple[Room, ...]:
        """Return the rooms as they are, apart where the guests differ."""
        return tuple(group.room(lambda _: True) for group in self._groups)


def _used_up(snapshot: Snapshot, goes: Mapping[PodKey, NodeName | None]) -> frozenset[BudgetKey]:
    budgets = (snapshot.by_key[key].budget for key in goes if key in snapshot.by_key)
    disturbed = Counter(budget for budget in budgets if budget is not None)
    return frozenset(b.key for b in snapshot.budgets if disturbed[b.key] >= b.allowed)


def fill(pod: Pod, count: int, rooms: Iterable[Room]) -> tuple[int, tuple[Room, ...]]:
    """Return how many of `count` pods like `pod` find room, and the rooms that are left then.

    The tightest rooms are filled first, each until no further pod fits.
    """
    fits: list[Room] = []
    parts: list[Room] = []
    for room in rooms:
        (parts if reject(pod, room.node, room.free) else fits).append(room)
    left = count
    for room in sorted(fits, key=lambda room: (gpus(room.free), room.node.name)):
        most = min((room.free[name] + units.implied(name)) // n for name, n in pod.requests.items)
        whole, rest = divmod(min(left, most * room.count), most)
        left -= whole * most + rest
        parts += _split(room, pod.requests, [most] * whole + [rest] * bool(rest))
    return count - left, tuple(parts)


def _split(room: Room, requests: Resources, copies: Sequence[int]) -> list[Room]:
    """Return the room with that many pods on its first nodes."""
    parts: dict[int, list[Node]] = defaultdict(list)
    for node, n in zip(room.nodes, [*copies, *[0] * (room.count - len(copies))], strict=True):
        parts[n].append(node)
    return [
        Room(nodes=tuple(nodes), free=room.free - times(requests, n)) for n, nodes in parts.items()
    ]


def times(requests: Resources, count: int) -> Resources:
    """Return what `count` pods use."""
    return Resources.of({name: n * count for name, n in requests.items})


def gpus(amounts: Resources) -> int:
    """Return the whole GPUs among the amounts."""
    return sum(n for name, n in amounts.items if units.is_gpu(name))
