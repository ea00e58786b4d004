"""The online score with a few moves: now and then a share goes to a GPU that it fits better.

When the cluster is full, what nobody can use lies in the gaps that shares leave on their GPUs. A
good move goes from a GPU with much room to one whose gap it just fills: it makes large gaps larger
and small gaps smaller, which the sum of their squares sees. Arrivals earn moves; they are saved
until the cluster is filling up, and spent only on moves that are worth it.
"""

from typing import Final

import numpy as np

from bayplan.online.kinds import Kind
from bayplan.online.scorer import Row, Scorer, Spot
from bayplan.online.value import Ints
from bayplan.units import WHOLE_MILLI
from benchmarks.openb.policies import Start, scorer
from benchmarks.openb.trace import Trace

#: Part of the GPUs that is in use when moves begin.
_BEGIN: Final = 0.75

#: Least growth of the sum of squared gaps that is worth a move: a gap of 0.15 GPU closed.
_LEAST: Final = (15 * WHOLE_MILLI // 100) ** 2

#: A move is looked for after every so many arrivals.
_EVERY: Final = 10

#: Stands for "no gap".
_NONE: Final = 10 * WHOLE_MILLI


def moving(moves_per_100: float) -> Start:
    """Return how to start the score with so many moves for 100 arrivals."""

    def start(trace: Trace, _: int) -> Moving:
        return Moving(scorer(trace), moves_per_100=moves_per_100)

    return start


class Moving:
    """Places each pod where a scorer sees the least loss, and moves some shares later.

    Attributes:
        moves: Moves so far.
    """

    def __init__(self, scorer: Scorer, *, moves_per_100: float) -> None:
        self.moves = 0
        self._scorer = scorer
        self._begin_milli = (1 - _BEGIN) * scorer.devices.sum()
        self._earned_by_arrival = moves_per_100 / 100
        self._arrivals = 0
        self._shares: list[tuple[Kind, Spot]] = []

    def arrive(self, kind: Kind) -> bool:
        """Place a pod, then move what has been earned; return whether it fitted."""
        self._arrivals += 1
        spot = self._scorer.choose(kind)
        if spot is not None:
            self._scorer.take(kind, spot)
            if kind.is_share:
                self._shares.append((kind, spot))
        if self._arrivals % _EVERY == 0 and self._scorer.devices.sum() <= self._begin_milli:
            self._spend()
        return spot is not None

    def _spend(self) -> None:
        """Make the moves that are worth it, as far as they are earned."""
        earned = int(self._arrivals * self._earned_by_arrival)
        while self.moves < earned and self._move():
            self.moves += 1

    def _move(self) -> bool:
        """Move the share that gains most; return whether one gains enough."""
        goals = {kind: self._tightest(kind) for kind in {kind for kind, _ in self._shares}}
        gaps = self._scorer.devices.tolist()
        best, chosen = _LEAST - 1, None
        for index, (kind, spot) in enumerate(self._shares):
            goal = goals[kind]
            if goal is None or goal == spot:
                continue
            size = kind.gpu_milli
            here, there = gaps[spot.row][spot.devices[0]], gaps[goal.row][goal.devices[0]]
            gain = (here + size) ** 2 - here**2 + (there - size) ** 2 - there**2
            if gain > best:
                best, chosen = gain, (index, goal)
        if chosen is None:
            return False
        index, goal = chosen
        kind, spot = self._shares[index]
        self._scorer.give(kind, spot)
        self._scorer.take(kind, goal)
        self._shares[index] = (kind, goal)
        return True

    def _tightest(self, kind: Kind) -> Spot | None:
        """Return the GPU in use with the smallest gap that takes a share; None without one."""
        gaps = self._scorer.devices
        fits = np.isfinite(self._scorer.score(kind).loss)[:, None]
        able = fits & (gaps >= kind.gpu_milli) & (gaps < WHOLE_MILLI)
        tight: Ints = np.where(able, gaps, _NONE)
        row, device = divmod(int(tight.argmin()), gaps.shape[1])
        return Spot(row=Row(row), devices=(device,)) if tight[row, device] < _NONE else None
