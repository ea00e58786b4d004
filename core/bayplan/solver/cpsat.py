"""The exact model: CP-SAT over classes and nodes, one objective after the other.

Every stage starts from the incumbent, as a hint and as a lower bound, and ends with the better of
the two; so a stage that runs out of time loses nothing. One worker, one seed and a limit in
deterministic time make equal inputs give equal plans.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ortools.sat.python import cp_model

from bayplan.plan import EVICTION_COST
from bayplan.policy import Policy
from bayplan.solver import goals, variables
from bayplan.solver.assignment import Assignment
from bayplan.solver.constraints import RULES
from bayplan.solver.goals import FreeSlots, Goal, Keep, LeastDisruption, Place
from bayplan.solver.instance import Counts, Instance
from bayplan.solver.variables import Expression, Variables

#: Statuses that come with a solution.
_SOLVED: Final = (cp_model.OPTIMAL, cp_model.FEASIBLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one stage found.

    Attributes:
        assignment: The solution; None when there was none in time.
        bound: What nothing can beat; None when nothing was proved.
        effort: Deterministic time used, in CP-SAT's unit of about a second.
    """

    assignment: Assignment | None
    bound: int | None
    effort: float


@dataclass(slots=True)
class Model:
    """The model of one instance, to which stages add what they reached."""

    instance: Instance
    policy: Policy
    seed: int
    model: cp_model.CpModel = field(init=False)
    v: Variables = field(init=False)
    _slots: dict[int, list[tuple[int, int, cp_model.IntVar]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = cp_model.CpModel()
        self.v = variables.declare(self.model, self.instance)
        for rule in RULES:
            rule.add(self.model, self.v, self.policy)

    def require(self, goal: Goal, value: int) -> None:
        """Make every later solution at least as good in `goal` as `value`."""
        term = self._term(goal)
        self.model.add(term >= value if goal.maximise else term <= value)

    def improve(
        self, goal: Goal, incumbent: Assignment, *, seconds: float, effort: float, spare: bool
    ) -> Outcome:
        """Look for a better assignment within wall-clock `seconds` and deterministic `effort`.

        With `spare`, only among those that evict no more pods than the incumbent does; then the
        outcome has no bound.
        """
        term = self._term(goal)
        self.require(goal, goal.value(self.instance, incumbent))
        self._hint(incumbent)
        model = self.model.clone() if spare else self.model
        if spare:
            model.add(self.v.surviving_in_all() >= int(incumbent.survivors.sum()))
        if goal.maximise:
            model.maximize(term)
        else:
            model.minimize(term)
        solver = self._solver(seconds, effort)
        status = solver.solve(model)
        used = solver.response_proto.deterministic_time
        if status not in _SOLVED:
            return Outcome(assignment=None, bound=None, effort=used)
        bound = _whole(solver.best_objective_bound, up=not goal.maximise)
        return Outcome(
            assignment=variables.read(solver, self.v),
            bound=None if spare else bound,
            effort=used,
        )

    def _solver(self, seconds: float, effort: float) -> cp_model.CpSolver:
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = self.seed
        solver.parameters.max_time_in_seconds = max(0.01, seconds)
        solver.parameters.max_deterministic_time = max(0.01, effort)
        return solver

    def _hint(self, incumbent: Assignment) -> None:
        variables.hint(self.model, self.v, incumbent)
        used = incumbent.final.T @ self.instance.requests
        free = self.instance.room - used
        for size, slots in self._slots.items():
            for n, k, variable in slots:
                self.model.add_hint(variable, max(0, int(free[n, k])) // size)

    def _term(self, goal: Goal) -> Expression:
        """Return the goal as an expression over the variables."""
        match goal:
            case Keep():
                return self._sum(goal.mask(self.instance), self.v.surviving)
            case Place():
                return self._sum(goal.mask(self.instance), self.v.placed)
            case LeastDisruption():
                return self._sum(goal.mask(self.instance), self._suffering)
            case FreeSlots():
                return variables.summed([s for _, _, s in self._slots_of(goal.size)])
        raise TypeError(f"no term for {goal!r}")

    def _sum(self, mask: Counts, term: Callable[[int], Expression]) -> Expression:
        return variables.summed([term(i) for i, counts in enumerate(mask) if counts])

    def _suffering(self, index: int) -> Expression:
        """Return what the running pods of a class suffer."""
        each = self.instance.classes[index]
        disturbed = len(each.running) - self.v.staying(index)
        evicted = len(each.running) - self.v.surviving(index)
        return each.move_cost * disturbed + EVICTION_COST * evicted

    def _slots_of(self, size: int) -> list[tuple[int, int, cp_model.IntVar]]:
        """Return the number of free slots per open node and GPU resource, made on first use."""
        if size not in self._slots:
            self._slots[size] = [
                (n, k, self._slot(size, n, k))
                for n in self.instance.open_nodes.tolist()
                for k in goals.gpu_columns(self.instance).tolist()
                if self.instance.room[n, k] >= size
            ]
        return self._slots[size]

    def _slot(self, size: int, n: int, k: int) -> cp_model.IntVar:
        room = int(self.instance.room[n, k])
        slots = self.model.new_int_var(0, room // size, f"slots_{size}_{n}_{k}")
        here = self.v.by_node.get(n, [])
        used = variables.summed(
            [var for _, var in here], [int(self.instance.requests[i, k]) for i, _ in here]
        )
        fits = self.model.add(size * slots + used <= room)
        if self._overfull(n, k):
            # What runs here may stay although it is too much; only then there are no slots.
            some = self.model.new_bool_var(f"some_slots_{size}_{n}_{k}")
            fits.only_enforce_if(some)
            self.model.add(slots == 0).only_enforce_if(~some)
        return slots

    def _overfull(self, n: int, k: int) -> bool:
        return bool(self.instance.capacity[n, k] > self.instance.room[n, k])


def _whole(bound: float, *, up: bool) -> int:
    """Return the best integer that a bound on an integer objective still allows."""
    return math.ceil(bound - 1e-6) if up else math.floor(bound + 1e-6)
