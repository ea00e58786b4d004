"""Exchanges: two nodes swap pods until one of them has room for one more.

Where every node has a little room and none enough, no pod can step aside. But a node gains what
another has free when they swap the right pods: none, one or two against none, one or two. For each
node that could take a waiting pod the best swap with any other is made, then the next, until the
pod fits or nothing helps. All swaps with all nodes are compared in one go.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayplan.policy import Policy
from bayplan.solver.local.board import NOWHERE, Board, Step, Wish, wishes
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import Goal, Keep, Place
from bayplan.solver.problem.instance import Counts, Instance, Mask

#: Nodes that are cleared for a pod, those that lack least first.
_TARGETS: Final = 8

#: Swaps that clear a node, at most.
_SWAPS: Final = 6

#: Nodes that are swapped with, the roomiest first.
_PARTNERS: Final = 48

#: Pods of a node that are swapped, at most, the largest first.
_PODS: Final = 12

#: What a pod more in a swap must gain, as a share of a node.
_GAIN_PER_POD: Final = 0.002

#: Stands for no pod in a set.
_NOBODY: Final = -1


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
    if not isinstance(goal, Keep | Place):
        return
    board = _Exchanges(instance, policy, start)
    for wish in wishes(instance, goal):
        while wish.kind is None and not ended() and board.wanted(wish):
            if not board.grant(wish, ended):
                board.give_up(wish)
                break
            yield board.assignment()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sets:
    """Sets of up to two pods that are on one node each.

    Attributes:
        first: [set] class of a pod, -1 for none.
        second: [set] class of another, -1 for none.
        nodes: [set] node.
        sums: [set, resource] what they use.
    """

    first: Counts = field(repr=False)
    second: Counts = field(repr=False)
    nodes: Counts = field(repr=False)
    sums: Counts = field(repr=False)

    def may_go(self, instance: Instance, nodes: Counts) -> Mask:
        """Return [set, node] whether all pods of a set may go to a node."""
        anywhere = np.ones((1, len(nodes)), dtype=np.bool_)
        able = np.concatenate([instance.arrivals[:, nodes], anywhere])
        return np.asarray(able[self.first] & able[self.second], dtype=np.bool_)

    def pods(self, at: int) -> list[int]:
        """Return the classes of the pods of a set."""
        return [int(i) for i in (self.first[at], self.second[at]) if i != _NOBODY]


class _Exchanges(Board):
    """An assignment that exchanges change."""

    def grant(self, wish: Wish, ended: Callable[[], bool]) -> bool:
        """Clear a node for the pod of a wish; return whether that made the whole better."""
        index = wish.need[0][0]
        able = np.flatnonzero(self.instance.arrivals[index])
        lacks = self._share(np.maximum(self.instance.requests[index] - self.free[able], 0))
        for n in able[np.argsort(lacks, kind="stable")][:_TARGETS]:
            if ended():
                return False
            cleared = self._clear(index, int(n))
            if cleared and self.follow(wish, (Step(index, NOWHERE, int(n)),)) and self.better():
                return True
            self.restore()
        return False

    def _clear(self, index: int, n: int) -> bool:
        """Swap pods of a node for others until a pod of the class fits; return whether it does."""
        asks = self.instance.requests[index]
        for _ in range(_SWAPS):
            if (self.free[n] >= asks).all():
                return True
            swap = self._best_swap(asks, n)
            if swap is None:
                return False
            self.apply(swap)
        return bool((self.free[n] >= asks).all())

    def _best_swap(self, asks: Counts, n: int) -> list[Step] | None:
        """Return the swap after which the node lacks least; None if none helps."""
        lacks = asks - self.free[n]
        roomy = np.argsort(-self._share(np.maximum(self.free, 0)), kind="stable")
        others = [int(m) for m in roomy[: _PARTNERS + 1] if m != n]
        if not others:
            return None
        out, into = self._sets([n]), self._sets(others)
        gains = out.sums[:, None, :] - into.sums[None, :, :]
        fits = (gains <= self.free[into.nodes]).all(axis=2) & (self.free[n] + gains >= 0).all(
            axis=2
        )
        partners, column = np.unique(into.nodes, return_inverse=True)
        fits &= out.may_go(self.instance, partners)[:, column]
        fits &= into.may_go(self.instance, np.array([n]))[:, 0]
        many = self._size(out)[:, None] + self._size(into)[None, :]
        left = self._share(np.maximum(lacks - gains, 0)) + _GAIN_PER_POD * many
        left[~fits] = np.inf
        a, b = np.unravel_index(int(left.argmin()), left.shape)
        if left[a, b] >= self._share(np.maximum(lacks, 0)):
            return None
        m = int(into.nodes[b])
        leave = [Step(i, n, m) for i in out.pods(int(a))]
        return leave + [Step(i, m, n) for i in into.pods(int(b))]

    def _share(self, amounts: Counts) -> NDArray[np.float64]:
        """Return amounts as shares of a node, summed over resources."""
        return np.asarray((amounts / self.largest).sum(axis=-1), dtype=np.float64)

    @property
    def largest(self) -> Counts:
        """[resource] the most that a node has of it."""
        return np.asarray(self.instance.capacity.max(axis=0, initial=1), dtype=np.int64)

    def _size(self, sets: _Sets) -> Counts:
        return np.asarray((sets.first != _NOBODY).astype(np.int64) + (sets.second != _NOBODY))

    def _sets(self, nodes: list[int]) -> _Sets:
        """Return the sets of up to two pods of each node, the empty one included."""
        parts = [self._sets_of(n) for n in nodes]
        first = np.concatenate([first for first, _ in parts])
        second = np.concatenate([second for _, second in parts])
        uses = np.concatenate([self.instance.requests, np.zeros((1, self.free.shape[1]), np.int64)])
        return _Sets(
            first=first,
            second=second,
            nodes=np.repeat(nodes, [len(each) for each, _ in parts]),
            sums=uses[first] + uses[second],
        )

    def _sets_of(self, n: int) -> tuple[Counts, Counts]:
        here = np.flatnonzero(self.final[:, n])
        pods = np.repeat(here, np.minimum(self.final[here, n], 2))
        size = self._share(self.instance.requests[pods])
        pods = np.append(pods[np.argsort(-size, kind="stable")][:_PODS], _NOBODY)
        rows, columns = np.triu_indices(len(pods), k=1)
        nobody = np.array([_NOBODY], dtype=np.int64)
        return np.append(pods[rows], nobody), np.append(pods[columns], nobody)
