"""The sure way through the stages: reach each, and prove it, before the next.

Where a linear bound is not met by whole nodes, or no point is found near it, CP-SAT searches the
whole program of a stage. It takes longer than `simultaneous`, and answers more.
"""

from dataclasses import dataclass

from bayplan.policy import Order
from bayplan.solver.keepfill import assembly, unfold, views
from bayplan.solver.keepfill.fleet import Fleet
from bayplan.solver.keepfill.found import Found
from bayplan.solver.keepfill.stages import Stages, placement_is_free, require
from bayplan.solver.problem.goals import Goal, Keep
from bayplan.solver.problem.instance import Counts
from bayplan.solver.programs.program import Relaxed


@dataclass(slots=True, kw_only=True)
class Sequential(Stages):
    """Reaches stage after stage, each proved by a whole search where the bound is not met."""

    fleet: Fleet | None = None
    point: Counts | None = None

    def run(self) -> Found | None:
        """Return the best placement found; None when a program is too large or time ran out."""
        if placement_is_free(self.instance, self.policy):
            self.fleet = self.build(
                "tier", views.floating(self.instance, gangs_stay=self.gangs_stay), budgeted=False
            )
            values = [self._reach(goal) for goal in self.tiers]
            if None in values:
                return None
            kept = {
                g.tier: v
                for g, v in zip(self.tiers, values, strict=True)
                if isinstance(g, Keep) and v is not None
            }
            view = views.settled(self.instance, kept, gangs_stay=self.gangs_stay)
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
                else views.stateful(self.instance, gangs_stay=self.gangs_stay)
            )
            self.fleet = self.build("keep", seen, budgeted=True)
            rest = self.order
        return self._finish(rest)

    def _finish(self, rest: tuple[Goal, ...]) -> Found | None:
        """Reach the remaining stages, in a program that knows where everyone runs."""
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
