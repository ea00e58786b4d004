"""The engine for fleets made of few kinds of pods: exact at any number of nodes.

First it believes the linear bound of every stage and looks for one integer point that meets them
all; such a point is optimal in each stage. When there is none nearby it climbs stage by stage,
proving each value before the next. Moves are free in the tier stages, so these hardly need the
present placement; only the least disruption and the free slots do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from bayplan.policy import Policy
from bayplan.solver import fleet as fleets
from bayplan.solver import goals, unfold, views
from bayplan.solver.assignment import Assignment
from bayplan.solver.branch import Branched, relax_whole
from bayplan.solver.fleet import Fleet
from bayplan.solver.goals import FreeSlots, Goal, Keep, Place, Preferred, Together
from bayplan.solver.instance import Counts, Instance
from bayplan.solver.program import Limits, Relaxed
from bayplan.solver.views import View

#: By how much the whole part of a vertex is undercut and the deterministic effort spent, try by
#: try: most searches end in hundredths, the rest are better off elsewhere than longer.
_TRIES: Final = ((0, 0.2), (1, 0.4), (2, 0.8), (0, 2.0), (4, 4.0))

#: Share of what is left of the time that one search may use.
_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the engine found.

    Attributes:
        assignment: The best placement.
        bounds: What nothing can beat, by goal in order, given the stages before.
        seconds: Wall-clock time by goal.
        sizes: Counts of the programs.
    """

    assignment: Assignment
    bounds: tuple[int, ...]
    seconds: tuple[float, ...]
    sizes: tuple[tuple[str, int], ...]


@dataclass(slots=True, kw_only=True)
class Budget:
    """What is left of wall-clock time and deterministic effort."""

    clock: Callable[[], float]
    deadline_at: float
    effort: float
    seed: int

    @property
    def seconds(self) -> float:
        """Wall-clock seconds left."""
        return self.deadline_at - self.clock()

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self.seconds <= 0 or self.effort <= 0

    def limits(self) -> Limits:
        """Return the limits of one search."""
        return Limits(seconds=self.seconds * _SHARE, effort=self.effort * _SHARE, seed=self.seed)


def supports(instance: Instance) -> bool:
    """Return whether the engine can say something about the instance, its size apart.

    Running gangs that may be evicted are whole or gone, and rules between pods span domains, which
    a sum over nodes does not see; and a node's slots are counted of one kind of GPU.
    """
    gpus = instance.room[:, goals.gpu_columns(instance)] > 0
    spans = instance.rules or any(kind.required is not None for kind in instance.kinds)
    return not instance.gangs and not spans and bool((gpus.sum(axis=1) <= 1).all())


def order(instance: Instance) -> tuple[Goal, ...]:
    """Return the stages that the engine knows.

    It does not look at which of the nodes of a kind are preferred, and does not see domains.
    """
    known = goals.in_order(instance)
    return tuple(goal for goal in known if not isinstance(goal, Together | Preferred))


def solve(instance: Instance, policy: Policy, budget: Budget) -> Found | None:
    """Return the best placement found within the budget; None when there is none."""
    if not supports(instance):
        return None
    for search in (_by_tiers, _by_states, _step_by_step):
        found = search(instance, policy, budget)
        if found is not None:
            return found
    return None


def _by_tiers(instance: Instance, policy: Policy, budget: Budget) -> Found | None:
    return _Believer(instance=instance, policy=policy, budget=budget).by_tiers()


def _by_states(instance: Instance, policy: Policy, budget: Budget) -> Found | None:
    """Look where everyone runs from the first stage on, because moves are short."""
    if moves_are_free(instance, policy):
        return None
    return _Believer(instance=instance, policy=policy, budget=budget).by_states()


def _step_by_step(instance: Instance, policy: Policy, budget: Budget) -> Found | None:
    return _Climber(instance=instance, policy=policy, budget=budget).run()


def moves_are_free(instance: Instance, policy: Policy) -> bool:
    """Return whether the move budget cannot matter."""
    return int(instance.run_totals.sum()) <= policy.max_moves


@dataclass(slots=True, kw_only=True)
class _Stages:
    """Goals with what is known of each, as the search goes on."""

    instance: Instance
    policy: Policy
    budget: Budget
    order: tuple[Goal, ...] = field(init=False)
    bounds: list[int] = field(default_factory=list)
    ends_at: list[float] = field(default_factory=list)
    started_at: float = field(init=False)
    sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = order(self.instance)
        self.started_at = self.budget.clock()

    @property
    def tiers(self) -> tuple[Goal, ...]:
        """The stages for which moves are free."""
        return tuple(goal for goal in self.order if isinstance(goal, Keep | Place))

    @property
    def slots(self) -> tuple[FreeSlots, ...]:
        """The stages that count free slots."""
        return tuple(goal for goal in self.order if isinstance(goal, FreeSlots))

    def kept(self) -> dict[int, int]:
        """Return the bounds of the keeping stages, by tier."""
        known = zip(self.order, self.bounds, strict=False)
        return {goal.tier: bound for goal, bound in known if isinstance(goal, Keep)}

    def note(self, goal: Goal, bound: int) -> int:
        """Note the bound of the next stage, no weaker than what can be counted."""
        limit = goal.limit(self.instance)
        self.bounds.append(min(bound, limit) if goal.maximise else max(bound, limit))
        self.ends_at.append(self.budget.clock())
        return self.bounds[-1]

    def build(self, name: str, view: View, *, budgeted: bool) -> Fleet | None:
        """Return the program of a view, and note its size."""
        made = fleets.build(self.instance, self.policy, view, budgeted=budgeted)
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

    def found(self, assignment: Assignment) -> Found:
        """Return the result; what the last stage took beyond its bound is put to it."""
        ends = np.array([*self.ends_at[:-1], self.budget.clock()])
        seconds = np.diff(ends, prepend=self.started_at)
        return Found(
            assignment=assignment,
            bounds=tuple(self.bounds),
            seconds=tuple(seconds.tolist()),
            sizes=tuple(self.sizes.items()),
        )


@dataclass(slots=True, kw_only=True)
class _Believer(_Stages):
    """Takes every linear bound for reached, and looks for one point that reaches them all."""

    def by_tiers(self) -> Found | None:
        """Return a placement that is proved in every stage; None when there is none nearby."""
        tiers = self.build("tier", views.floating(self.instance), budgeted=False)
        if tiers is None or not all(self._believe(tiers, goal) for goal in self.tiers):
            return None
        view = views.settled(self.instance, self.kept())
        fleet = self.build("keep", view, budgeted=True)
        if fleet is None:
            return None
        for goal, bound in zip(self.tiers, self.bounds, strict=True):
            require(fleet, goal, bound)
        fleet.program.limit(fleet.u, *tiers.gangs)
        return self._placed(fleet)

    def by_states(self) -> Found | None:
        """Return the same from one program, in which every move counts in every stage."""
        fleet = self.build("keep", views.stateful(self.instance), budgeted=True)
        if fleet is None or not all(self._believe(fleet, goal) for goal in self.tiers):
            return None
        return self._placed(fleet)

    def _placed(self, fleet: Fleet) -> Found | None:
        """Return a placement that reaches the tiers' bounds with the least disruption."""
        fleet.settle(sum(self.kept().values()))
        point = self._disturb_least(fleet)
        if point is None:
            return None
        placement = unfold.assignment(fleet, point)
        return self.found(placement) if self._reached(placement) else None

    def _disturb_least(self, fleet: Fleet) -> Counts | None:
        """Return a point that reaches every bound, from the least disruption on."""
        found = self._believe(fleet, self.order[len(self.tiers)])
        if found is None:
            return None
        if self.slots:
            dear = dear_nodes(fleet, found)
            fleets.add_slots(fleet)
            fleet.program.shut(np.setdiff1d(dear, fleet.reserved))
            self.measure("keep", fleet)
            found = self._leave_free(fleet)
        return None if found is None else nearby(fleet, found, self.budget)

    def _leave_free(self, fleet: Fleet) -> Branched | None:
        """Return the vertex that leaves the most slots free, largest first.

        Where demand exceeds the room hardly a GPU stays free; one look at single GPUs then says
        that there is no larger slot.
        """
        found, ceiling = None, None
        if self._oversubscribed:
            found = self._best(fleet, self.slots[-1])
            ceiling = None if found is None else found.bound
        for each in self.slots[:-1]:
            if ceiling is not None and ceiling < each.size:
                self.note(each, 0)
                continue
            ceiling, found = None, self._believe(fleet, each)
            if found is None:
                return None
        if found is None or ceiling is None:
            return self._believe(fleet, self.slots[-1])
        self._claim(fleet, self.slots[-1], found)
        return found

    @property
    def _oversubscribed(self) -> bool:
        known = zip(self.order, self.bounds, strict=False)
        return any(
            bound < goal.limit(self.instance) for goal, bound in known if isinstance(goal, Place)
        )

    def _believe(self, fleet: Fleet, goal: Goal) -> Branched | None:
        """Return the vertex that is best in `goal`, and require its bound from now on."""
        found = self._best(fleet, goal)
        if found is not None:
            self._claim(fleet, goal, found)
        return found

    def _claim(self, fleet: Fleet, goal: Goal, found: Branched) -> None:
        """Require the bound, and leave gangs only the numbers with which it can be reached."""
        require(fleet, goal, self.note(goal, found.bound))
        fleet.program.limit(fleet.u, found.lower, found.upper)

    def _best(self, fleet: Fleet, goal: Goal) -> Branched | None:
        if self.budget.spent:
            return None
        return relax_whole(
            fleet.program,
            fleet.terms(goal),
            fleet.u,
            maximise=goal.maximise,
            seconds=lambda: self.budget.seconds,
        )

    def _reached(self, placement: Assignment) -> bool:
        values = tuple(goal.value(self.instance, placement) for goal in self.order)
        return values == tuple(self.bounds)


@dataclass(slots=True, kw_only=True)
class _Climber(_Stages):
    """Reaches stage after stage, each proved by a whole search where the bound is not met."""

    fleet: Fleet | None = None
    point: Counts | None = None

    def run(self) -> Found | None:
        """Return the best placement found; None when a program is too large or time ran out."""
        if moves_are_free(self.instance, self.policy):
            self.fleet = self.build("tier", views.floating(self.instance), budgeted=False)
            values = [self._reach(goal) for goal in self.tiers]
            if None in values:
                return None
            kept = {
                g.tier: v
                for g, v in zip(self.tiers, values, strict=True)
                if isinstance(g, Keep) and v is not None
            }
            view = views.settled(self.instance, kept)
            self.fleet, self.point = self.build("keep", view, budgeted=True), None
            if self.fleet is None:
                return None
            for goal, value in zip(self.tiers, values, strict=True):
                assert value is not None  # noqa: S101 - checked above
                require(self.fleet, goal, value)
            rest = self.order[len(self.tiers) :]
        else:
            self.fleet = self.build("keep", views.stateful(self.instance), budgeted=True)
            rest = self.order
        return self._finish(rest)

    def _finish(self, rest: tuple[Goal, ...]) -> Found | None:
        """Climb the remaining stages, in a program that knows where everyone runs."""
        if self.fleet is None:
            return None
        if self.slots:
            fleets.add_slots(self.fleet)
            self.measure("keep", self.fleet)
        if any(self._reach(goal) is None for goal in rest):
            return None
        assert self.point is not None  # noqa: S101 - there is at least one stage
        return self.found(unfold.assignment(self.fleet, self.point))

    def _reach(self, goal: Goal) -> int | None:
        """Return the best value found and require it from now on; None when nothing was found."""
        if self.fleet is None:
            return None
        bound = self._improve(self.fleet, goal)
        if bound is None or self.point is None:
            return None
        self.note(goal, bound)
        value = self.fleet.terms(goal).value(self.point)
        require(self.fleet, goal, value)
        return value

    def _improve(self, fleet: Fleet, goal: Goal) -> int | None:
        """Look for a better point; return the bound, None when there is none in time."""
        terms = fleet.terms(goal)
        vertex = fleet.program.relax(terms, maximise=goal.maximise, seconds=self.budget.seconds)
        if not isinstance(vertex, Relaxed):
            return None
        bound = vertex.bound
        if self.point is not None and terms.value(self.point) == bound:
            return bound
        if self.budget.spent:
            return bound
        limits = self.budget.limits()
        solved = fleet.program.solve(terms, limits, maximise=goal.maximise)
        self.budget.effort -= solved.effort
        if solved.point is None:
            return bound
        self.point = solved.point
        if solved.bound is None:
            return bound
        return min(bound, solved.bound) if goal.maximise else max(bound, solved.bound)


def require(fleet: Fleet, goal: Goal, value: int) -> None:
    """Make every later point at least as good in `goal` as `value`."""
    if goal.maximise:
        fleet.program.add_row(fleet.terms(goal), lower=value)
    else:
        fleet.program.add_row(fleet.terms(goal), upper=value)


def dear_nodes(fleet: Fleet, found: Branched) -> Counts:
    """Return the columns of which one node alone would cost more than the bound allows."""
    at_zero = (found.root.point <= 0) & (fleet.program.lower == 0)
    return np.flatnonzero(found.root.dear(found.bound) & at_zero & ~fleet.wide)


def nearby(fleet: Fleet, found: Branched, budget: Budget) -> Counts | None:
    """Return an integer point near the vertex, looking a little wider each time."""
    for slack, effort in _TRIES:
        limits = replace(budget.limits(), effort=min(effort, budget.effort))
        point = fleet.program.near(found.vertex, fleet.wide, limits, bound=found.bound, slack=slack)
        if point is not None:
            return point
    return None
