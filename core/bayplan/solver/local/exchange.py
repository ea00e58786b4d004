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

from bayplan.policy import Policy
from bayplan.solver.local.board import Step
from bayplan.solver.local.clearing import Clearing
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import Goal
from bayplan.solver.problem.instance import Counts, Instance, Mask

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
    yield from _Exchanges(instance, policy, start).improvements(goal, ended)


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


class _Exchanges(Clearing):
    """An assignment that exchanges change."""

    targets = 8

    def clear(self, index: int, n: int, ended: Callable[[], bool]) -> bool:
        """Swap pods of a node for others until a pod of the class fits; return whether it does."""
        asks = self.instance.requests[index]
        for _ in range(_SWAPS):
            if (self.free[n] >= asks).all():
                return True
            if ended():
                return False
            swap = self._best_swap(asks, n)
            if swap is None:
                return False
            self.apply(swap)
        return bool((self.free[n] >= asks).all())

    def _best_swap(self, asks: Counts, n: int) -> list[Step] | None:
        """Return the swap after which the node lacks least; None if none helps."""
        lacks = asks - self.free[n]
        roomy = np.argsort(-self.share(np.maximum(self.free, 0)), kind="stable")
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
        left = self.share(np.maximum(lacks - gains, 0)) + _GAIN_PER_POD * many
        left[~fits] = np.inf
        a, b = np.unravel_index(int(left.argmin()), left.shape)
        if left[a, b] >= self.share(np.maximum(lacks, 0)):
            return None
        m = int(into.nodes[b])
        leave = [Step(i, n, m) for i in out.pods(int(a))]
        return leave + [Step(i, m, n) for i in into.pods(int(b))]

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
        size = self.share(self.instance.requests[pods])
        pods = np.append(pods[np.argsort(-size, kind="stable")][:_PODS], _NOBODY)
        rows, columns = np.triu_indices(len(pods), k=1)
        nobody = np.array([_NOBODY], dtype=np.int64)
        return np.append(pods[rows], nobody), np.append(pods[columns], nobody)
