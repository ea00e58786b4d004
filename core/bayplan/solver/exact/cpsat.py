"""The exact model: CP-SAT over classes and nodes, one objective after the other.

Every stage starts from the incumbent, as a hint and as a lower bound, and ends with the better of
the two; so a stage that runs out of time loses nothing. A model of a window is small enough to take
all goals at once, each worth more than the sum of those after it. One worker, one seed and a limit
in deterministic time make equal inputs give equal plans.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from ortools.sat.python import cp_model

from bayplan.plan import EVICTION_COST
from bayplan.policy import Policy
from bayplan.solver.exact import rows, variables
from bayplan.solver.exact.constraints import RULES
from bayplan.solver.exact.variables import Expression, Variables, Window
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import (
    FreeSlots,
    Goal,
    Keep,
    LeastDisruption,
    Place,
    Preferred,
    Together,
)
from bayplan.solver.problem.instance import Counts, Instance

#: Largest weight of a goal when several are one objective; doubles are exact up to 2^53.
_MAX_WEIGHT: Final = 2**45

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
    """The model of one instance or a window of it, to which stages add what they reached."""

    instance: Instance
    policy: Policy
    seed: int
    window: Window | None = None
    model: cp_model.CpModel = field(init=False)
    v: Variables = field(init=False)
    _gangs: dict[int, list[cp_model.IntVar]] = field(default_factory=dict)
    _slots: dict[int, list[tuple[int, int, cp_model.IntVar]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = cp_model.CpModel()
        self.v = variables.declare(self.model, self.instance, self.window)
        for rule in RULES:
            rule.add(self.model, self.v, self.policy)

    def require(self, goal: Goal, value: int, *, best: bool = False) -> None:
        """Make every later solution at least as good in `goal` as `value`.

        That nothing better exists (`best`) is worth telling: what follows from it, such as how
        many pods are evicted, is then no more than a constant of the goals to come.
        """
        term = self._term(goal)
        if best:
            self.model.add(term == value)
        else:
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
        found, solver = self._solved(model, seconds=seconds, effort=effort)
        if found.assignment is None or spare:
            return found
        bound = _whole(solver.best_objective_bound, up=not goal.maximise)
        return replace(found, bound=bound)

    def climb(
        self, order: Sequence[Goal], incumbent: Assignment, *, seconds: float, effort: float
    ) -> Outcome:
        """Look for what is better in the goals `order`, most important first.

        Goals at the end of a long order are left out when their weights would get too large.
        """
        terms = [self._term(goal) * (1 if goal.maximise else -1) for goal in order]
        self._hint(incumbent)
        self.model.maximize(self._weighted(terms))
        return self._solved(self.model, seconds=seconds, effort=effort)[0]

    def _weighted(self, terms: Sequence[Expression]) -> Expression:
        """Return the sum of the terms, each unit of one worth more than all after it."""
        spans = list(_while_product([self._span(term) + 1 for term in terms], _MAX_WEIGHT))
        weights = [math.prod(spans[i + 1 :]) for i in range(len(spans))]
        return variables.summed(terms[: len(spans)], weights)

    def _span(self, term: Expression) -> int:
        """Return how much a term can differ between two solutions, at most."""
        flat = cp_model.FlatIntExpr(term)
        domains = [list(self.model.proto.variables[each.index].domain) for each in flat.vars]
        widths = [domain[-1] - domain[0] for domain in domains]
        return sum(abs(weight) * width for weight, width in zip(flat.coeffs, widths, strict=True))

    def _solved(
        self, model: cp_model.CpModel, *, seconds: float, effort: float
    ) -> tuple[Outcome, cp_model.CpSolver]:
        solver = self._solver(seconds, effort)
        status = solver.solve(model)
        solved = status in _SOLVED
        outcome = Outcome(
            assignment=variables.read(solver, self.v, self.window) if solved else None,
            bound=None,
            effort=solver.response_proto.deterministic_time,
        )
        return outcome, solver

    def _solver(self, seconds: float, effort: float) -> cp_model.CpSolver:
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        # All rules are sums: their linear bounds prove in a moment what search takes seconds for.
        solver.parameters.linearization_level = 2
        solver.parameters.random_seed = self.seed
        solver.parameters.max_time_in_seconds = max(0.01, seconds)
        solver.parameters.max_deterministic_time = max(0.01, effort)
        return solver

    def _hint(self, incumbent: Assignment) -> None:
        variables.hint(self.model, self.v, incumbent)
        free = self.instance.left(incumbent.final)
        for size, slots in self._slots.items():
            for n, k, variable in slots:
                self.model.add_hint(variable, max(0, int(free[n, k])) // size)

    def _term(self, goal: Goal) -> Expression:
        """Return the goal as an expression over the variables."""
        match goal:
            case Keep():
                return self._sum(goal.mask(self.instance), self.v.surviving, self.v.fixed.survivors)
            case Place():
                return self._sum(goal.mask(self.instance), self.v.placed, self.v.fixed.placed)
            case LeastDisruption():
                return self._sum(goal.mask(self.instance), self._suffering, self._suffered())
            case Together():
                return variables.summed(self._together(goal))
            case Preferred():
                return self._preferred()
            case FreeSlots():
                slots = [s for _, _, s in self._slots_of(goal.size)]
                return variables.summed(slots) + self._slots_outside(goal)
        raise TypeError(f"no term for {goal!r}")

    def _together(self, goal: Together) -> list[cp_model.IntVar]:
        """Return the gangs inside each domain that they prefer, counted on first use."""
        if goal.rank not in self._gangs:
            self._gangs[goal.rank] = [
                count
                for k in goal.kinds(self.instance)
                for count in rows.gangs_inside(
                    self.model,
                    self.v,
                    k,
                    self.instance.kinds[k].preferred[goal.rank],
                    exactly=False,
                )
            ]
        return self._gangs[goal.rank]

    def _preferred(self) -> Expression:
        wishes = self.instance.wishes
        assert wishes is not None  # noqa: S101 - the goal is only asked where there are any
        came = [(at, var, 1) for at, var in self.v.final.items()]
        came += [(at, var, -1) for at, var in self.v.kept.items()]
        wished = [(var, sign * int(wishes[at])) for at, var, sign in came if wishes[at]]
        return variables.weighted([var for var, _ in wished], [n for _, n in wished])

    def _sum(self, mask: Counts, term: Callable[[int], Expression], fixed: Counts) -> Expression:
        """Return the sum over classes that count; of those outside, `fixed` says what they are."""
        inside = list(self.v.classes)
        outside = int(mask @ fixed) - int(mask[inside] @ fixed[inside])
        return variables.summed([term(i) for i in inside if mask[i]]) + outside

    def _suffered(self) -> Counts:
        """Return [class] what is suffered that the variables do not count."""
        disturbed = self.instance.run_totals - self.v.fixed.kept
        evicted = self.instance.run_totals - self.v.fixed.survivors
        return np.asarray(self.instance.move_costs * disturbed + EVICTION_COST * evicted)

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
                if self.window is None or n in self.window.nodes
                for k in goals.gpu_columns(self.instance).tolist()
                if self.instance.room[n, k] >= size
            ]
        return self._slots[size]

    def _slots_outside(self, goal: FreeSlots) -> int:
        """Return the free slots of the nodes that are not decided."""
        if self.window is None:
            return 0
        base = self.window.base
        free = self.instance.left(base.final)
        inside = sum(max(0, int(free[n, k])) // goal.size for n, k, _ in self._slots_of(goal.size))
        return goal.value(self.instance, base) - inside

    def _slot(self, size: int, n: int, k: int) -> cp_model.IntVar:
        room = int(self.instance.room[n, k])
        slots = self.model.new_int_var(0, room // size, f"slots_{size}_{n}_{k}")
        here = self.v.by_node.get(n, [])
        used = variables.summed(
            [var for _, var in here], [int(self.instance.requests[i, k]) for i, _ in here]
        )
        fixed = int(self.instance.capacity[n, k] - self.v.fixed.capacity[n, k])
        devices = self.instance.devices
        if devices is not None and k == devices.column and n in self.v.held:
            used += self.v.held[n]
        fits = self.model.add(size * slots + used <= room - fixed)
        if self._overfull(n, k):
            # What runs here may stay although it is too much; only then there are no slots.
            some = self.model.new_bool_var(f"some_slots_{size}_{n}_{k}")
            fits.only_enforce_if(some)
            self.model.add(slots == 0).only_enforce_if(~some)
        return slots

    def _overfull(self, n: int, k: int) -> bool:
        if self.instance.capacity[n, k] > self.instance.room[n, k]:
            return True
        devices = self.instance.devices
        if devices is None or k != devices.column:
            return False
        now = self.instance.running[:, n]
        taken = int(now @ self.instance.requests[:, k]) + devices.held(n, now)
        return bool(taken > self.instance.room[n, k])


def _whole(bound: float, *, up: bool) -> int:
    """Return the best integer that a bound on an integer objective still allows."""
    return math.ceil(bound - 1e-6) if up else math.floor(bound + 1e-6)


def _while_product(factors: Iterable[int], most: int) -> Iterator[int]:
    """Yield factors as long as their product is at most `most`."""
    product = 1
    for factor in factors:
        product *= factor
        if product > most:
            return
        yield factor
