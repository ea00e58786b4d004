"""Linear programs seen from what most nodes of each group do now.

So many nodes are dealt out to the choices of a group, and hardly a group needs more than two of its
dozens. One of them leads and takes what the others leave; these count as changes against it. What
is left of the row that deals out is a limit, which matters only where a second choice is taken: the
bases that GLOP keeps factorised are hardly larger than the rows that tie groups together, and a
pivot takes about half of the time. Columns that are fixed, or are not looked at yet, drop out.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bayplan.solver.problem.instance import Counts, Mask
from bayplan.solver.programs.linear import (
    At,
    Basis,
    Corner,
    Entries,
    Failure,
    Linear,
    Reals,
    minimum,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Groups of columns, of each of which so many are taken as its row says.

    Attributes:
        groups: [column] the group of which it is a choice; -1 for others.
        dealt: [group] the row that is the sum of the choices, with equal bounds.
    """

    groups: Counts = field(repr=False)
    dealt: Counts = field(repr=False)

    def widened(self, columns: int) -> "Choices":
        """Return the same among further columns, which are no choices."""
        more = np.full(columns, -1, dtype=np.int64)
        return Choices(groups=np.concatenate([self.groups, more]), dealt=self.dealt)


def minimum_of(
    program: Linear, choices: Choices, active: Mask, *, begin: Basis, seconds: float
) -> Corner | Failure:
    """Return the optimum where only some columns are free, as a corner among all of them.

    Args:
        program: The program; every column has bounds.
        choices: Its groups.
        active: [column] which may be taken; the others are at their least.
        begin: A corner to go on from.
        seconds: Wall-clock seconds it may take.
    """
    part = _Part.of(program, choices, active, begin)
    corner = minimum(part.relative(), seconds=seconds, begin=part.basis(begin))
    return corner if isinstance(corner, Failure) else part.whole(corner)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Some of the columns of a program, relative to the leaders of their groups.

    Attributes:
        program: The program.
        led: Its groups that have a leader.
        leads: [group] a basic column, that takes what the others leave.
        inside: Columns that are looked at, without leaders.
        origin: [column] the point at which all these are at zero.
        rows: Rows that say something about them.
    """

    program: Linear
    led: Choices
    leads: Counts = field(repr=False)
    inside: Counts = field(repr=False)
    origin: Reals = field(repr=False)
    rows: Counts = field(repr=False)

    @classmethod
    def of(cls, program: Linear, choices: Choices, active: Mask, begin: Basis) -> "_Part":
        """Return the part of a program that is looked at from a corner."""
        basic = begin.columns == At.BASIC
        led, leads = _leads(choices, basic, begin)
        looked_at = basic | (active & (program.lower < program.upper))
        looked_at[leads] = False
        inside = np.flatnonzero(looked_at)
        origin = np.where(looked_at, 0.0, program.lower)
        origin[leads] = 0
        taken = np.bincount(led.groups + 1, origin, minlength=len(leads) + 1)[1:]
        origin[leads] = program.least[led.dealt] - taken
        says = np.ones(len(program.least), dtype=np.bool_)
        says[led.dealt] = False
        of = led.groups[inside]
        says[led.dealt[of[of >= 0]]] = True
        return cls(
            program=program,
            led=led,
            leads=leads,
            inside=inside,
            origin=origin,
            rows=np.flatnonzero(says),
        )

    def relative(self) -> Linear:
        """Return the program of these columns, as changes against the origin."""
        program, dealt = self.program, self.led.dealt
        there = program.entries.sums(self.origin, len(program.least))
        least, most = program.least - there, program.most - there
        left = self.origin[self.leads]
        least[dealt] = left - program.upper[self.leads]
        most[dealt] = left - program.lower[self.leads]
        costs, of = program.costs[self.inside], self._groups
        costs[of >= 0] -= program.costs[self.leads[of[of >= 0]]]
        return Linear(
            costs=costs,
            lower=program.lower[self.inside],
            upper=program.upper[self.inside],
            least=least[self.rows],
            most=most[self.rows],
            entries=self._entries(),
        )

    def basis(self, begin: Basis) -> Basis:
        """Return a corner of the whole as one of this part."""
        rows = begin.rows.copy()
        rows[self.led.dealt] = At.BASIC
        return Basis(columns=begin.columns[self.inside], rows=rows[self.rows])

    def whole(self, corner: Corner) -> Corner:
        """Return a corner of this part as one of the whole."""
        program, dealt, of = self.program, self.led.dealt, self._groups
        point = self.origin.copy()
        point[self.inside] = corner.point
        taken = np.bincount(of + 1, corner.point, minlength=len(self.leads) + 1)[1:]
        point[self.leads] -= taken
        rows = np.full(len(program.least), At.BASIC, dtype=np.int64)
        rows[self.rows] = corner.basis.rows
        columns = np.full(len(program.costs), At.LOWER, dtype=np.int64)
        columns[self.inside] = corner.basis.columns
        columns[self.leads] = _MIRRORED[rows[dealt]]
        rows[dealt] = At.FIXED
        duals = np.zeros(len(program.least))
        duals[self.rows] = corner.duals
        limits, duals[dealt] = duals[dealt], 0
        prices = program.entries.prices(duals, len(program.costs))
        duals[dealt] = limits + (program.costs - prices)[self.leads]
        return Corner(
            value=float((program.costs * point).sum()),
            point=point,
            duals=duals,
            basis=Basis(columns=columns, rows=rows),
        )

    @property
    def _groups(self) -> Counts:
        """[column inside] the group of which it is a choice; -1 for others."""
        return self.led.groups[self.inside]

    def _entries(self) -> Entries:
        """Return the rows over these columns, each choice less what its leader weighs."""
        entries, dealt = self.program.entries, self.led.dealt
        column = _numbers(self.inside, len(self.program.costs))[entries.columns]
        leader = _numbers(self.leads, len(self.program.costs))[entries.columns]
        # What deals out a group is no change of a row, but limits the sum of the changes.
        leader[_numbers(dealt, len(self.program.least))[entries.rows] >= 0] = -1
        theirs = np.flatnonzero(leader >= 0)
        theirs = theirs[np.argsort(leader[theirs], kind="stable")]
        starts = np.searchsorted(leader[theirs], np.arange(len(dealt) + 1))
        follows = np.flatnonzero(self._groups >= 0)
        of = self._groups[follows]
        counts = np.diff(starts)[of]
        before = np.cumsum(counts) - counts
        less = theirs[np.repeat(starts[of] - before, counts) + np.arange(counts.sum())]
        own = np.flatnonzero(column >= 0)
        row = _numbers(self.rows, len(self.program.least))[entries.rows]
        return Entries.summed(
            row[np.concatenate([own, less])],
            np.concatenate([column[own], np.repeat(follows, counts)]),
            np.concatenate([entries.weights[own], -entries.weights[less]]),
        )


def _leads(choices: Choices, basic: Mask, begin: Basis) -> tuple[Choices, Counts]:
    """Return the groups of which some column is basic and the row is not, and such a column."""
    columns = np.flatnonzero(basic & (choices.groups >= 0))
    last = np.full(len(choices.dealt), -1, dtype=np.int64)
    np.maximum.at(last, choices.groups[columns], columns)
    some = np.flatnonzero((last >= 0) & (begin.rows[choices.dealt] != At.BASIC))
    # The last number is for what is in no group.
    number = np.append(_numbers(some, len(choices.dealt)), -1)
    return Choices(groups=number[choices.groups], dealt=choices.dealt[some]), last[some]


def _numbers(some: Counts, count: int) -> Counts:
    """Return for each of so many its place among `some`; -1 for others."""
    numbers = np.full(count, -1, dtype=np.int64)
    numbers[some] = np.arange(len(some))
    return numbers


#: [At] where a leader is when its row is there.
_MIRRORED: Final = np.zeros(max(At) + 1, dtype=np.int64)
_MIRRORED[[At.LOWER, At.UPPER, At.FIXED, At.BASIC]] = [At.UPPER, At.LOWER, At.FIXED, At.BASIC]
