"""Clearing a node for one pod more: what exchanges and splits have in common.

Both try the nodes that lack least, and differ in how one of them is made to have room.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bayplan.solver.local.board import NOWHERE, Board, Step, Wish, wishes
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import Goal, Keep, Place
from bayplan.solver.problem.instance import Counts


class Clearing(Board):
    """An assignment in which nodes are cleared for lone pods, one after the other.

    Attributes:
        targets: Nodes that are tried for a pod, those that lack least first.
    """

    targets: ClassVar[int]

    def improvements(self, goal: Goal, ended: Callable[[], bool]) -> Iterator[Assignment]:
        """Yield the assignment each time that a pod more is kept or placed."""
        if isinstance(goal, Keep | Place):
            lone = (wish for wish in wishes(self.instance, goal) if wish.kind is None)
            yield from self.granted(lone, partial(self.grant, ended=ended), ended)

    def grant(self, wish: Wish, ended: Callable[[], bool]) -> bool:
        """Clear a node for the pod of a wish; return whether that made the whole better."""
        index = wish.need[0][0]
        able = np.flatnonzero(self.instance.arrivals[index])
        lacks = self.lack(index, self.free[able])
        for n in able[np.argsort(lacks, kind="stable")][: self.targets]:
            if ended():
                return False
            cleared = self.clear(index, int(n), ended)
            if cleared and self.follow(wish, (Step(index, NOWHERE, int(n)),)) and self.better():
                return True
            self.restore()
        return False

    @abstractmethod
    def clear(self, index: int, n: int, ended: Callable[[], bool]) -> bool:
        """Change who is where until a pod of the class fits on a node; return whether it does."""

    def lack(self, index: int, free: Counts) -> NDArray[np.float64]:
        """Return what a pod of the class lacks in such room, as a share of a node."""
        return self.share(np.maximum(self.instance.requests[index] - free, 0))

    def share(self, amounts: Counts) -> NDArray[np.float64]:
        """Return amounts as shares of a node, summed over resources."""
        return np.asarray((amounts / self.largest).sum(axis=-1), dtype=np.float64)

    @property
    def largest(self) -> Counts:
        """[resource] the most that a node has of it."""
        return np.asarray(self.instance.capacity.max(axis=0, initial=1), dtype=np.int64)
