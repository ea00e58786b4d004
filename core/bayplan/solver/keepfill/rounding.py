"""From a vertex of the relaxation to whole nodes, without giving up what the vertex is worth.

Few columns of a vertex are not whole, so most of the time there is a whole point beside it, which
CP-SAT finds in hundredths of a second. Where there is none, the vertex is pushed: of all vertices
that are as good, the one nearest to a rounding of the last has hardly a fraction left (the
feasibility pump of Fischetti, Glover and Lodi, Mathematical Programming 104, 2005).
"""

from dataclasses import replace
from typing import Final

import numpy as np

from bayplan.solver.keepfill.fleet import Fleet
from bayplan.solver.problem.instance import Counts
from bayplan.solver.programs.branch import Branched
from bayplan.solver.programs.budget import Budget
from bayplan.solver.programs.program import Relaxed, Terms

#: Share of what is left of the time that one push may use.
_SHARE: Final = 0.5

#: Deterministic effort of one look beside a vertex: most end in a tenth of it, or never.
_EFFORT: Final = 0.02

#: How often a vertex is pushed, first a little and then as far as need be, and the effort of one
#: look beside it then.
_NUDGES: Final = 3
_PUSHES: Final = 8
_FAR_EFFORT: Final = 0.1

#: By how much the whole part of the vertex may be undercut at the end, and the effort spent on it.
_LAST: Final = (1, 0.8)


def beside(
    fleet: Fleet, found: Branched, budget: Budget, *, rows: int | None = None
) -> Counts | None:
    """Return an integer point that keeps the whole part of the vertex; None if none is found.

    Columns that were added since it was found stay at 0, and only so many `rows` are met.
    """
    return _beside(fleet, found, found.vertex, budget, rows=rows)


def pushed(fleet: Fleet, found: Branched, budget: Budget) -> Counts | None:
    """Return an integer point beside one of the vertices that are as good; None if none is found.

    What the vertex is worth must be among the rows.
    """
    random = np.random.default_rng(budget.seed)
    vertex = found.vertex
    for k in range(_NUDGES + _PUSHES):
        if budget.spent:
            return None
        far = k >= _NUDGES
        distance = _distance(vertex, random)
        nearer = fleet.program.pushed(
            vertex, distance, far=far, seconds=lambda: budget.seconds * _SHARE
        )
        if nearer is None:
            return None
        vertex = nearer
        point = _beside(fleet, found, vertex, budget, effort=_FAR_EFFORT if far else _EFFORT)
        if point is not None:
            return point
    slack, effort = _LAST
    return _beside(fleet, found, found.vertex, budget, slack=slack, effort=effort)


def dear_nodes(fleet: Fleet, found: Branched) -> Counts:
    """Return the columns of which one node alone would cost more than the bound allows."""
    at_zero = (found.root.point <= 0) & (fleet.program.lower == 0)
    return np.flatnonzero(found.root.dear(found.bound) & at_zero & ~fleet.wide)


def _beside(  # noqa: PLR0913 - where to look, and how far
    fleet: Fleet,
    found: Branched,
    vertex: Relaxed,
    budget: Budget,
    *,
    rows: int | None = None,
    slack: int = 0,
    effort: float = _EFFORT,
) -> Counts | None:
    limits = replace(budget.limits(), effort=min(effort, budget.effort))
    return fleet.program.near(vertex, fleet.wide, limits, bound=found.bound, slack=slack, rows=rows)


def _distance(vertex: Relaxed, random: np.random.Generator) -> Terms:
    """Return how far a point is from a rounding: each fraction goes up as likely as it is large."""
    part = vertex.point - np.floor(vertex.point)
    columns = np.flatnonzero(vertex.fractions)
    up = random.random(len(columns)) < part[columns]
    return Terms(columns=columns, weights=np.where(up, -1, 1))
