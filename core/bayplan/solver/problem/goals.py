"""The objectives and their order: what each stage counts, and what it can never exceed.

For each tier from the highest: keep what runs, place what waits, first the units that their
deployments need (`bayplan.rules.minimums`). `PlaceFirst` then asks for the least disruption over
all tiers; `ProtectFirst` asks after each tier for the least disruption of it and all above, so that
nothing placed later can disturb them more. Then come gangs inside one domain of the labels they
prefer, and the preferred node affinity of who is placed; last the most whole free GPU slots of 8,
4, 2 and 1.
Pods that preempt nobody are placed after the last stage that could give up a running pod for them.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from bayplan.cluster import units
from bayplan.plan import EVICTION_COST
from bayplan.policy import Order
from bayplan.slots import SIZES
from bayplan.solver.problem import gangs
from bayplan.solver.problem.assignment import Assignment, disturbed, evicted, kept
from bayplan.solver.problem.instance import Counts, Instance, PlaceGroup, Rank


class Goal(Protocol):
    """One stage of the order."""

    @property
    def name(self) -> str:
        """What is counted, as the certificate says it."""

    @property
    def maximise(self) -> bool:
        """Whether more is better."""

    def value(self, instance: Instance, assignment: Assignment) -> int:
        """Return what an assignment reaches."""

    def limit(self, instance: Instance) -> int:
        """Return what nothing can beat, without solving anything."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Running pods of a tier that go on running somewhere."""

    tier: int
    maximise: bool = True

    @property
    def name(self) -> str:
        """What is counted."""
        return f"keep {self.tier}"

    @property
    def rank(self) -> Rank:
        """What those have who go on running: only who is of a lower tier goes without for them."""
        return Rank(self.tier, precious=False)

    def mask(self, instance: Instance) -> Counts:
        """Return 1 for each class that counts."""
        return np.array([int(c.keep_tier == self.tier) for c in instance.classes], dtype=np.int64)

    def value(self, instance: Instance, assignment: Assignment) -> int:
        """Return the number of survivors."""
        return int(self.mask(instance) @ assignment.survivors)

    def limit(self, instance: Instance) -> int:
        """Return the number of pods that run."""
        return int(self.mask(instance) @ instance.run_totals)


@dataclass(frozen=True, slots=True)
class Place:
    """Waiting pods of a tier that get a node."""

    group: PlaceGroup
    maximise: bool = True

    @property
    def name(self) -> str:
        """What is counted."""
        needed = " below minReplicas" if self.group.needed else ""
        gently = "" if self.group.preempts else " without preemption"
        return f"place {self.group.tier}{needed}{gently}"

    @property
    def rank(self) -> Rank:
        """What those have who are placed."""
        return self.group.rank

    def mask(self, instance: Instance) -> Counts:
        """Return 1 for each class that counts."""
        return np.array([int(c.place == self.group) for c in instance.classes], dtype=np.int64)

    def value(self, instance: Instance, assignment: Assignment) -> int:
        """Return the number of newly placed pods."""
        return int(self.mask(instance) @ assignment.placed)

    def limit(self, instance: Instance) -> int:
        """Return the number of pods that wait."""
        return int(self.mask(instance) @ instance.wait_totals)


@dataclass(frozen=True, slots=True)
class LeastDisruption:
    """What running pods of tier `floor` and above suffer; of all tiers without a floor.

    A move counts as what it costs, an eviction as `EVICTION_COST` more than a move.
    """

    floor: int | None = None
    maximise: bool = False

    @property
    def name(self) -> str:
        """What is counted."""
        return "disruption" if self.floor is None else f"disruption from {self.floor}"

    def mask(self, instance: Instance) -> Counts:
        """Return 1 for each class that counts."""
        counts = [self.floor is None or c.keep_tier >= self.floor for c in instance.classes]
        return np.array(counts, dtype=np.int64)

    def value(self, instance: Instance, assignment: Assignment) -> int:
        """Return the cost of what the assignment disturbs."""
        moving = instance.move_costs * disturbed(instance, assignment)
        leaving = EVICTION_COST * evicted(instance, assignment)
        return int(self.mask(instance) @ (moving + leaving))

    def limit(self, _: Instance) -> int:
        """Return zero: nothing is disturbed."""
        return 0


@dataclass(frozen=True, slots=True)
class FreeSlots:
    """Whole free slots of `size` GPUs on nodes that take pods."""

    size: int
    maximise: bool = True

    @property
    def name(self) -> str:
        """What is counted."""
        return f"free {self.size}-GPU slots"

    def value(self, instance: Instance, assignment: Assignment) -> int:
        """Return the number of slots that stay free."""
        return self._slots(instance, instance.left_of(gpu_columns(instance), assignment.final))

    def limit(self, instance: Instance) -> int:
        """Return the slots of a cluster in which only what is fixed runs."""
        return self._slots(instance, instance.room[:, gpu_columns(instance)])

    def _slots(self, instance: Instance, free: Counts) -> int:
        return int((np.maximum(free[instance.open_nodes], 0) // self.size).sum())


@dataclass(frozen=True, slots=True)
class Together:
    """Newly placed gangs whose pods share a domain of the label that they prefer `rank`th."""

    rank: int
    maximise: bool = True

    @property
    def name(self) -> str:
        """What is counted."""
        return f"topology {self.rank + 1}"

    def kinds(self, instance: Instance) -> list[int]:
        """Return the kinds of gangs that have such a preference."""
        return [k for k, kind in enumerate(instance.kinds) if self.rank < len(kind.preferred)]

    def value(self, instance: Instance, assignment: Assignment) -> int:
        """Return the number of such gangs."""
        return gangs.together(instance, assignment, self.rank)

    def limit(self, instance: Instance) -> int:
        """Return the number of gangs that wait and would like to be such."""
        return sum(len(instance.kinds[k].gangs) for k in self.kinds(instance))


@dataclass(frozen=True, slots=True)
class Preferred:
    """Weights of the preferred node affinity that newly placed and moved pods have fulfilled."""

    name: str = "preference"
    maximise: bool = True

    def value(self, instance: Instance, assignment: Assignment) -> int:
        """Return the sum of the weights."""
        came = assignment.final - kept(instance, assignment)
        return int((came * _wishes(instance)).sum())

    def limit(self, instance: Instance) -> int:
        """Return what it would be if every pod that may come somewhere chose freely."""
        most = np.where(instance.arrivals, _wishes(instance), 0).max(axis=1, initial=0)
        return int(most @ (instance.wait_totals + instance.run_totals))


def _wishes(instance: Instance) -> Counts:
    assert instance.wishes is not None  # noqa: S101 - the goal is only asked where there are any
    return instance.wishes


def gpu_columns(instance: Instance) -> Counts:
    """Return the columns that count GPUs."""
    found = [k for k, name in enumerate(instance.resources) if units.is_gpu(name)]
    return np.array(found, dtype=np.int64)


def in_order(instance: Instance, order: Order) -> tuple[Goal, ...]:
    """Return the stages for this instance, most important first."""
    protect = order is Order.PROTECT_FIRST
    last = () if protect else (LeastDisruption(),)
    slots = _slots(instance)
    first = slots[:1] if order is Order.DEFRAGMENT else ()
    return (
        *_tiers(instance, protect=protect),
        *first,
        *last,
        *_preferences(instance),
        *slots[len(first) :],
    )


def _preferences(instance: Instance) -> list[Goal]:
    ranks = max((len(kind.preferred) for kind in instance.kinds), default=0)
    wished = [] if instance.wishes is None else [Preferred()]
    return [*map(Together, range(ranks)), *wished]


#: Who is placed before whom in a tier: whether somebody goes for them, and whether they are needed.
_WHO_FIRST: Final = ((True, True), (False, True), (True, False), (False, False))


def _tiers(instance: Instance, *, protect: bool) -> list[Goal]:
    keeps = {c.keep_tier for c in instance.classes if c.running}
    groups = {c.place for c in instance.classes if c.place is not None}
    stages: list[Goal] = []
    peaceful: list[Place] = []
    for tier in sorted(keeps | {group.tier for group in groups}, reverse=True):
        stages += [Keep(tier)] if tier in keeps else []
        safe = min(keeps, default=tier) >= tier
        # Pods that preempt nobody wait until no lower tier is left that could lose a pod.
        if safe:
            stages += peaceful
            peaceful = []
        own = [PlaceGroup(tier, *each) for each in _WHO_FIRST]
        stages += [Place(g) for g in own if g in groups and (g.preempts or safe)]
        peaceful += [Place(g) for g in own if g in groups and not g.preempts and not safe]
        if protect and tier in keeps:
            stages.append(LeastDisruption(tier))
    return [*stages, *peaceful]


def _slots(instance: Instance) -> tuple[Goal, ...]:
    return tuple(FreeSlots(size) for size in SIZES if FreeSlots(size).limit(instance))


def values(instance: Instance, goals: tuple[Goal, ...], assignment: Assignment) -> tuple[int, ...]:
    """Return what the assignment reaches, negated where less is better: compare as tuples."""
    return tuple(goal.value(instance, assignment) * (1 if goal.maximise else -1) for goal in goals)


def better(instance: Instance, goals: tuple[Goal, ...], new: Assignment, old: Assignment) -> bool:
    """Return whether `new` is worth more than `old`; goals are asked up to the deciding one."""
    for goal in goals:
        gain = goal.value(instance, new) - goal.value(instance, old)
        if gain:
            return gain > 0 if goal.maximise else gain < 0
    return False
