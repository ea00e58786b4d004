"""The goals that sums over nodes can count, with what a search learns of each.

`simultaneous` and `sequential` go through them in their own ways; bounds, times and sizes are noted
here, and the programs of both are made here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bayplan.policy import Order, Policy
from bayplan.solver.keepfill import assembly, views
from bayplan.solver.keepfill.fleet import Fleet
from bayplan.solver.keepfill.found import Found
from bayplan.solver.keepfill.views import View
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import FreeSlots, Goal, Keep, Place, Preferred, Together
from bayplan.solver.problem.instance import Counts, Instance
from bayplan.solver.programs.budget import Budget


def countable(instance: Instance, order: Order) -> tuple[Goal, ...]:
    """Return the stages that the engine knows.

    It does not look at which of the nodes of a kind are preferred, and does not see domains.
    """
    known = goals.in_order(instance, order)
    return tuple(goal for goal in known if not isinstance(goal, Together | Preferred))


def nobody_leaves(instance: Instance, policy: Policy) -> bool:
    """Return whether all that runs goes on running, whatever waits."""
    return not policy.max_evictions or not instance.wait_totals.sum()


def placement_is_free(instance: Instance, policy: Policy) -> bool:
    """Return whether the tiers' stages can do without the present placement."""
    free = int(instance.run_totals.sum()) <= policy.max_moves and not instance.allowances
    return free and policy.order is Order.PLACE_FIRST


def reaches(
    instance: Instance, order: Sequence[Goal], assignment: Assignment, bounds: Sequence[int]
) -> bool:
    """Return whether a placement reaches every bound."""
    return tuple(goal.value(instance, assignment) for goal in order) == tuple(bounds)


def require(fleet: Fleet, goal: Goal, value: int) -> None:
    """Make every later point at least as good in `goal` as `value`."""
    if goal.maximise:
        fleet.program.add_row(fleet.terms(goal), lower=value)
    else:
        fleet.program.add_row(fleet.terms(goal), upper=value)


@dataclass(slots=True, kw_only=True)
class Stages:
    """Goals with what is known of each, as the search goes on."""

    instance: Instance
    policy: Policy
    budget: Budget
    gangs_stay: bool
    order: tuple[Goal, ...] = field(init=False)
    bounds: list[int] = field(default_factory=list)
    ends_at: list[float] = field(default_factory=list)
    started_at: float = field(init=False)
    sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = countable(self.instance, self.policy.order)
        self.started_at = self.budget.clock()

    @property
    def tiers(self) -> tuple[Goal, ...]:
        """The stages of keeping and placing."""
        return tuple(goal for goal in self.order if isinstance(goal, Keep | Place))

    @property
    def before_slots(self) -> tuple[Goal, ...]:
        """All stages before those that count free slots."""
        return tuple(goal for goal in self.order if not isinstance(goal, FreeSlots))

    @property
    def slots(self) -> tuple[FreeSlots, ...]:
        """The stages that count free slots."""
        return tuple(goal for goal in self.order if isinstance(goal, FreeSlots))

    def kept(self) -> dict[int, int]:
        """Return the bounds of the keeping stages, by tier."""
        known = zip(self.order, self.bounds, strict=False)
        return {goal.tier: bound for goal, bound in known if isinstance(goal, Keep)}

    def view(self) -> View:
        """Return the view in which every move counts: simpler where all that runs stays."""
        if not nobody_leaves(self.instance, self.policy):
            return views.stateful(self.instance, gangs_stay=self.gangs_stay)
        keeps = [goal for goal in self.order if isinstance(goal, Keep)]
        kept = {goal.tier: goal.limit(self.instance) for goal in keeps}
        return views.settled(self.instance, kept, gangs_stay=self.gangs_stay)

    def note(self, goal: Goal, bound: int) -> int:
        """Note the bound of the next stage, no weaker than what can be counted."""
        limit = goal.limit(self.instance)
        self.bounds.append(min(bound, limit) if goal.maximise else max(bound, limit))
        self.ends_at.append(self.budget.clock())
        return self.bounds[-1]

    def build(self, name: str, view: View, *, budgeted: bool) -> Fleet | None:
        """Return the program of a view, and note its size."""
        made = assembly.build(self.instance, self.policy, view, budgeted=budgeted)
        if made is not None:
            self.measure(name, made)
        return made

    def measure(self, name: str, fleet: Fleet) -> None:
        """Note the size of a program."""
        rows, columns = fleet.program.shape
        self.sizes |= {
            f"{name} states": len(fleet.states.sizes),
            f"{name} keeps": len(fleet.y),
            f"{name} rows": rows,
            f"{name} columns": columns,
        }

    def found(self, assignment: Assignment, alive: Counts) -> Found:
        """Return the result; what the last stage took beyond its bound is put to it."""
        ends = np.array([*self.ends_at[:-1], self.budget.clock()])
        seconds = np.diff(ends, prepend=self.started_at)
        return Found(
            assignment=assignment,
            bounds=tuple(self.bounds),
            seconds=tuple(seconds.tolist()),
            sizes=tuple(self.sizes.items()),
            alive=alive,
        )
