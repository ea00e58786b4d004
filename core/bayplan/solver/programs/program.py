"""An integer program as rows and columns: its linear bound, a rounding near it, and the exact way.

It knows nothing of pods and nodes. GLOP gives the bound, and goes on from its last vertex when rows
were added or the goal is another; CP-SAT finds an integer point near such a vertex, which is enough
when the bound can be met, or searches the whole program when it cannot.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from bayplan.solver.problem.instance import Counts, Mask
from bayplan.solver.programs.integral import Limits, Solved, best, between
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
from bayplan.solver.programs.relative import Choices, minimum_of
from bayplan.solver.programs.sampling import foreseen
from bayplan.solver.programs.sifting import Seconds, Start, sifted

#: Columns, their weights, and the least and the most of the sum.
_Row = tuple[Counts, Counts, float, float]

#: What a column of GLOP's vertices may be off by.
TOLERANCE: Final = 1e-5

#: Fewer choices than this are solved before a beginning is worth its while.
_MANY: Final = 4000

#: What GLOP's optimum may be off by, in parts of it; its own tolerances are 1e-8.
_RELATIVE: Final = 1e-6

#: By how much a price must exceed what is allowed, so that GLOP's tolerance cannot matter.
_MARGIN: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A weighted sum of columns and a constant."""

    columns: Counts
    weights: Counts
    constant: int = 0

    @classmethod
    def joined(cls, parts: Sequence["Terms"]) -> "Terms":
        """Return the sum of several sums."""
        return cls(
            columns=np.concatenate([NONE, *(part.columns for part in parts)]),
            weights=np.concatenate([NONE, *(part.weights for part in parts)]),
            constant=sum(part.constant for part in parts),
        )

    @classmethod
    def over(cls, columns: Counts, weight: int = 1) -> "Terms":
        """Return the columns with one common weight."""
        return cls(columns=columns, weights=np.full(len(columns), weight, dtype=np.int64))

    def value(self, point: Counts) -> int:
        """Return the sum at an integer point."""
        return int(point[self.columns] @ self.weights) + self.constant


#: No columns.
NONE: Final = np.zeros(0, dtype=np.int64)

#: A sum of nothing.
NOTHING: Final = Terms(columns=NONE, weights=NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """An optimal vertex of the relaxation.

    Attributes:
        value: The optimum, without the constant of the goal.
        constant: The constant of the goal.
        maximise: Whether more is better.
        point: [column] the vertex.
        prices: [column] reduced costs, all positive where a column would only make it worse.
    """

    value: float
    constant: int
    maximise: bool
    point: Reals
    prices: Reals

    @property
    def bound(self) -> int:
        """The best integer that the relaxation allows; never too strict."""
        slack = 10 * TOLERANCE + _RELATIVE * abs(self.value)
        whole = math.floor(self.value + slack) if self.maximise else math.ceil(self.value - slack)
        return whole + self.constant

    @property
    def fractions(self) -> Mask:
        """[column] whether it is not whole."""
        off = np.abs(self.point - np.rint(self.point))
        return np.asarray(off > TOLERANCE, dtype=np.bool_)

    def widened(self, columns: int) -> "Relaxed":
        """Return the same vertex in a program of so many columns: those that came later are 0."""
        more = columns - len(self.point)
        return replace(
            self,
            point=np.concatenate([self.point, np.zeros(more)]),
            prices=np.concatenate([self.prices, np.full(more, np.inf)]),
        )

    def dear(self, bound: int) -> Mask:
        """[column] whether one more of it would cost more than `bound` leaves to give."""
        spare = abs(bound - self.constant - self.value) + _MARGIN
        return np.asarray(self.prices > spare, dtype=np.bool_)


@dataclass(slots=True)
class Program:
    """Columns with bounds, and rows over them; rows and columns are only ever added."""

    lower: Counts = field(default_factory=lambda: NONE)
    upper: Counts = field(default_factory=lambda: NONE)
    _rows: list[_Row] = field(default_factory=list)
    _groups: Counts = field(default_factory=lambda: NONE)
    _dealt: Counts = field(default_factory=lambda: NONE)
    _begin: Counts = field(default_factory=lambda: NONE)
    _closed: Mask = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    _entries: Entries = field(default_factory=Entries.none)
    _entered: int = 0
    _last: Corner | None = None

    def add_columns(
        self, upper: Counts, lower: Counts | None = None, *, begin: At = At.LOWER
    ) -> Counts:
        """Add a column per entry of `upper`; return their indices.

        GLOP begins with all of them at one of their bounds, if it begins where this program says.
        """
        first, added = len(self.lower), len(upper)
        least = np.zeros_like(upper) if lower is None else lower
        self.lower = np.concatenate([self.lower, least])
        self.upper = np.concatenate([self.upper, upper])
        self._groups = np.concatenate([self._groups, np.full(added, -1, dtype=np.int64)])
        self._begin = np.concatenate([self._begin, np.full(added, begin, dtype=np.int64)])
        self._closed = np.concatenate([self._closed, np.zeros(added, dtype=np.bool_)])
        return np.arange(first, first + added, dtype=np.int64)

    def add_choices(self, sizes: Counts, owner: Counts) -> Counts:
        """Add groups of columns, of each of which as many as its size are taken.

        GLOP may begin with the last column of each group taken alone.

        Args:
            sizes: [group] how many are taken.
            owner: [column] the group it belongs to; ascending.

        Returns:
            The indices of the columns.
        """
        added = self.add_columns(sizes[owner])
        self._groups[added] = len(self._dealt) + owner
        ends, once = np.searchsorted(owner, np.arange(len(sizes) + 1)), np.ones_like(added)
        some = (slice(*pair) for pair in itertools.pairwise(ends.tolist()))
        rows = [
            self.add_row(Terms(columns=added[mine], weights=once[mine]), lower=size, upper=size)
            for mine, size in zip(some, sizes.tolist(), strict=True)
        ]
        self._dealt = np.concatenate([self._dealt, np.array(rows, dtype=np.int64)])
        self._begin[added[ends[1:] - 1]] = At.BASIC
        return added

    def add_row(self, terms: Terms, *, lower: float = -math.inf, upper: float = math.inf) -> int:
        """Add a row; return its index."""
        low, high = lower - terms.constant, upper - terms.constant
        self._rows.append((terms.columns, terms.weights, low, high))
        return len(self._rows) - 1

    def extend_row(self, row: int, terms: Terms) -> None:
        """Add further columns to a row."""
        columns, before, lower, upper = self._rows[row]
        joined = np.concatenate([columns, terms.columns])
        self._rows[row] = (joined, np.concatenate([before, terms.weights]), lower, upper)
        if row < self._entered:
            self._entries, self._entered = Entries.none(), 0

    def shut(self, columns: Counts) -> None:
        """Fix columns at zero for good."""
        self.upper[columns] = 0
        self._closed[columns] = True
        self._entries = self._entries.without(self._closed)

    def limit(self, columns: Counts, lower: Counts, upper: Counts) -> None:
        """Set the bounds of columns."""
        self.lower[columns], self.upper[columns] = lower, upper

    def relax(self, goal: Terms, *, maximise: bool, seconds: Seconds) -> Relaxed | Failure:
        """Return the optimum of the relaxation, or why there is none in the `seconds` left."""
        program = self._linear(goal, -1 if maximise else 1)
        corner = self._optimum(program, seconds)
        if isinstance(corner, Failure):
            return corner
        self._last = corner
        return Relaxed(
            value=-corner.value if maximise else corner.value,
            constant=goal.constant,
            maximise=maximise,
            point=corner.point,
            prices=program.costs - program.entries.prices(corner.duals, len(self.lower)),
        )

    def pushed(
        self, vertex: Relaxed, goal: Terms, *, far: bool, seconds: Seconds
    ) -> Relaxed | None:
        """Return a vertex at which `goal` is less; None if there is none in time.

        If it need not be `far`, only groups of which some column is not whole take what they did
        not take at the last optimum, where that is enough to meet the rows.
        """
        vertex = vertex.widened(len(self.lower))
        corner = Failure.UNKNOWN if far else self._nearby(vertex, goal, seconds())
        if not isinstance(corner, Failure):
            self._last = corner
            return replace(vertex, point=corner.point)
        found = self.relax(goal, maximise=False, seconds=seconds)
        return replace(vertex, point=found.point) if isinstance(found, Relaxed) else None

    def _nearby(self, vertex: Relaxed, goal: Terms, seconds: float) -> Corner | Failure:
        program, start = self._linear(goal, 1), self._start()
        if not start.fits(program):
            return Failure.UNKNOWN
        may = (self._groups < 0) | (start.basis.columns != At.LOWER)
        may |= np.isin(self._groups, self._groups[vertex.fractions])
        return minimum_of(program, self._choices, may, begin=start.basis, seconds=seconds)

    def _linear(self, goal: Terms, sign: int) -> Linear:
        """Return the relaxation, in which `sign` times the goal is a cost."""
        costs = np.bincount(goal.columns, goal.weights, minlength=len(self.lower))
        return Linear(
            costs=sign * costs.astype(np.float64),
            lower=self.lower.astype(np.float64),
            upper=self.upper.astype(np.float64),
            least=np.array([least for _, _, least, _ in self._rows], dtype=np.float64),
            most=np.array([most for _, _, _, most in self._rows], dtype=np.float64),
            entries=self._matrix(),
        )

    def _matrix(self) -> Entries:
        """Return the rows over all columns but those that are shut."""
        new = self._rows[self._entered :]
        if new:
            sizes = [len(columns) for columns, _, _, _ in new]
            added = Entries.summed(
                np.repeat(np.arange(self._entered, len(self._rows)), sizes),
                np.concatenate([NONE, *(columns for columns, _, _, _ in new)]),
                np.concatenate([NONE, *(weights for _, weights, _, _ in new)]),
            )
            self._entries = self._entries.followed(added.without(self._closed))
            self._entered = len(self._rows)
        return self._entries

    def _optimum(self, program: Linear, seconds: Seconds) -> Corner | Failure:
        """Return the optimum, from what is known of it if that helps."""
        if self._last is None and np.count_nonzero(self._groups >= 0) < _MANY:
            return minimum(program, seconds=seconds())
        start, choices = self._start(), self._choices
        if start.fits(program):
            if self._last is None:
                start = foreseen(program, choices, start, seconds)
            corner = sifted(program, choices, start, seconds=seconds)
        else:
            corner = minimum(program, seconds=seconds(), begin=start.basis)
        if corner is Failure.UNKNOWN:
            return minimum(program, seconds=seconds())
        return corner

    def _start(self) -> Start:
        """Return the last optimum, or where the program says to begin."""
        rows, columns = self.shape
        nothing = np.zeros(columns, dtype=np.bool_)
        if self._last is not None:
            new = self.lower[len(self._last.point) :].astype(np.float64)
            at = np.concatenate([self._last.point, new])
            return Start(basis=self._last.basis.grown(columns, rows), point=at, likely=nothing)
        at_rows = np.full(rows, At.BASIC, dtype=np.int64)
        at_rows[self._dealt] = At.FIXED
        at = np.where(self._begin == At.LOWER, self.lower, self.upper).astype(np.float64)
        return Start(basis=Basis(columns=self._begin, rows=at_rows), point=at, likely=nothing)

    @property
    def _choices(self) -> Choices:
        return Choices(groups=self._groups, dealt=self._dealt)

    def near(  # noqa: PLR0913 - where to look, and how far
        self,
        vertex: Relaxed,
        wide: Mask,
        limits: Limits,
        *,
        bound: int,
        slack: int = 0,
        rows: int | None = None,
    ) -> Counts | None:
        """Return an integer point that keeps the whole part of the vertex.

        Args:
            vertex: Where to look; columns that were added since it was found stay at 0.
            wide: [column] columns that may take any value.
            limits: How long to look.
            bound: The value that the point must reach.
            slack: By how much the whole part may be undercut.
            rows: How many of the rows, in their order, the point must meet; None for all.
        """
        vertex = vertex.widened(len(self.lower))
        program = self._linear(NOTHING, 1)
        if rows is not None:
            program = program.begun(rows)
        if not vertex.fractions.any() and program.holds(np.rint(vertex.point)):
            return np.rint(vertex.point).astype(np.int64)
        whole = np.floor(vertex.point + TOLERANCE).astype(np.int64)
        base = np.where(wide, self.lower, np.maximum(self.lower, whole - slack))
        cheap = wide | ~vertex.dear(bound) | (vertex.point > TOLERANCE)
        room = np.where(cheap, self.upper - base, 0)
        return between(program, base, room, limits)

    def solve(self, goal: Terms, limits: Limits, *, maximise: bool) -> Solved:
        """Search the whole program for the best integer point."""
        sign = -1 if maximise else 1
        solved = best(self._linear(goal, sign), limits)
        if solved.bound is None:
            return solved
        return replace(solved, bound=sign * solved.bound + goal.constant)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return len(self._rows), len(self.lower)
