"""Two nodes share out all their pods anew, until one of them has room for one more.

Exchanges swap a pod or two. Where hardly any room is left, it takes a better split of everything
that two nodes hold: there are so many that one of them fills the other node almost to the brim, and
what was free there is free on the node that is cleared. Where that does not do, two others share
out anew first, so that there is something else to split.
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from bayplan.policy import Policy
from bayplan.solver.local.board import Step, Wish
from bayplan.solver.local.clearing import Clearing
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import Goal
from bayplan.solver.problem.instance import Counts, Instance, Mask

#: Nodes that are shared out with, the roomiest first.
_PARTNERS: Final = 16

#: Largest number of splits that are compared; of more pods some stay where they are.
_SPLITS: Final = 1 << 16

#: What it is worth that a pod stays, as a share of a node.
_STAYING: Final = 5e-4

#: How often two others share out, while nothing else helps.
_SHUFFLES: Final = 4

#: What has to be left free in the end, as a share of all room: no splits leave less on every node.
_LEAST_LEFT: Final = 5e-4


def improvements(
    instance: Instance,
    policy: Policy,
    start: Assignment,
    *,
    goal: Goal,
    ended: Callable[[], bool],
) -> Iterator[Assignment]:
    """Yield ever better assignments, beginning with what is better than `start`.

    `goal` is the one looked after; those before it never get worse. `ended` is asked now and then.
    """
    yield from _Splits(instance, policy, start).improvements(goal, ended)


class _Splits(Clearing):
    """An assignment that pairs of nodes change by sharing out anew."""

    targets = 4
    random: np.random.Generator

    def grant(self, wish: Wish, ended: Callable[[], bool]) -> bool:
        """Clear a node for the pod of a wish; return whether that made the whole better."""
        index = wish.need[0][0]
        self.random = np.random.default_rng(index)
        return self._may_fit(index) and super().grant(wish, ended)

    def _may_fit(self, index: int) -> bool:
        """Return whether there is room in all, and some to spare."""
        left = np.maximum(self.free, 0).sum(axis=0) - self.instance.requests[index]
        least = _LEAST_LEFT * self.instance.capacity.sum(axis=0)
        return bool((left >= np.where(self.instance.requests[index] > 0, least, 0)).all())

    def clear(self, index: int, n: int, ended: Callable[[], bool]) -> bool:
        """Share out a node and others until a pod of the class fits; return whether it does."""
        room = self.share(np.maximum(self.free, 0))
        others = [int(m) for m in np.argsort(-room, kind="stable") if m != n][:_PARTNERS]
        shuffles = 0
        while not ended():
            before = float(self.lack(index, self.free[n]))
            for m in others:
                if not before or ended():
                    break
                self._share_out(n, m, index)
            now = float(self.lack(index, self.free[n]))
            if not now:
                return True
            if now == before:
                if shuffles == _SHUFFLES or len(others) == 1:
                    return False
                shuffles += 1
                one, other = self.random.choice(others, 2, replace=False).tolist()
                self._share_out(one, other, None)
        return False

    def _share_out(self, n: int, m: int, index: int | None) -> None:
        """Split what two nodes hold so that a pod of the class lacks least on the first.

        Without a class, so that much is free there; of what, is left to chance.
        """
        classes, there = self._shared(n, m), self.final[:, m].copy()
        takes, left = self._splits(classes, n, m)
        if not len(takes):
            return
        if index is None:
            cost = -(left / self.largest) @ self.random.random(left.shape[1])
        else:
            lacks = self.lack(index, left)
            if lacks.min() >= self.lack(index, self.free[n]):
                return
            cost = np.where(lacks == 0, -1.0, lacks) - _STAYING * self._stay(classes, takes, n, m)
        there[classes] = takes[int(cost.argmin())]
        comes = there - self.final[:, m]
        for i in np.flatnonzero(comes).tolist():
            source, target = (n, m) if comes[i] > 0 else (m, n)
            self.apply([Step(i, source, target)] * abs(int(comes[i])))

    def _stay(self, classes: Counts, takes: Counts, n: int, m: int) -> Counts:
        """Return [split] how many pods stay where they run."""
        here, there = self.instance.running[classes, n], self.instance.running[classes, m]
        left = self.final[classes, n] + self.final[classes, m] - takes
        stay = np.minimum(takes, there) + np.minimum(left, here)
        return np.asarray(stay.sum(axis=1), dtype=np.int64)

    def _shared(self, n: int, m: int) -> Counts:
        """Return classes whose pods on two nodes are shared out, the largest pods first."""
        instance, both = self.instance, self.final[:, n] + self.final[:, m]
        able: Mask = instance.arrivals[:, n] & instance.arrivals[:, m] & (both > 0)
        able[list(self.sharing)] = False
        some = self.random.permutation(np.flatnonzero(able))
        some = some[: np.searchsorted(np.cumprod(both[some] + 1.0), _SPLITS, side="right")]
        sizes = self.share(instance.requests[some])
        return np.asarray(some[np.argsort(-sizes, kind="stable")], dtype=np.int64)

    def _splits(self, classes: Counts, n: int, m: int) -> tuple[Counts, Counts]:
        """Return [split, class] how many `m` takes, and [split, resource] what is free on `n`."""
        asks, both = self.instance.requests[classes], self.final[classes][:, [n, m]].sum(axis=1)
        here, there = (self.free[k] + self.final[classes, k] @ asks for k in (n, m))
        used, codes = np.zeros((1, len(here)), dtype=np.int64), np.zeros(1, dtype=np.int64)
        for ask, count in zip(asks, both.tolist(), strict=True):
            heads = np.arange(count + 1)
            used = (used[:, None, :] + heads[:, None] * ask).reshape(-1, len(here))
            codes = (codes[:, None] * len(heads) + heads).ravel()
            fits = (used <= there).all(axis=1)
            used, codes = used[fits], codes[fits]
        left = here - both @ asks + used
        fits = (left >= 0).all(axis=1)
        takes = np.zeros((int(fits.sum()), len(classes)), dtype=np.int64)
        codes = codes[fits]
        for k in reversed(range(len(classes))):
            codes, takes[:, k] = np.divmod(codes, both[k] + 1)
        return takes, left[fits]
