"""What is asked of all nodes together in one stage: who survives, who is placed, what that costs.

It is the part of a linear program that does not know nodes. `generation` adds what they can hold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bayplan.plan import EVICTION_COST
from bayplan.policy import Policy
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import Goal, Keep, LeastDisruption, Place
from bayplan.solver.problem.instance import Counts, Instance

#: Beyond every sum of a row.
ENDLESS: Final = 1 << 40

#: Columns, their weights, and the least and the most of the sum.
Row = tuple[Counts, Counts, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Columns and rows about pods, whichever nodes they are on.

    Columns are who survives and who is placed by class, waiting gangs by kind, and running gangs
    that are told apart. The first rows say for each class that what nodes hold is enough for both:
    what a node holds is added there. The next say that who stays is among the survivors: what a
    node keeps is taken off there.

    Attributes:
        goal: What is to be as good as possible.
        anchored: [class, node] running pods of which it matters whether they stay.
        costs: [column] what one costs.
        constant: What is added to the costs.
        savings: [class] what is saved by a pod that stays.
        staying: Classes of the rows about who stays: those that need not survive as a whole.
        lower: [column] the least.
        upper: [column] the most.
        rows: The rows.
    """

    goal: Keep | Place | LeastDisruption
    anchored: Counts = field(repr=False)
    costs: Counts = field(repr=False)
    constant: int
    savings: Counts = field(repr=False)
    staying: Counts = field(repr=False)
    lower: Counts = field(repr=False)
    upper: Counts = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False)

    def cost_of(self, instance: Instance, assignment: Assignment) -> int:
        """Return what an assignment costs: its value, negated where more is better."""
        value = self.goal.value(instance, assignment)
        return -value if self.goal.maximise else value


def demand_for(
    instance: Instance,
    policy: Policy,
    goal: Keep | Place | LeastDisruption,
    reached: Sequence[tuple[Goal, int]],
) -> Demand:
    """Return what is asked for a goal, where goals before it have `reached` so much.

    Goals that are not about how many pods run are left out, which is asking for less.
    """
    count, kinds, gangs = len(instance.classes), len(instance.kinds), len(instance.gangs)
    costs = np.zeros(2 * count + kinds + gangs, dtype=np.int64)
    mask, savings, constant = goal.mask(instance), np.zeros(count, dtype=np.int64), 0
    anchored = np.where(instance.arrivals, 0, instance.running)
    staying = np.zeros(0, dtype=np.int64)
    match goal:
        case Keep():
            costs[:count] = -mask
        case Place():
            costs[count : 2 * count] = -mask
        case LeastDisruption():
            anchored, savings = instance.running, mask * instance.move_costs
            staying = np.flatnonzero((instance.run_totals > 0) & ~instance.must_stay)
            costs[:count] = -EVICTION_COST * mask
            constant = int((savings + EVICTION_COST * mask) @ instance.run_totals)
    return Demand(
        goal=goal,
        anchored=anchored,
        costs=costs,
        constant=constant,
        savings=savings,
        staying=staying,
        lower=np.array([*_fewest(instance)], dtype=np.int64),
        upper=np.array([*_most(instance)], dtype=np.int64),
        rows=(
            *_heads(count),
            *((np.array([i]), np.array([1]), 0, ENDLESS) for i in staying.tolist()),
            *_required(instance, policy, reached),
            *_whole_gangs(instance),
        ),
    )


def _fewest(instance: Instance) -> Iterator[int]:
    yield from np.where(instance.must_stay, instance.run_totals, 0).tolist()
    yield from [0] * (len(instance.classes) + len(instance.kinds))
    yield from (int(gang.pinned) for gang in instance.gangs)


def _most(instance: Instance) -> Iterator[int]:
    yield from np.where(instance.must_go, 0, instance.run_totals).tolist()
    yield from instance.wait_totals.tolist()
    yield from (len(kind.gangs) for kind in instance.kinds)
    yield from [1] * len(instance.gangs)


def _heads(count: int) -> Iterator[Row]:
    """Yield that who survives and who is placed is on some node."""
    for i in range(count):
        yield np.array([i, count + i]), np.array([-1, -1]), 0, ENDLESS


def _required(
    instance: Instance, policy: Policy, reached: Sequence[tuple[Goal, int]]
) -> Iterator[Row]:
    """Yield that goals do not get worse, and no more pods are evicted than may be."""
    count = len(instance.classes)
    for goal, value in reached:
        if isinstance(goal, Keep | Place):
            first = count if isinstance(goal, Place) else 0
            columns = first + np.flatnonzero(goal.mask(instance))
            yield columns, np.ones_like(columns), value, ENDLESS
    survivors = np.arange(count)
    least = int(instance.run_totals.sum()) - policy.max_evictions
    yield survivors, np.ones_like(survivors), max(0, least), ENDLESS


def _whole_gangs(instance: Instance) -> Iterator[Row]:
    """Yield that gangs come and go whole."""
    count = len(instance.classes)
    for k, kind in enumerate(instance.kinds):
        for i, need in kind.need:
            yield np.array([count + i, 2 * count + k]), np.array([1, -need]), 0, 0
    for g, gang in enumerate(instance.gangs):
        for i in gang.classes:
            columns = np.array([i, 2 * count + len(instance.kinds) + g])
            yield columns, np.array([1, -int(instance.run_totals[i])]), 0, 0
