"""Nodes that are alike, counted: what a sentence about a whole cluster is made from.

A fleet of thousands of nodes has few different ones to a pod that looks for room, so whoever asks
about all of them looks at each kind of node once.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bayplan.filters import Looks
from bayplan.snapshot import (
    BudgetKey,
    Constraints,
    Guests,
    Node,
    NodeName,
    PodKey,
    PodKind,
    Resources,
    Snapshot,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Nodes that look the same and have the same room.

    Attributes:
        node: The first of them by name.
        free: What is free on each; negative where it is over-full.
        count: How many they are.
    """

    node: Node
    free: Resources
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Nodes that look the same and have the same guests."""

    look: object
    node: Node
    guests: Guests
    count: int


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
                _Group(look=look, node=nodes[0], guests=here, count=len(nodes))
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
                counts[self.held(kind)] += group.count
        return tuple(sorted(filter(None, counts), key=lambda why: (-counts[why], why)))

    def rooms(self, stays: Callable[[PodKind], bool]) -> tuple[Room, ...]:
        """Return the rooms of nodes on which only the guests are that `stays` selects."""
        found: dict[tuple[object, ...], tuple[Node, Resources, int]] = {}
        for group in self._groups:
            left = dict(group.node.allocatable.items)
            for kind in filter(stays, group.guests):
                for name, n in kind.requests.items:
                    left[name] = left.get(name, 0) - n
            free = Resources.of(left)
            node, _, count = found.get((group.look, free.items), (group.node, free, 0))
            found[group.look, free.items] = (node, free, count + group.count)
        return tuple(Room(node=node, free=free, count=n) for node, free, n in found.values())


def _used_up(snapshot: Snapshot, goes: Mapping[PodKey, NodeName | None]) -> frozenset[BudgetKey]:
    budgets = (snapshot.by_key[key].budget for key in goes if key in snapshot.by_key)
    disturbed = Counter(budget for budget in budgets if budget is not None)
    return frozenset(b.key for b in snapshot.budgets if disturbed[b.key] >= b.allowed)
