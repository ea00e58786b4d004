"""The relaxation with a few columns whole: best-first branching over linear programs.

Gangs are worth many pods each, so half a gang makes a bound that nothing near it can meet. There
are few kinds of gangs, and a handful of branches makes their numbers whole.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bayplan.solver.problem.instance import Counts
from bayplan.solver.programs.linear import Failure
from bayplan.solver.programs.program import TOLERANCE, Program, Relaxed, Terms

#: Most linear programs of one search; beyond it the bound is what is proved by then.
MAX_BRANCHES: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Branched:
    """The best vertex with whole columns.

    Attributes:
        root: The vertex without any branch.
        vertex: The best vertex; its columns are whole unless the search ended early.
        bound: The best integer that is still possible.
        lower: [column] the least with which the bound may be reached.
        upper: [column] the most with which the bound may be reached.
    """

    root: Relaxed
    vertex: Relaxed
    bound: int
    lower: Counts = field(repr=False)
    upper: Counts = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branch:
    """Part of the search space: bounds of the columns, and the best vertex within."""

    lower: Counts = field(repr=False)
    upper: Counts = field(repr=False)
    vertex: Relaxed = field(repr=False)
    fractions: Counts = field(repr=False)

    def rank(self) -> tuple[float, int, float]:
        """Return what orders branches: the best bound first, and whole ones among equals."""
        sign = -1 if self.vertex.maximise else 1
        return (sign * self.vertex.bound, len(self.fractions), sign * self.vertex.value)


def relax_whole(
    program: Program,
    goal: Terms,
    columns: Counts,
    *,
    maximise: bool,
    seconds: Callable[[], float],
) -> Branched | None:
    """Return the best vertex at which `columns` are whole; None when there is none in time."""
    root = _solved(program, goal, columns, maximise=maximise, seconds=seconds)
    if not isinstance(root, _Branch):
        return None
    queue, made = [(root.rank(), 0, root)], 1
    while queue:
        _, _, best = heapq.heappop(queue)
        if not len(best.fractions) or made > MAX_BRANCHES:
            return _ended(root, best, [branch for _, _, branch in queue])
        for lower, upper in _halves(best, columns):
            with _Narrowed(program, columns, lower, upper):
                child = _solved(program, goal, columns, maximise=maximise, seconds=seconds)
            if isinstance(child, _Branch):
                heapq.heappush(queue, (child.rank(), made, child))
                made += 1
            elif child != Failure.INFEASIBLE:
                return None
    return None


def _solved(
    program: Program, goal: Terms, columns: Counts, *, maximise: bool, seconds: Callable[[], float]
) -> _Branch | Failure:
    vertex = program.relax(goal, maximise=maximise, seconds=seconds)
    if not isinstance(vertex, Relaxed):
        return vertex
    at = vertex.point[columns]
    return _Branch(
        lower=program.lower[columns],
        upper=program.upper[columns],
        vertex=vertex,
        fractions=np.flatnonzero(np.abs(at - np.rint(at)) > TOLERANCE),
    )


def _ended(root: _Branch, best: _Branch, others: list[_Branch]) -> Branched:
    """Return the best branch, with the reach of all that may be as good."""
    bound = best.vertex.bound
    alive = [best, *(branch for branch in others if branch.vertex.bound == bound)]
    return Branched(
        root=root.vertex,
        vertex=best.vertex,
        bound=bound,
        lower=np.min([branch.lower for branch in alive], axis=0),
        upper=np.max([branch.upper for branch in alive], axis=0),
    )


def _halves(branch: _Branch, columns: Counts) -> tuple[tuple[Counts, Counts], ...]:
    """Return the bounds of the two branches on either side of the first fraction."""
    j = int(branch.fractions[0])
    below = branch.upper.copy()
    below[j] = int(np.floor(branch.vertex.point[columns[j]]))
    above = branch.lower.copy()
    above[j] = below[j] + 1
    return (branch.lower, below), (above, branch.upper)


class _Narrowed:
    """The program with tighter bounds of some columns, for as long as the context lasts."""

    def __init__(self, program: Program, columns: Counts, lower: Counts, upper: Counts) -> None:
        self._program = program
        self._columns = columns
        self._inside = (lower, upper)
        self._outside = (program.lower[columns], program.upper[columns])

    def __enter__(self) -> None:
        self._program.limit(self._columns, *self._inside)

    def __exit__(self, *_: object) -> None:
        self._program.limit(self._columns, *self._outside)
