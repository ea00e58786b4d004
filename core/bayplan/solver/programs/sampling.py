"""Where a large linear program begins: at what prices say, and these come from a sample.

From a corner in which everyone stays, GLOP needs three pivots for each group of nodes that changes.
But what a group does follows from what rows are worth, and every sixth group, taken for six like
it, says that well enough: most groups are at their cheapest choice from the beginning, and what is
left to do is between choices that cost the same. The optimum is that of all groups, whatever the
sample says.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from bayplan.solver.problem.instance import Counts, Mask
from bayplan.solver.programs.linear import At, Basis, Failure, Linear, Reals
from bayplan.solver.programs.relative import Choices
from bayplan.solver.programs.sifting import Seconds, Start, paid

#: How many groups one of the sample stands for.
_EVERY: Final = 6

#: What two prices may differ by and still be the same.
_SAME: Final = 1e-6


def foreseen(program: Linear, choices: Choices, start: Start, seconds: Seconds) -> Start:
    """Return where to begin instead: each group at its cheapest choice.

    At `start`, one choice of each group is basic, and takes all there is to deal out.
    """
    stays = np.flatnonzero((choices.groups >= 0) & (start.basis.columns == At.BASIC))
    corner = paid(_sample(program, choices, stays), choices, start, seconds=seconds)
    if isinstance(corner, Failure):
        return start
    prices = program.costs - program.entries.prices(corner.duals, len(program.costs))
    cheapest = _cheapest(program, choices, prices)
    goes = np.flatnonzero(~cheapest[stays])
    likely = np.flatnonzero(cheapest)
    old, new = stays[goes], likely[np.searchsorted(choices.groups[likely], goes)]
    columns, point = start.basis.columns.copy(), start.point.copy()
    columns[old], columns[new] = At.LOWER, At.BASIC
    point[old], point[new] = 0, program.least[choices.dealt[goes]]
    basis = Basis(columns=columns, rows=start.basis.rows)
    return Start(basis=basis, point=point, likely=cheapest)


def _sample(program: Linear, choices: Choices, stays: Counts) -> Linear:
    """Return the program in which only every sixth group can change, but six times as much."""
    times = np.zeros(len(stays) + 1)
    times[:-1:_EVERY] = _EVERY
    size = program.least[choices.dealt]
    upper = program.upper * np.where(choices.groups < 0, 1, times[choices.groups])
    upper[stays] = size
    lower = program.lower.copy()
    lower[stays] = size * np.minimum(1, 1 - times[:-1])
    return replace(program, lower=lower, upper=upper)


def _cheapest(program: Linear, choices: Choices, prices: Reals) -> Mask:
    """[column] whether no choice of its group has a lower price."""
    is_open = (choices.groups >= 0) & (program.lower < program.upper)
    least = np.full(len(choices.dealt) + 1, np.inf)
    np.minimum.at(least, choices.groups[is_open], prices[is_open])
    return np.asarray(is_open & (prices <= least[choices.groups] + _SAME), dtype=np.bool_)
