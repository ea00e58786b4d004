"""Large linear programs by the few of their columns that matter.

Most columns are choices: so many nodes are dealt out to the columns of a group, and hardly a group
needs more than two of its dozens. GLOP sees the columns that are taken now and, after each optimum,
those that its prices call a bargain, until there are none. What is short in the rows at the
beginning is paid dearly. So it may begin with a corner that means something and only lacks what
is asked for, as that in which everyone stays; GLOP's own way to a first point within the rows
gives up what it then takes thousands of pivots to take back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from bayplan.solver.problem.instance import Counts, Mask
from bayplan.solver.programs.linear import At, Basis, Corner, Entries, Failure, Linear, Reals
from bayplan.solver.programs.relative import Choices, minimum_of

#: New columns of a group after each optimum: more make pivots slower, fewer make more rounds.
_BARGAINS: Final = 2

#: What a missing unit of a row costs, in costs of the dearest column.
_PENALTY: Final = 1000.0

#: What a price may be below zero, and a column or a sum beyond its bounds.
_TOLERANCE: Final = 1e-7

#: What has to be missing in all, so that no tolerance can be the reason.
_SURELY: Final = 1e-4


#: Returns the wall-clock seconds that are left.
Seconds = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where to begin, and what to look at first.

    Attributes:
        basis: A corner; sums of rows may be beyond their bounds there, if the row is basic.
        point: [column] the same corner as a point, within the bounds of columns.
        likely: [column] what may well be taken at the optimum.
    """

    basis: Basis
    point: Reals = field(repr=False)
    likely: Mask = field(repr=False)

    def fits(self, program: Linear) -> bool:
        """Return whether it is within the bounds of columns, and what is not basic at one."""
        at, lower, upper = self.point, program.lower, program.upper
        within = (at >= lower - _TOLERANCE) & (at <= upper + _TOLERANCE)
        bound = np.where(self.basis.columns == At.UPPER, upper, lower)
        free = self.basis.columns == At.BASIC
        return bool((within & (free | (np.abs(at - bound) <= _TOLERANCE))).all())


def sifted(
    program: Linear, choices: Choices, start: Start, *, seconds: Seconds
) -> Corner | Failure:
    """Return the optimum of a linear program with many columns in groups.

    Args:
        program: The program.
        choices: Its groups; the least of each choice is nothing.
        start: Where to begin.
        seconds: Returns the wall-clock seconds that are left.

    Returns:
        The optimum, or why there is none; `Failure.UNKNOWN` if a row stays short that need not be.
    """
    elastic, start, short = _elastic(program, start)
    choices = choices.widened(len(short))
    corner = _by_price(elastic, choices, start, seconds=seconds)
    if isinstance(corner, Failure):
        return corner
    if not _missing(corner, short):
        return _met(corner, short, program.costs)
    # The penalty was not enough, or nothing is: look for the least that has to be missing.
    costs = np.repeat([0.0, 1.0], [len(program.costs), len(short)])
    again = replace(start, basis=corner.basis)
    least = _by_price(replace(elastic, costs=costs), choices, again, seconds=seconds)
    if isinstance(least, Failure):
        return least
    return Failure.INFEASIBLE if least.value > _SURELY else Failure.UNKNOWN


def paid(program: Linear, choices: Choices, start: Start, *, seconds: Seconds) -> Corner | Failure:
    """Return the optimum where what rows are short of may be paid for; its last columns are that.

    The arguments are those of `sifted`.
    """
    elastic, start, short = _elastic(program, start)
    return _by_price(elastic, choices.widened(len(short)), start, seconds=seconds)


def _by_price(
    program: Linear, choices: Choices, start: Start, *, seconds: Seconds
) -> Corner | Failure:
    """Return the optimum from a corner within all rows, adding columns until none is a bargain."""
    begin = start.basis
    active = (choices.groups < 0) | (begin.columns != At.LOWER) | start.likely
    while (left := seconds()) > 0:
        corner = minimum_of(program, choices, active, begin=begin, seconds=left)
        if corner is Failure.INFEASIBLE:
            return Failure.UNKNOWN  # a row is off by a rounding, which these columns cannot mend
        if isinstance(corner, Failure):
            return corner
        begin = corner.basis
        prices = program.costs - program.entries.prices(corner.duals, len(active))
        cheap = ~active & (prices < -_TOLERANCE) & (program.upper > program.lower)
        if not cheap.any():
            return corner
        active[_best(np.flatnonzero(cheap), prices, choices.groups)] = True
    return Failure.LATE


def _elastic(program: Linear, start: Start) -> tuple[Linear, Start, Counts]:
    """Return both with a dear column for each row that is not met, and these rows."""
    begin = start.basis
    sums = program.entries.sums(start.point, len(program.least))
    short = sums < program.least - _TOLERANCE
    rows = np.flatnonzero(short | (sums > program.most + _TOLERANCE))
    if not len(rows):
        return program, start, rows
    columns = len(program.costs) + np.arange(len(rows), dtype=np.int64)
    off = np.maximum(program.least[rows] - sums[rows], sums[rows] - program.most[rows])
    entries = Entries.summed(
        np.concatenate([program.entries.rows, rows]),
        np.concatenate([program.entries.columns, columns]),
        np.concatenate([program.entries.weights, np.where(short[rows], 1.0, -1.0)]),
    )
    penalty = _PENALTY * max(1.0, np.abs(program.costs).max(initial=0))
    elastic = replace(
        program,
        costs=np.concatenate([program.costs, np.full(len(rows), penalty)]),
        lower=np.concatenate([program.lower, np.zeros(len(rows))]),
        upper=np.concatenate([program.upper, off + 1]),
        entries=entries,
    )
    # A row that is at its bound is off by a rounding: another basic column were one too many.
    free = begin.rows[rows] == At.BASIC
    at_rows = begin.rows.copy()
    at_rows[rows[free]] = np.where(short[rows[free]], At.LOWER, At.UPPER)
    basic = np.where(free, At.BASIC, At.LOWER).astype(np.int64)
    paying = Start(
        basis=Basis(columns=np.concatenate([begin.columns, basic]), rows=at_rows),
        point=np.concatenate([start.point, np.where(free, off, 0.0)]),
        likely=np.concatenate([start.likely, np.ones(len(rows), dtype=np.bool_)]),
    )
    return elastic, paying, rows


def _best(cheap: Counts, prices: Reals, groups: Counts) -> Counts:
    """Return the lowest prices of each group."""
    of = groups[cheap]
    order = np.lexsort((cheap, prices[cheap], of))
    first = np.flatnonzero(np.diff(of[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    return cheap[order[rank < _BARGAINS]]


def _missing(corner: Corner, short: Counts) -> bool:
    """Return whether one of the last columns, which were added for these rows, is used."""
    return bool((corner.point[len(corner.point) - len(short) :] > _TOLERANCE).any())


def _met(corner: Corner, short: Counts, costs: Reals) -> Corner:
    """Return the corner without the columns that were added for these rows, nor their costs.

    They are at zero but for roundings, which would count a thousandfold.
    """
    count = len(corner.point) - len(short)
    rows = corner.basis.rows.copy()
    rows[short[corner.basis.columns[count:] == At.BASIC]] = At.BASIC
    basis = Basis(columns=corner.basis.columns[:count], rows=rows)
    point = corner.point[:count]
    return replace(corner, value=float((costs * point).sum()), point=point, basis=basis)
