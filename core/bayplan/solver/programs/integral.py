"""Integer points of a linear program by CP-SAT: any between two corners, or the best of all.

The rows come as the arrays that GLOP gets too; few of them are left once most columns have their
value, so only these are told one by one.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from ortools.sat.python import cp_model

from bayplan.solver.problem.instance import Counts, Mask
from bayplan.solver.programs.linear import Entries, Linear, Reals


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long CP-SAT may take: wall-clock seconds, deterministic effort, and the seed."""

    seconds: float
    effort: float
    seed: int

    def solver(self) -> cp_model.CpSolver:
        """Return a solver with one worker under these limits."""
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = self.seed
        solver.parameters.max_time_in_seconds = max(0.01, self.seconds)
        solver.parameters.max_deterministic_time = max(0.01, self.effort)
        return solver


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """What an exact search found.

    Attributes:
        point: The best integer point; None when there was none in time.
        bound: What nothing can beat; None when nothing was proved.
        infeasible: Whether it is proved that there is no integer point.
        effort: Deterministic time used.
    """

    point: Counts | None
    bound: int | None
    infeasible: bool
    effort: float


def between(program: Linear, base: Counts, room: Counts, limits: Limits) -> Counts | None:
    """Return a point from `base` to `base + room` that meets the rows; None if none is found."""
    entries = program.entries
    done = entries.sums(base.astype(np.float64), len(program.least))
    room = _tightened(program, done, room)
    is_free = room > 0
    some = entries.without(~is_free)
    asked = np.zeros(len(done), dtype=np.bool_)
    asked[some.rows] = True
    met = (program.least <= done) & (done <= program.most)
    if not (asked | met).all():
        return None
    model = cp_model.CpModel()
    free = np.flatnonzero(is_free)
    variables = {j: model.new_int_var(0, most, "") for j, most in _pairs(free, room[free])}
    _add_rows(model, variables, some, program.least - done, program.most - done)
    solver = limits.solver()
    if solver.solve(model) not in _SOLVED:
        return None
    point = base.copy()
    point[free] += np.array([solver.value(each) for each in variables.values()], dtype=np.int64)
    return point


def best(program: Linear, limits: Limits) -> Solved:
    """Search for the integer point of the least costs; the bound is of these, and whole."""
    model = cp_model.CpModel()
    variables = {
        j: model.new_int_var(int(low), int(high), "")
        for j, (low, high) in enumerate(_pairs(program.lower, program.upper))
    }
    _add_rows(model, variables, program.entries, program.least, program.most)
    dear = np.flatnonzero(program.costs)
    model.minimize(_total(variables, dear, program.costs[dear]))
    solver = limits.solver()
    # Where only a few columns go together, their linear bounds prove what search hardly would.
    solver.parameters.linearization_level = 2
    status = solver.solve(model)
    used = solver.response_proto.deterministic_time
    if status not in _SOLVED:
        proved = status == cp_model.INFEASIBLE
        return Solved(point=None, bound=None, infeasible=proved, effort=used)
    return Solved(
        point=np.array([solver.value(each) for each in variables.values()], dtype=np.int64),
        bound=math.ceil(solver.best_objective_bound - 1e-6),
        infeasible=False,
        effort=used,
    )


#: Statuses that come with a solution.
_SOLVED: Final = (cp_model.OPTIMAL, cp_model.FEASIBLE)

#: Beyond every sum of a row.
_ENDLESS: Final = 1 << 50


def _tightened(program: Linear, done: Reals, room: Counts) -> Counts:
    """Return `room` less what rows of positive weights have no place for."""
    entries = program.entries
    tight: Mask = program.most < math.inf
    tight[entries.rows[entries.weights < 0]] = False
    some = tight[entries.rows]
    left = np.maximum(0, program.most - done)[entries.rows[some]]
    room = room.copy()
    np.minimum.at(room, entries.columns[some], (left // entries.weights[some]).astype(np.int64))
    return room


def _add_rows(
    model: cp_model.CpModel,
    variables: dict[int, cp_model.IntVar],
    entries: Entries,
    least: Reals,
    most: Reals,
) -> None:
    """Add the rows that have entries."""
    rows, first = np.unique(entries.rows, return_index=True)
    ends = np.append(first, len(entries.rows))
    for k, row in enumerate(rows.tolist()):
        mine = slice(ends[k], ends[k + 1])
        total = _total(variables, entries.columns[mine], entries.weights[mine])
        model.add_linear_constraint(total, _whole(least[row]), _whole(most[row]))


def _total(
    variables: dict[int, cp_model.IntVar], columns: Counts, weights: Reals
) -> cp_model.LinearExpr:
    terms = [variables[j] for j in columns.tolist()]
    constant = cp_model.LinearExpr.constant(0)
    return constant + cp_model.LinearExpr.weighted_sum(terms, weights.astype(np.int64).tolist())


def _whole(bound: float) -> int:
    return int(max(-_ENDLESS, min(_ENDLESS, bound)))


def _pairs(some: Counts | Reals, others: Counts | Reals) -> "zip[tuple[int, int]]":
    return zip(some.tolist(), others.tolist(), strict=True)
