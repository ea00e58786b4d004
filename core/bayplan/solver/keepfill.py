"""The engine for fleets made of few kinds of pods: exact at any number of nodes.

First it believes the linear bound of every stage and looks for one integer point that meets them
all; such a point is optimal in each stage. When there is none nearby it climbs stage by stage,
proving each value before the next. Moves are free in the tier stages, so these hardly need the
present placement; only the least disruption and the free slots do. `ProtectFirst` asks for the
least disruption after each tier, so there everyone is seen where they run from the start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bayplan.keys import GangKey
from bayplan.policy import Order, Policy
from bayplan.solver import assembly, goals, teams, unfold, views
from bayplan.solver.assignment import Assignment, present
from bayplan.solver.branch import Branched, relax_whole
from bayplan.solver.budget import Budget
from bayplan.solver.fleet import Fleet
from bayplan.solver.goals import (
    FreeSlots,
    Goal,
    Keep,
    LeastDisruption,
    Place,
    Preferred,
    Together,
)
from bayplan.solver.instance import Counts, Instance
from bayplan.solver.program import Relaxed
from bayplan.solver.rounding import beside, dear_nodes, pushed
from bayplan.solver.views import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a fleet with divided gangs can reach, some of which have to go for it.

    Attributes:
        gangs: Gangs to give up.
        values: By goal in order, what is reached when pods of gangs go one by one.
        bounds: By goal in order, what nothing can beat that reaches the values before.
    """

    gangs: frozenset[GangKey]
    values: tuple[int, ...]
    bounds: tuple[int, ...]

    def limits(self, goals_: tuple[Goal, ...], instance: Instance, of: Assignment) -> list[int]:
        """Return bounds for an assignment: those known, while it reaches what they stand on."""
        limits: list[int] = []
        holds = True
        for goal, value, bound in zip(goals_, self.values, self.bounds, strict=True):
            limits.append(bound if holds else goal.limit(instance))
            holds = holds and goal.value(instance, of) == value
        return limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the engine found.

    Attributes:
        assignment: The best placement.
        bounds: What nothing can beat, by goal in order, given the stages before.
        seconds: Wall-clock time by goal.
        sizes: Counts of the programs.
        alive: Gangs that go on running, by team.
        known: What is to be had where some gangs are given up; None where that is no use.
    """

    assignment: Assignment
    bounds: tuple[int, ...]
    seconds: tuple[float, ...]
    sizes: tuple[tuple[str, int], ...]
    alive: Counts
    known: Known | None = None


def supports(instance: Instance) -> bool:
    """Return whether the engine can say something about the instance, its size apart.

    Running gangs are whole or gone, which a sum over nodes does not see: the engine takes them
    divided. Nor does it see domains, over which rules between pods span, nor how shares of GPUs
    are packed. A node's slots are counted of one kind of GPU.
    """
    if instance.devices is not None:
        return False
    gpus = instance.room[:, goals.gpu_columns(instance)] > 0
    spans = instance.rules or any(kind.required is not None for kind in instance.kinds)
    return not instance.gangs and not spans and bool((gpus.sum(axis=1) <= 1).all())


def stages(instance: Instance, order: Order) -> tuple[Goal, ...]:
    """Return the stages that the engine knows.

    It does not look at which of the nodes of a kind are preferred, and does not see domains.
    """
    known = goals.in_order(instance, order)
    return tuple(goal for goal in known if not isinstance(goal, Together | Preferred))


def nobody_leaves(instance: Instance, policy: Policy) -> bool:
    """Return whether all that runs goes on running, whatever waits."""
    return not policy.max_evictions or not instance.wait_totals.sum()


def solve(
    instance: Instance,
    policy: Policy,
    budget: Budget,
    known: Known | None = None,
    start: Assignment | None = None,
) -> Found | None:
    """Return the best placement found within the budget; None when there is none.

    Where running gangs are divided, their pods may first go one by one. If that is no use to
    anybody, the placement is as good as any with whole gangs; else they are all kept, and the
    result says what to give up instead.
    `known` is that, of the same fleet, for an instance in which these gangs are given up.
    `start` is a placement of undivided gangs that is there already: where none is found, it comes
    back with what could be proved of it.
    """
    if not supports(instance):
        return None
    order = stages(instance, policy.order)
    if known is not None:
        found = _search(instance, policy, budget, loyal=True)
        if found is None:
            return None
        return replace(found, bounds=tuple(known.limits(order, instance, found.assignment)))
    ideal = _search(instance, policy, budget, loyal=False, start=start)
    if ideal is None or _loses_none(instance, ideal.assignment):
        return ideal
    known = Known(
        gangs=teams.given_up(instance, ideal.assignment, ideal.alive),
        values=tuple(goal.value(instance, ideal.assignment) for goal in order),
        bounds=ideal.bounds,
    )
    found = _search(instance, policy, budget, loyal=True)
    assignment = present(instance) if found is None else found.assignment
    bounds = tuple(known.limits(order, instance, assignment))
    return replace(ideal, assignment=assignment, bounds=bounds, known=known)


def _loses_none(instance: Instance, assignment: Assignment) -> bool:
    """Return whether all pods of divided gangs go on running."""
    lost = instance.run_totals - assignment.survivors
    return not lost[instance.loyal].any()


def _search(
    instance: Instance,
    policy: Policy,
    budget: Budget,
    *,
    loyal: bool,
    start: Assignment | None = None,
) -> Found | None:
    """Return the best of what three ways find; with `loyal`, no pod of a gang is lost."""

    def believer() -> _Believer:
        return _Believer(instance=instance, policy=policy, budget=budget, loyal=loyal)

    order = stages(instance, policy.order)
    found, tiers = None, believer()
    if policy.order is Order.PLACE_FIRST:
        # Nothing among the tiers' stages asks for the present placement.
        found = tiers.by_tiers()
    if policy.order is Order.DEFRAGMENT:
        found = believer().by_slots()
    elif found is None and not _placement_is_free(instance, policy):
        # Where everyone runs matters from the first stage on.
        found = believer().by_states()
    if found is not None and (
        budget.spent or _reaches(instance, order, found.assignment, found.bounds)
    ):
        return found
    climbed = _Climber(instance=instance, policy=policy, budget=budget, loyal=loyal).run()
    if found is None and climbed is None and start is not None:
        return tiers.bounded(start)
    if found is None or climbed is None:
        return found or climbed
    if goals.better(instance, order, found.assignment, climbed.assignment):
        return found
    if goals.better(instance, order, climbed.assignment, found.assignment):
        return climbed
    tighter = (
        min(pair) if goal.maximise else max(pair)
        for goal, *pair in zip(order, found.bounds, climbed.bounds, strict=True)
    )
    return replace(climbed, bounds=tuple(tighter))


def _reaches(
    instance: Instance, order: Sequence[Goal], assignment: Assignment, bounds: Sequence[int]
) -> bool:
    """Return whether a placement reaches every bound."""
    return tuple(goal.value(instance, assignment) for goal in order) == tuple(bounds)


def _placement_is_free(instance: Instance, policy: Policy) -> bool:
    """Return whether the tiers' stages can do without the present placement."""
    free = int(instance.run_totals.sum()) <= policy.max_moves and not instance.allowances
    return free and policy.order is Order.PLACE_FIRST


@dataclass(slots=True, kw_only=True)
class _Stages:
    """Goals with what is known of each, as the search goes on."""

    instance: Instance
    policy: Policy
    budget: Budget
    loyal: bool
    order: tuple[Goal, ...] = field(init=False)
    bounds: list[int] = field(default_factory=list)
    ends_at: list[float] = field(default_factory=list)
    started_at: float = field(init=False)
    sizes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = stages(self.instance, self.policy.order)
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
            return views.stateful(self.instance, loyal=self.loyal)
        keeps = [goal for goal in self.order if isinstance(goal, Keep)]
        kept = {goal.tier: goal.limit(self.instance) for goal in keeps}
        return views.settled(self.instance, kept, loyal=self.loyal)

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


@dataclass(slots=True, kw_only=True)
class _Believer(_Stages):
    """Takes every linear bound for reached, and looks for one point that reaches them all."""

    def by_tiers(self) -> Found | None:
        """Return a placement that is proved in every stage; None when there is none nearby."""
        tiers = self.build("tier", views.floating(self.instance, loyal=self.loyal), budgeted=False)
        if tiers is None or not all(self._believe(tiers, goal) for goal in self.tiers):
            return None
        leaves_none_free = self._leaves_none_free(tiers)
        view = views.settled(self.instance, self.kept(), loyal=self.loyal)
        fleet = self.build("keep", view, budgeted=True)
        if fleet is None:
            return None
        for goal, bound in zip(self.tiers, self.bounds, strict=True):
            require(fleet, goal, bound)
        fleet.program.limit(fleet.whole, *tiers.gangs)
        fleet.settle(self.kept())
        found = self._believe(fleet, self.order[len(self.tiers)])
        if found is None or not leaves_none_free:
            return self._placed(fleet, found)
        for each in self.slots:
            self.note(each, 0)
        return self._rounded(fleet, found)

    def by_states(self) -> Found | None:
        """Return the same from one program, in which every move counts in every stage."""
        fleet = self.build("keep", views.stateful(self.instance, loyal=self.loyal), budgeted=True)
        if fleet is None:
            return None
        for goal in self.before_slots:
            found = self._believe(fleet, goal)
            if found is None:
                return None
            if isinstance(goal, Keep):
                fleet.settle({goal.tier: self.bounds[-1]})
        return self._placed(fleet, found)

    def by_slots(self) -> Found | None:
        """Return the same where the largest free slots come before the least disruption."""
        fleet = self.build("keep", self.view(), budgeted=True)
        if fleet is None:
            return None
        assembly.add_slots(fleet)
        self.measure("keep", fleet)
        found: Branched | None = None
        for goal in self.order:
            if isinstance(goal, Keep) and nobody_leaves(self.instance, self.policy):
                fleet.settle({goal.tier: self.note(goal, goal.limit(self.instance))})
                continue
            found = self._believe(fleet, goal)
            if found is None:
                return None
            if isinstance(goal, Keep):
                fleet.settle({goal.tier: self.bounds[-1]})
            if isinstance(goal, LeastDisruption):
                fleet.program.shut(dear_nodes(fleet, found))
        return None if found is None else self._rounded(fleet, found)

    def _leaves_none_free(self, tiers: Fleet) -> bool:
        """Return whether every GPU is in use once all tiers are kept and placed."""
        most = tiers.program.relax(tiers.idle(), maximise=True, seconds=lambda: self.budget.seconds)
        return isinstance(most, Relaxed) and most.bound <= 0

    def _placed(self, fleet: Fleet, found: Branched | None) -> Found | None:
        """Return a placement that reaches every bound, or all but those of free slots.

        `found` is the last vertex before slots. What comes before them is not risked for them: a
        point near that vertex is looked for when one near the last is hard to find, and before
        that where half of the time is gone.
        """
        if found is None:
            return None
        if not self.slots:
            return self._rounded(fleet, found)
        dear = dear_nodes(fleet, found)
        assembly.add_slots(fleet)
        fleet.program.shut(np.setdiff1d(dear, fleet.reserved))
        self.measure("keep", fleet)
        rows, _ = fleet.program.shape
        whole = fleet.program.lower[fleet.whole], fleet.program.upper[fleet.whole]
        safe = beside(fleet, found, self.budget, rows=rows) if self._is_late else None
        last = self._leave_free(fleet)
        best = None if last is None else self._reaching(fleet, beside(fleet, last, self.budget))
        if best is not None:
            return best
        if safe is None:
            # Gangs were told what wins slots; this point does not have to.
            told = fleet.program.lower[fleet.whole], fleet.program.upper[fleet.whole]
            fleet.program.limit(fleet.whole, *whole)
            safe = beside(fleet, found, self.budget, rows=rows)
            fleet.program.limit(fleet.whole, *told)
        best = None if last is None else self._reaching(fleet, pushed(fleet, last, self.budget))
        if best is not None or safe is None:
            return best
        placement = unfold.assignment(fleet, safe)
        self._take_back(placement)
        return self.found(placement, safe[fleet.a])

    @property
    def _is_late(self) -> bool:
        """Whether half of the time is gone."""
        return self.budget.seconds < self.budget.clock() - self.started_at

    def _rounded(self, fleet: Fleet, found: Branched) -> Found | None:
        """Return a placement near the last vertex that reaches every bound."""
        point = beside(fleet, found, self.budget)
        if point is None:
            point = pushed(fleet, found, self.budget)
        return self._reaching(fleet, point)

    def _reaching(self, fleet: Fleet, point: Counts | None) -> Found | None:
        """Return the placement of a point, if it reaches every bound."""
        if point is None:
            return None
        placement = unfold.assignment(fleet, point)
        reached = _reaches(self.instance, self.order, placement, self.bounds)
        return self.found(placement, point[fleet.a]) if reached else None

    def bounded(self, placement: Assignment) -> Found:
        """Return a placement found elsewhere, with what was proved of it on the way."""
        self._take_back(placement)
        return self.found(placement, np.zeros(0, dtype=np.int64))

    def _take_back(self, placement: Assignment) -> None:
        """Forget the bounds after the first that is missed: they stand on its being reached.

        Stages that were not looked at get the bound that can be counted.
        """
        sound = 0
        for goal, bound in zip(self.order, self.bounds, strict=False):
            sound += 1
            if goal.value(self.instance, placement) != bound:
                break
        del self.bounds[sound:], self.ends_at[sound:]
        for goal in self.order[sound:]:
            self.note(goal, goal.limit(self.instance))

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
        fleet.program.limit(fleet.whole, found.lower, found.upper)

    def _best(self, fleet: Fleet, goal: Goal) -> Branched | None:
        if self.budget.spent:
            return None
        return relax_whole(
            fleet.program,
            fleet.terms(goal),
            fleet.whole,
            maximise=goal.maximise,
            seconds=lambda: self.budget.seconds,
        )


@dataclass(slots=True, kw_only=True)
class _Climber(_Stages):
    """Reaches stage after stage, each proved by a whole search where the bound is not met."""

    fleet: Fleet | None = None
    point: Counts | None = None

    def run(self) -> Found | None:
        """Return the best placement found; None when a program is too large or time ran out."""
        if _placement_is_free(self.instance, self.policy):
            self.fleet = self.build(
                "tier", views.floating(self.instance, loyal=self.loyal), budgeted=False
            )
            values = [self._reach(goal) for goal in self.tiers]
            if None in values:
                return None
            kept = {
                g.tier: v
                for g, v in zip(self.tiers, values, strict=True)
                if isinstance(g, Keep) and v is not None
            }
            view = views.settled(self.instance, kept, loyal=self.loyal)
            self.fleet, self.point = self.build("keep", view, budgeted=True), None
            if self.fleet is None:
                return None
            for goal, value in zip(self.tiers, values, strict=True):
                assert value is not None  # noqa: S101 - checked above
                require(self.fleet, goal, value)
            rest = self.order[len(self.tiers) :]
        else:
            seen = (
                self.view()
                if self.policy.order is Order.DEFRAGMENT
                else views.stateful(self.instance, loyal=self.loyal)
            )
            self.fleet = self.build("keep", seen, budgeted=True)
            rest = self.order
        return self._finish(rest)

    def _finish(self, rest: tuple[Goal, ...]) -> Found | None:
        """Climb the remaining stages, in a program that knows where everyone runs."""
        if self.fleet is None:
            return None
        if self.slots:
            assembly.add_slots(self.fleet)
            self.measure("keep", self.fleet)
        if any(self._reach(goal) is None for goal in rest):
            return None
        assert self.point is not None  # noqa: S101 - there is at least one stage
        placement = unfold.assignment(self.fleet, self.point)
        return self.found(placement, self.point[self.fleet.a])

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
        if isinstance(goal, Keep) and value == bound:
            self.fleet.settle({goal.tier: value})
        return value

    def _improve(self, fleet: Fleet, goal: Goal) -> int | None:
        """Look for a better point; return the bound, None when there is none in time."""
        terms = fleet.terms(goal)
        vertex = fleet.program.relax(
            terms, maximise=goal.maximise, seconds=lambda: self.budget.seconds
        )
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
        value = terms.value(solved.point)
        if (
            self.point is None
            or (value - terms.value(self.point)) * (1 if goal.maximise else -1) > 0
        ):
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
