"""Ejection chains: room for one more pod by letting a few others step aside.

A pod that fits nowhere takes the place of one that fits elsewhere, of two on one node that do, or
of one whose new place is made free in turn; or of a pod that is worth less, which goes without.
The chains are found with whole-array arithmetic, so that hundreds of pods are tried in a second.
Every chain is tried on the whole assignment and taken back unless all rules hold and the goals got
better: what is returned is never worse than what was given.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bayplan.policy import Policy
from bayplan.solver.local.board import NOWHERE, Board, Step, Wish, wishes
from bayplan.solver.problem.assignment import Assignment, kept
from bayplan.solver.problem.goals import Goal, Keep, LeastDisruption, Place
from bayplan.solver.problem.instance import Counts, Instance, Mask, Rank

#: Pods that are tried as the first link of a longer chain, the most promising first.
_FIRST_LINKS: Final = 200


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
    board = _Chains(instance, policy, start)
    match goal:
        case Keep() | Place():
            yield from board.granted(wishes(instance, goal), board.grant, ended)
        case LeastDisruption():
            for i, n in np.argwhere(instance.running > start.final):
                if not ended() and board.send_home(int(i), int(n)):
                    yield board.assignment()
        case _:
            pass


class _Chains(Board):
    """An assignment that chains change."""

    def grant(self, wish: Wish) -> bool:
        """Find places for the pods of a wish; return whether that made the whole better."""
        for find in (self._spare, self._at_the_cost_of(wish.rank)):
            if all(self.follow(wish, find(i)) for i, n in wish.need for _ in range(n)):
                if wish.kind is not None:
                    self.units[wish.kind] += 1
                if self.better():
                    return True
            self.restore()
        return False

    def send_home(self, index: int, n: int) -> bool:
        """Let a pod of a class return to where it ran; return whether that made it better."""
        homeless = self.final[index] - self.instance.running[index]
        if homeless.max() <= 0 or not self.fits(index)[n]:
            return False
        self.apply((Step(index, int(homeless.argmax()), n),))
        if self.better():
            return True
        self.restore()
        return False

    def _spare(self, index: int) -> tuple[Step, ...] | None:
        """Return steps that place a pod of the class, nobody going without."""
        direct = self.tightest(index)
        if direct != NOWHERE:
            return (Step(index, NOWHERE, direct),)
        links = _Links.of(self)
        found = self._one(index, links) or self._two_of_a_node(index, links)
        return found or self._one_after_another(index, links)

    def _one(self, index: int, links: "_Links") -> tuple[Step, ...] | None:
        """Return steps in which one pod steps aside."""
        opens = links.opening(self, index) & links.elsewhere
        for at in links.ranked(self, index, opens)[:1]:
            i, n = links.at(at)
            aside = Step(i, n, self.tightest(i, but=(n,)))
            return (aside, Step(index, NOWHERE, n))
        return None

    def _two_of_a_node(self, index: int, links: "_Links") -> tuple[Step, ...] | None:
        """Return steps in which two pods of one node step aside."""
        asks, requests = self.instance.requests[index], self.instance.requests
        able = links.elsewhere & self.instance.arrivals[index, links.nodes]
        for n in np.unique(links.nodes[able]):
            here = links.classes[able & (links.nodes == n)]
            room = self.free[n] + requests[here][:, None] + requests[here][None, :]
            for a, b in np.argwhere(np.triu((room >= asks).all(axis=2))):
                i, j = int(here[a]), int(here[b])
                if (i != j or self.final[i, n] > 1) and (steps := self._both(i, j, int(n))):
                    return (*steps, Step(index, NOWHERE, int(n)))
        return None

    def _both(self, i: int, j: int, n: int) -> tuple[Step, ...] | None:
        """Return steps that take two pods off a node; None if they get into each other's way."""
        first = Step(i, n, self.tightest(i, but=(n,)))
        self.apply((first,))
        second = Step(j, n, self.tightest(j, but=(n,)))
        self.apply((Step(i, first.target, n),))
        return (first, second) if second.target != NOWHERE else None

    def _one_after_another(self, index: int, links: "_Links") -> tuple[Step, ...] | None:
        """Return steps in which a pod takes the place of another, which steps aside."""
        requests, arrivals = self.instance.requests, self.instance.arrivals
        first = links.ranked(self, index, links.opening(self, index))[:_FIRST_LINKS]
        if not len(first) or not links.elsewhere.any():
            return None
        second = np.flatnonzero(links.elsewhere)
        i, n = links.classes[first][:, None], links.nodes[first][:, None]
        j, m = links.classes[second][None, :], links.nodes[second][None, :]
        fits = (self.free[m] + requests[j] >= requests[i]).all(axis=2) & arrivals[i, m] & (n != m)
        for a, b in np.argwhere(fits)[:_FIRST_LINKS]:
            (i1, n1), (j1, m1) = links.at(first[a]), links.at(second[b])
            target = self.tightest(j1, but=(m1, n1))
            if target != NOWHERE:
                aside = (Step(j1, m1, target), Step(i1, n1, m1))
                return (*aside, Step(index, NOWHERE, n1))
        return None

    def _at_the_cost_of(self, rank: Rank) -> Callable[[int], tuple[Step, ...] | None]:
        """Return a way to place a pod that may make one of a lower rank go without."""

        def find(index: int) -> tuple[Step, ...] | None:
            if steps := self._spare(index):
                return steps
            links = _Links.of(self)
            lower = np.array(list(self._lone_below(rank)), dtype=np.int64)
            opens = links.opening(self, index, all_of_them=True) & np.isin(links.classes, lower)
            ranked = links.ranked(self, index, opens)
            by_rank = sorted(ranked, key=lambda at: self._rank(int(links.classes[at])))
            for at in by_rank[:1]:
                i, n = links.at(at)
                return (Step(i, n, NOWHERE), Step(index, NOWHERE, n))
            return None

        return find

    def _lone_below(self, rank: Rank) -> Iterator[int]:
        """Yield the classes of a lower rank whose pods go alone."""
        for i, each in enumerate(self.instance.classes):
            if each.gang is None and each.kind is None and self._rank(i) < rank:
                yield i

    def _rank(self, index: int) -> Rank:
        """Return what loses when a pod of the class goes without."""
        each = self.instance.classes[index]
        waits = self.final[index].sum() > self.survivors[index] and each.place
        return each.place.rank if waits and each.place else Rank(each.keep_tier, precious=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Links:
    """The (class, node) pairs that hold a pod, as candidates for a chain.

    Attributes:
        classes: [link] class.
        nodes: [link] node.
        elsewhere: [link] whether another node has room for such a pod.
        moved: [link] whether its going from here would be one move more.
    """

    classes: Counts = field(repr=False)
    nodes: Counts = field(repr=False)
    elsewhere: Mask = field(repr=False)
    moved: Mask = field(repr=False)

    @classmethod
    def of(cls, board: _Chains) -> "_Links":
        instance = board.instance
        classes, nodes = np.nonzero(board.final)
        fits = instance.arrivals.copy()
        for k in range(len(instance.resources)):
            fits &= board.free[:, k] >= instance.requests[:, k, None]
        for i in board.sharing & set(classes.tolist()):
            fits[i] = board.fits(i)
        count = fits.sum(axis=1)
        return cls(
            classes=classes,
            nodes=nodes,
            elsewhere=count[classes] - fits[classes, nodes] > 0,
            moved=kept(instance, board.assignment())[classes, nodes] == board.final[classes, nodes],
        )

    def at(self, link: int) -> tuple[int, int]:
        """Return class and node of a link."""
        return int(self.classes[link]), int(self.nodes[link])

    def opening(self, board: _Chains, index: int, *, all_of_them: bool = False) -> Mask:
        """Return the links whose pod's going makes room for one of class `index`.

        Unless `all_of_them` are asked for, only those whose pod may go to another node.
        """
        requests, arrivals = board.instance.requests, board.instance.arrivals
        room = (board.free[self.nodes] + requests[self.classes] >= requests[index]).all(axis=1)
        opens = room & arrivals[index, self.nodes] & (self.classes != index)
        able = np.asarray(arrivals.any(axis=1))[self.classes]
        return np.asarray(opens if all_of_them else opens & able, dtype=np.bool_)

    def ranked(self, board: _Chains, index: int, among: Mask) -> Counts:
        """Return the links of a mask: those that cost no move first, then the tightest."""
        links = np.flatnonzero(among)
        requests = board.instance.requests
        left = board.free[self.nodes[links]] + requests[self.classes[links]] - requests[index]
        waste = left @ board.scale
        return np.asarray(links[np.lexsort((waste, self.moved[links]))], dtype=np.int64)
