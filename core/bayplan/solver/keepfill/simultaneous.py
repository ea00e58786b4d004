"""The quick way through the stages: believe every linear bound, and meet them all at one point.

Such a point is optimal in each stage. In fleets of few kinds there nearly always is one beside the
last vertex, so that hardly a stage costs more than a few pivots.
"""

from dataclasses import dataclass

import numpy as np

from bayplan.solver.keepfill import assembly, unfold, views
from bayplan.solver.keepfill.fleet import Fleet
from bayplan.solver.keepfill.found import Found
from bayplan.solver.keepfill.rounding import beside, dear_nodes, pushed
from bayplan.solver.keepfill.stages import Stages, nobody_leaves, reaches, require
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import Goal, Keep, LeastDisruption, Place
from bayplan.solver.problem.instance import Counts
from bayplan.solver.programs.branch import Branched, relax_whole
from bayplan.solver.programs.program import Relaxed


@dataclass(slots=True, kw_only=True)
class Simultaneous(Stages):
    """Takes every linear bound for reached, and looks for one point that reaches them all."""

    def by_tiers(self) -> Found | None:
        """Return a placement that is proved in every stage; None when there is none nearby."""
        tiers = self.build(
            "tier", views.floating(self.instance, gangs_stay=self.gangs_stay), budgeted=False
        )
        if tiers is None or not all(self._believe(tiers, goal) for goal in self.tiers):
            return None
        leaves_none_free = self._leaves_none_free(tiers)
        view = views.settled(self.instance, self.kept(), gangs_stay=self.gangs_stay)
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
        fleet = self.build(
            "keep", views.stateful(self.instance, gangs_stay=self.gangs_stay), budgeted=True
        )
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
        reached = reaches(self.instance, self.order, placement, self.bounds)
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
