"""The online score with a few moves: now and then a running pod goes where it does less harm.

Arrivals earn moves, which are saved until the cluster is nearly full, because only then does it
show which pods stand in the way. A move is the one that gives back the most value of free room.
"""

from typing import Final

import numpy as np

from bayplan.online.kinds import Kind
from bayplan.online.scorer import Row, Scorer, Spot
from bayplan.online.value import Floats
from benchmarks.openb.policies import Start, scorer

#: Part of the GPUs that is in use when moves begin.
_BEGIN: Final = 0.8

#: Least gain of a move, in value of free room.
_LEAST: Final = 1.0


def moving(moves_per_100: float) -> Start:
    """Return how to start the score with so many moves for 100 arrivals."""
    return lambda trace, _: Moving(scorer(trace), moves_per_100=moves_per_100)


class Moving:
    """Places each pod where a scorer sees the least loss, and moves some later.

    Attributes:
        moves: Moves so far.
    """

    def __init__(self, scorer: Scorer, *, moves_per_100: float) -> None:
        self._scorer = scorer
        self._begin_milli = (1 - _BEGIN) * scorer.devices.sum()
        self._earned_by_arrival = moves_per_100 / 100
        self._earned = 0.0
        self.moves = 0
        self._kinds: list[Kind] = []
        self._spots: list[Spot] = []

    def arrive(self, kind: Kind) -> bool:
        """Place a pod, then move as many as have been earned; return whether it fitted."""
        self._earned += self._earned_by_arrival
        spot = self._scorer.choose(kind)
        if spot is not None:
            self._scorer.take(kind, spot)
            self._kinds.append(kind)
            self._spots.append(spot)
        while self.moves + 1 <= self._earned and self._is_late() and self._move():
            self.moves += 1
        return spot is not None

    def _is_late(self) -> bool:
        return bool(self._scorer.devices.sum() <= self._begin_milli)

    def _move(self) -> bool:
        """Move the pod that gives back the most value; return whether one gives back any."""
        gain = self._scorer.relief(self._kinds, self._spots) - self._losses_elsewhere()
        pod = int(gain.argmax())
        if gain[pod] < _LEAST:
            return False
        kind, spot = self._kinds[pod], self._spots[pod]
        scores = self._scorer.score(kind)
        loss = scores.loss.copy()
        loss[spot.row] = np.inf
        goal = self._scorer.spot(kind, Row(int(loss.argmin())), scores)
        self._scorer.give(kind, spot)
        self._scorer.take(kind, goal)
        self._spots[pod] = goal
        return True

    def _losses_elsewhere(self) -> Floats:
        """Return the least loss of each pod on another node than its own: [pod]."""
        known = {kind: self._scorer.score(kind).loss for kind in set(self._kinds)}
        best = {
            kind: (int(loss.argmin()), *np.partition(loss, 1)[:2]) for kind, loss in known.items()
        }
        losses = []
        for kind, spot in zip(self._kinds, self._spots, strict=True):
            row, first, second = best[kind]
            losses.append(second if row == spot.row else first)
        return np.array(losses)
