"""Linear programs as arrays, solved by GLOP, which can go on from where it ended before.

Stages differ by a row and the goal, so the basis of one is a few pivots from the optimum of the
next. MathOpt is the door to GLOP that takes and returns a basis; its messages are filled from
arrays here, since its Python model makes an object of each column.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from ortools.math_opt import (
    callback_pb2,
    model_parameters_pb2,
    model_pb2,
    parameters_pb2,
    result_pb2,
    solution_pb2,
)
from ortools.math_opt.core.python import solver as mathopt

from bayplan.solver.problem.instance import Counts, Mask

Reals = NDArray[np.float64]


class At(IntEnum):
    """Where a column, or the sum of a row, is in a basic solution."""

    LOWER = solution_pb2.BASIS_STATUS_AT_LOWER_BOUND
    UPPER = solution_pb2.BASIS_STATUS_AT_UPPER_BOUND
    FIXED = solution_pb2.BASIS_STATUS_FIXED_VALUE
    BASIC = solution_pb2.BASIS_STATUS_BASIC


class Failure(IntEnum):
    """Why there is no optimum."""

    INFEASIBLE = 1
    LATE = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """A corner of a linear program: as many basic columns and rows as there are rows.

    Attributes:
        columns: [column] one of `At`.
        rows: [row] one of `At`.
    """

    columns: Counts = field(repr=False)
    rows: Counts = field(repr=False)

    def grown(self, columns: int, rows: int) -> "Basis":
        """Return the same corner of a program with further columns, all at zero, and rows."""
        new_columns = np.full(columns - len(self.columns), At.LOWER, dtype=np.int64)
        new_rows = np.full(rows - len(self.rows), At.BASIC, dtype=np.int64)
        return Basis(
            columns=np.concatenate([self.columns, new_columns]),
            rows=np.concatenate([self.rows, new_rows]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """The weights of a matrix other than zero, by row and within one by column.

    Attributes:
        rows: [entry] its row.
        columns: [entry] its column.
        weights: [entry] its weight.
    """

    rows: Counts = field(repr=False)
    columns: Counts = field(repr=False)
    weights: Reals = field(repr=False)

    @classmethod
    def summed(cls, rows: Counts, columns: Counts, weights: Counts | Reals) -> "Entries":
        """Return entries given in any order, those of one place as their sum."""
        place = (rows << _COLUMN_BITS) + columns
        order = np.argsort(place, kind="stable")
        place = place[order]
        first = np.flatnonzero(np.diff(place, prepend=-1))
        total = np.add.reduceat(weights[order].astype(np.float64), first)
        used = total != 0
        place = place[first][used]
        return cls(
            rows=place >> _COLUMN_BITS,
            columns=place & ((1 << _COLUMN_BITS) - 1),
            weights=total[used],
        )

    @classmethod
    def none(cls) -> "Entries":
        """Return rows without entries."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(rows=nothing, columns=nothing, weights=nothing.astype(np.float64))

    def followed(self, others: "Entries") -> "Entries":
        """Return the same with those of later rows."""
        return Entries(
            rows=np.concatenate([self.rows, others.rows]),
            columns=np.concatenate([self.columns, others.columns]),
            weights=np.concatenate([self.weights, others.weights]),
        )

    def begun(self, rows: int) -> "Entries":
        """Return those of the first rows."""
        end = int(np.searchsorted(self.rows, rows))
        return Entries(rows=self.rows[:end], columns=self.columns[:end], weights=self.weights[:end])

    def without(self, columns: Mask) -> "Entries":
        """Return the same without some columns.

        Args:
            columns: [column] whether it is left out.
        """
        left = ~columns[self.columns]
        return Entries(rows=self.rows[left], columns=self.columns[left], weights=self.weights[left])

    def sums(self, point: Reals, rows: int) -> Reals:
        """Return [row] the sum of each of so many rows at a point."""
        parts = self.weights * point[self.columns]
        return np.bincount(self.rows, parts, minlength=rows).astype(np.float64)

    def prices(self, duals: Reals, columns: int) -> Reals:
        """Return [column] what one of each of so many columns takes from the rows, at a price."""
        parts = self.weights * duals[self.rows]
        return np.bincount(self.columns, parts, minlength=columns).astype(np.float64)


#: More columns than any program has.
_COLUMN_BITS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """Make `costs` times the columns as small as possible.

    Attributes:
        costs: [column] what one costs.
        lower: [column] the least.
        upper: [column] the most.
        least: [row] the least sum.
        most: [row] the most.
        entries: The rows.
    """

    costs: Reals = field(repr=False)
    lower: Reals = field(repr=False)
    upper: Reals = field(repr=False)
    least: Reals = field(repr=False)
    most: Reals = field(repr=False)
    entries: Entries = field(repr=False)

    def holds(self, point: Reals) -> bool:
        """Return whether a point is within all bounds."""
        sums = self.entries.sums(point, len(self.least))
        within = ((self.lower <= point) & (point <= self.upper)).all()
        return bool(within and ((self.least <= sums) & (sums <= self.most)).all())

    def capped(self, least: float, most: float) -> "Linear":
        """Return the same with one more row: that the costs are no less and no more than so."""
        dear = np.flatnonzero(self.costs)
        row = Entries(
            rows=np.full(len(dear), len(self.least), dtype=np.int64),
            columns=dear,
            weights=self.costs[dear],
        )
        return replace(
            self,
            least=np.append(self.least, least),
            most=np.append(self.most, most),
            entries=self.entries.followed(row),
        )

    def begun(self, rows: int) -> "Linear":
        """Return the same with the first rows alone."""
        return replace(
            self,
            least=self.least[:rows],
            most=self.most[:rows],
            entries=self.entries.begun(rows),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Corner:
    """An optimal basic solution.

    Attributes:
        value: The optimum.
        point: [column] where it is.
        duals: [row] what one more of its bound adds to the optimum.
        basis: Which columns and rows are at a bound.
    """

    value: float
    point: Reals = field(repr=False)
    duals: Reals = field(repr=False)
    basis: Basis = field(repr=False)


def minimum(program: Linear, *, seconds: float, begin: Basis | None = None) -> Corner | Failure:
    """Return the optimum of a linear program, or why there is none.

    Args:
        program: The program; every column has bounds.
        seconds: Wall-clock seconds it may take.
        begin: A corner to go on from; without one GLOP looks for one of its own.
    """
    parameters = parameters_pb2.SolveParametersProto()
    parameters.time_limit.FromTimedelta(timedelta(seconds=max(0.01, seconds)))
    # All weights are small whole numbers; scaling blurs them, and takes half as long again.
    parameters.glop.use_scaling = False
    more = model_parameters_pb2.ModelSolveParametersProto()
    if begin is not None:
        # What prepares a program makes another one of it, in which the basis says nothing.
        parameters.glop.use_preprocessing = False
        more.initial_basis.CopyFrom(_basis(begin))
    result = mathopt.solve(
        _model(program),
        parameters_pb2.SOLVER_TYPE_GLOP,
        parameters_pb2.SolverInitializerProto(),
        parameters,
        more,
        None,
        callback_pb2.CallbackRegistrationProto(),
        None,
        None,
    )
    reason = result.termination.reason
    if reason in _INFEASIBLE:
        return Failure.INFEASIBLE
    if reason == result_pb2.TERMINATION_REASON_OPTIMAL:
        return _corner(result)
    return Failure.LATE if reason in _LATE else Failure.UNKNOWN


#: Every column has bounds, so that nothing is unbounded.
_INFEASIBLE: Final = (
    result_pb2.TERMINATION_REASON_INFEASIBLE,
    result_pb2.TERMINATION_REASON_INFEASIBLE_OR_UNBOUNDED,
)

#: What is said when time has run out, with a point within the rows or without.
_LATE: Final = (
    result_pb2.TERMINATION_REASON_FEASIBLE,
    result_pb2.TERMINATION_REASON_NO_SOLUTION_FOUND,
)


def _model(program: Linear) -> model_pb2.ModelProto:
    columns, rows, entries = len(program.costs), len(program.least), program.entries
    dear = np.flatnonzero(program.costs)
    return model_pb2.ModelProto(
        variables=model_pb2.VariablesProto(
            ids=range(columns),
            lower_bounds=program.lower.tolist(),
            upper_bounds=program.upper.tolist(),
            integers=[False] * columns,
        ),
        objective=model_pb2.ObjectiveProto(
            linear_coefficients={
                "ids": dear.tolist(),
                "values": program.costs[dear].tolist(),
            }
        ),
        linear_constraints=model_pb2.LinearConstraintsProto(
            ids=range(rows),
            lower_bounds=program.least.tolist(),
            upper_bounds=program.most.tolist(),
        ),
        linear_constraint_matrix={
            "row_ids": entries.rows.tolist(),
            "column_ids": entries.columns.tolist(),
            "coefficients": entries.weights.tolist(),
        },
    )


def _basis(begin: Basis) -> solution_pb2.BasisProto:
    return solution_pb2.BasisProto(
        variable_status={"ids": range(len(begin.columns)), "values": begin.columns.tolist()},
        constraint_status={"ids": range(len(begin.rows)), "values": begin.rows.tolist()},
    )


def _corner(result: result_pb2.SolveResultProto) -> Corner:
    solution = result.solutions[0]
    primal, dual, basis = solution.primal_solution, solution.dual_solution, solution.basis
    return Corner(
        value=primal.objective_value,
        point=np.array(primal.variable_values.values, dtype=np.float64),
        duals=np.array(dual.dual_values.values, dtype=np.float64),
        basis=Basis(
            columns=np.array(basis.variable_status.values, dtype=np.int64),
            rows=np.array(basis.constraint_status.values, dtype=np.int64),
        ),
    )
