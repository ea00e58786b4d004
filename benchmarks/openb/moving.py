"""The online score with a few moves: now and then a share goes to a GPU that it fits better.

When the cluster is full, what nobody can use lies in the gaps that shares leave on their GPUs. A
gap is worth what those who are still to come will use of it: a gap of 0.35 GPU takes a share of
0.32, which comes often, and one of 0.12 stays. So a good move brings a share to a gap that it just
fills, from a GPU where a gap opens that others will fill. Arrivals earn moves; they are saved until
the cluster is filling up, and spent only on moves that are worth it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from bayplan.cluster.units import WHOLE_MILLI
from bayplan.online.kinds import Kind
from bayplan.online.scorer import Row, Scorer, Spot
from bayplan.online.value import Floats
from benchmarks.openb.policies import Start, scorer
from benchmarks.openb.trace import Trace

#: Part of the GPUs that is in use when moves begin.
_BEGIN: Final = 0.85

#: Least gain of a move, in thousandths of a GPU that more will be used.
_LEAST: Final = 40

#: A move is looked for after every so many arrivals.
_EVERY: Final = 10

#: Part of the pods that must ask for a size so that one for a given gap comes as likely as not:
#: many gaps wait for the pods of a rare size.
_COMMON: Final = 0.02


def moving(moves_per_100: float) -> Start:
    """Return how to start the score with so many moves for 100 arrivals."""

    def start(trace: Trace, _: int) -> Moving:
        return Moving(scorer(trace), trace.pods, moves_per_100=moves_per_100)

    return start


def used(pods: Sequence[Kind]) -> Floats:
    """Return how many thousandths of a gap will be used: [thousandths], by pods such as `pods`.

    Whoever leaves the least in the end comes first, if one comes at all.
    """
    counts = Counter(kind.gpu_milli for kind in pods if kind.gpus == 1)
    half = (_COMMON * len(pods)) ** 2
    likely = {size: n**2 / (n**2 + half) for size, n in counts.items()}
    found = np.zeros(WHOLE_MILLI + 1)
    for gap in range(1, WHOLE_MILLI + 1):
        ways = [(size + found[gap - size], size) for size in likely if size <= gap]
        open_still = 1.0
        for way, size in sorted(ways, reverse=True):
            found[gap] += open_still * likely[size] * way
            open_still *= 1 - likely[size]
    return found


class Moving:
    """Places each pod where a scorer sees the least loss, and moves some shares later.

    Attributes:
        moves: Moves so far.
    """

    def __init__(self, scorer: Scorer, expected: Sequence[Kind], *, moves_per_100: float) -> None:
        """Start on an empty cluster; `expected` are pods such as those that will come."""
        self.moves = 0
        self._scorer = scorer
        self._used = used(expected)
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
        goals = {kind: self._goal(kind) for kind in {kind for kind, _ in self._shares}}
        gaps, used = self._scorer.devices.tolist(), self._used.tolist()
        best, chosen = float(_LEAST), None
        for index, (kind, spot) in enumerate(self._shares):
            goal = goals[kind]
            if goal is None or goal == spot:
                continue
            here, there = gaps[spot.row][spot.devices[0]], gaps[goal.row][goal.devices[0]]
            opened = used[here + kind.gpu_milli] - used[here]
            gain = opened + used[there - kind.gpu_milli] - used[there]
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

    def _goal(self, kind: Kind) -> Spot | None:
        """Return the GPU in use whose gap others would use least of; None without one."""
        gaps, size = self._scorer.devices, kind.gpu_milli
        fits = np.isfinite(self._scorer.score(kind).loss)[:, None]
        able = fits & (gaps >= size) & (gaps < WHOLE_MILLI)
        if not able.any():
            return None
        lost = np.where(able, self._used[gaps] - self._used[gaps - size], np.inf)
        row, device = divmod(int(lost.argmin()), gaps.shape[1])
        return Spot(row=Row(row), devices=(device,))
