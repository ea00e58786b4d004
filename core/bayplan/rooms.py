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
    Disruption,
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
class Guest:
    """A pod that is on a node after the plan.

    Attributes:
        kind: Its kind.
        fixed: Whether no plan may send it away.
        held: Why it must stay though its manifest would let it go, in words; else "".
    """

    kind: PodKind
    fixed: bool
    held: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Nodes that look the same and have the same guests."""

    look: object
    nodes: tuple[Node, ...]
    guests: tuple[Guest, ...]

    def room(self, stays: Callable[[Guest], bool]) -> Room:
        """Return the room of the nodes when only the guests are there that `stays` selects."""
        left = dict(self.nodes[0].allocatable.items)
        for guest in filter(stays, self.guests):
            for name, n in guest.kind.requests.items:
                left[name] = left.get(name, 0) - n
        return Room(nodes=self.nodes, free=Resources.of(left))


@dataclass(frozen=True, slots=True)
class Census:
    """The nodes of a cluster as a plan leaves them, grouped by look and guests."""

    _groups: tuple[_Group, ...]

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
        here = _guests(snapshot, goes, _used_up(snapshot, goes))
        looks = Looks.of(asked)
        alike: dict[tuple[object, ...], list[Node]] = defaultdict(list)
        for node in snapshot.nodes:
            look = (looks.at(node), node.allocatable.items)
            alike[look, *sorted(map(id, here.get(node.name, ())))].append(node)
        return cls(
            tuple(
                _Group(
                    look=key[0],
                    nodes=tuple(nodes),
                    guests=tuple(here.get(nodes[0].name, ())),
                )
                for key, nodes in alike.items()
            )
        )

    @property
    def held(self) -> tuple[str, ...]:
        """Why pods must stay though their manifests would let them go, the most frequent first."""
        counts: Counter[str] = Counter()
        for group in self._groups:
            counts.update({guest.held: len(group.nodes) for guest in group.guests if guest.held})
        return tuple(sorted(counts, key=lambda why: (-counts[why], why)))

    def rooms(self, stays: Callable[[Guest], bool]) -> tuple[Room, ...]:
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


def _used_up(snapshot: Snapshot, goes: Mapping[PodKey, NodeName | None]) -> dict[BudgetKey, str]:
    """Return the budgets that admit no more than the plan takes, and how that is said."""
    disturbed = Counter(
        pod.budget for pod in snapshot.pods if pod.budget is not None and pod.key in goes
    )
    return {
        budget.key: f"has PodDisruptionBudget {budget.key}, which admits no more"
        " evictions than this plan makes"
        for budget in snapshot.budgets
        if disturbed[budget.key] >= budget.allowed
    }


def _guests(
    snapshot: Snapshot,
    goes: Mapping[PodKey, NodeName | None],
    used_up: Mapping[BudgetKey, str],
) -> dict[NodeName, list[Guest]]:
    """Return who is on each node after the plan; one object for equal guests."""
    here: dict[NodeName, list[Guest]] = defaultdict(list)
    known: dict[tuple[PodKind, bool, str], Guest] = {}
    for pod in snapshot.pods:
        node = goes.get(pod.key, pod.node)
        if node is None:
            continue
        fixed = pod.kind.disruption is Disruption.FIXED and not pod.waiting
        held = pod.fixed_by or (used_up.get(pod.budget, "") if pod.budget else "")
        guest = known.get((pod.kind, fixed, held))
        if guest is None:
            guest = known[pod.kind, fixed, held] = Guest(kind=pod.kind, fixed=fixed, held=held)
        here[node].append(guest)
    return here


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
        most = min(room.free[name] // n for name, n in pod.requests.items)
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
