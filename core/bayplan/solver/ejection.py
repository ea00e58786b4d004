"""Ejection chains: room for one more pod by letting a few others step aside.

A pod that fits nowhere takes the place of one that fits elsewhere, of two on one node that do, or
of one whose new place is made free in turn; or of a pod that is worth less, which goes without.
The chains are found with whole-array arithmetic, so that hundreds of pods are tried in a second.
Every chain is tried on the whole assignment and taken back unless all rules hold and the goals got
better: what is returned is never worse than what was given.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayplan.policy import Policy
from bayplan.solver import goals
from bayplan.solver.assignment import Assignment, kept
from bayplan.solver.constraints import allowed
from bayplan.solver.goals import Goal, Keep, LeastDisruption, Place
from bayplan.solver.greedy import scale_of
from bayplan.solver.instance import Counts, Instance, Mask

#: Pods that are tried as the first link of a longer chain, the most promising first.
_FIRST_LINKS: Final = 200

_NOWHERE: Final = -1


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
    board = _Board(instance, policy, start)
    match goal:
        case Keep() | Place():
            for wish in _wishes(instance, goal):
                while not ended() and board.grant(wish):
                    yield board.assignment()
        case LeastDisruption():
            for i, n in np.argwhere(instance.running > start.final):
                if not ended() and board.send_home(int(i), int(n)):
                    yield board.assignment()
        case _:
            pass


class _Wish(NamedTuple):
    """Pods that need a place together, by class: a gang, one waiting pod, or one evicted."""

    need: tuple[tuple[int, int], ...]
    kind: int | None
    tier: int
    evicted: bool


class _Step(NamedTuple):
    """A pod of a class leaves a node, arrives at one, or both."""

    who: int
    source: int
    target: int


def _wishes(instance: Instance, goal: Keep | Place) -> list[_Wish]:
    """Return what would serve the goal, small pods first: they are as much worth as large ones."""
    total = np.maximum(instance.capacity.sum(axis=0, initial=0), 1)
    weight = (instance.requests / total).max(axis=1, initial=0.0)
    mask = goal.mask(instance)
    evicted = isinstance(goal, Keep)
    tier = goal.tier if isinstance(goal, Keep) else goal.group.tier
    lone = [
        _Wish(need=((i, 1),), kind=None, tier=tier, evicted=evicted)
        for i, each in enumerate(instance.classes)
        if mask[i] and (not each.gang if evicted else each.kind is None)
    ]
    gangs = [
        _Wish(need=kind.need, kind=k, tier=tier, evicted=False)
        for k, kind in enumerate(instance.kinds)
        if isinstance(goal, Place) and kind.place == goal.group
    ]
    return sorted(
        lone + gangs,
        key=lambda wish: (sum(weight[i] * n for i, n in wish.need), wish.need),
    )


@dataclass(slots=True)
class _Board:
    """An assignment while it is being changed, with the room that is left."""

    instance: Instance
    policy: Policy
    start: Assignment
    order: tuple[Goal, ...] = field(init=False)
    scale: NDArray[np.float64] = field(init=False, repr=False)
    final: Counts = field(init=False, repr=False)
    survivors: Counts = field(init=False, repr=False)
    units: Counts = field(init=False)
    free: Counts = field(init=False, repr=False)
    _saved: Assignment = field(init=False, repr=False)
    _free: Counts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.order, self.scale = goals.in_order(self.instance), scale_of(self.instance)
        self.final, self.survivors = self.start.final.copy(), self.start.survivors.copy()
        self.units = self.start.units.copy()
        self.free = self.instance.capacity - self.final.T @ self.instance.requests
        self._save(self.start)

    def assignment(self) -> Assignment:
        """Return the assignment as it is."""
        return Assignment(
            final=self.final.copy(), survivors=self.survivors.copy(), units=self.units.copy()
        )

    def grant(self, wish: _Wish) -> bool:
        """Find places for the pods of a wish; return whether that made the whole better."""
        if not self._wanted(wish):
            return False
        for find in (self._spare, self._at_the_cost_of(wish.tier)):
            if all(self._follow(wish, find(i)) for i, n in wish.need for _ in range(n)):
                if wish.kind is not None:
                    self.units[wish.kind] += 1
                if self._better():
                    return True
            self._restore()
        return False

    def send_home(self, index: int, n: int) -> bool:
        """Let a pod of a class return to where it ran; return whether that made it better."""
        homeless = self.final[index] - self.instance.running[index]
        if homeless.max() <= 0 or not self._fits(index)[n]:
            return False
        self._apply((_Step(index, int(homeless.argmax()), n),))
        if self._better():
            return True
        self._restore()
        return False

    def _wanted(self, wish: _Wish) -> bool:
        if wish.kind is not None:
            return int(self.units[wish.kind]) < len(self.instance.kinds[wish.kind].gangs)
        index = wish.need[0][0]
        each, alive = self.instance.classes[index], int(self.survivors[index])
        if wish.evicted:
            return alive < len(each.running)
        return int(self.final[index].sum()) - alive < len(each.waiting)

    def _follow(self, wish: _Wish, steps: tuple[_Step, ...] | None) -> bool:
        if steps is None:
            return False
        self._apply(steps)
        if wish.evicted:
            self.survivors[wish.need[0][0]] += 1
        return True

    def _apply(self, steps: Iterable[_Step]) -> None:
        """Carry out steps; who goes without is first taken from those that only waited."""
        for who, source, target in steps:
            if target == _NOWHERE and self.final[who].sum() == self.survivors[who]:
                self.survivors[who] -= 1
            if source != _NOWHERE:
                self.final[who, source] -= 1
                self.free[source] += self.instance.requests[who]
            if target != _NOWHERE:
                self.final[who, target] += 1
                self.free[target] -= self.instance.requests[who]

    def _better(self) -> bool:
        """Keep what was done if it made the whole better and every rule holds; return whether."""
        now = self.assignment()
        if not goals.better(self.instance, self.order, now, self._saved):
            return False
        if not allowed(self.instance, self.policy, now):
            return False
        self._save(now)
        return True

    def _save(self, now: Assignment) -> None:
        self._saved, self._free = now, self.free.copy()

    def _restore(self) -> None:
        """Take back what was done since it was last saved."""
        self.final[:], self.survivors[:] = self._saved.final, self._saved.survivors
        self.units[:], self.free[:] = self._saved.units, self._free

    def _fits(self, index: int) -> Mask:
        """Return the nodes with room for one more pod of the class."""
        room = (self.free >= self.instance.requests[index]).all(axis=1)
        return np.asarray(room & self.instance.arrivals[index], dtype=np.bool_)

    def _tightest(self, index: int, *, but: tuple[int, ...] = ()) -> int:
        """Return the node where the least is left over; `_NOWHERE` without any."""
        fits = self._fits(index)
        fits[list(but)] = False
        if not fits.any():
            return _NOWHERE
        waste = (self.free - self.instance.requests[index]) @ self.scale
        return int(np.where(fits, waste, np.inf).argmin())

    def _spare(self, index: int) -> tuple[_Step, ...] | None:
        """Return steps that place a pod of the class, nobody going without."""
        direct = self._tightest(index)
        if direct != _NOWHERE:
            return (_Step(index, _NOWHERE, direct),)
        links = _Links.of(self)
        found = self._one(index, links) or self._two_of_a_node(index, links)
        return found or self._one_after_another(index, links)

    def _one(self, index: int, links: "_Links") -> tuple[_Step, ...] | None:
        """Return steps in which one pod steps aside."""
        opens = links.opening(self, index) & links.elsewhere
        for at in links.ranked(self, index, opens)[:1]:
            i, n = links.at(at)
            aside = _Step(i, n, self._tightest(i, but=(n,)))
            return (aside, _Step(index, _NOWHERE, n))
        return None

    def _two_of_a_node(self, index: int, links: "_Links") -> tuple[_Step, ...] | None:
        """Return steps in which two pods of one node step aside."""
        asks, requests = self.instance.requests[index], self.instance.requests
        able = links.elsewhere & self.instance.arrivals[index, links.nodes]
        for n in np.unique(links.nodes[able]):
            here = links.classes[able & (links.nodes == n)]
            room = self.free[n] + requests[here][:, None] + requests[here][None, :]
            for a, b in np.argwhere(np.triu((room >= asks).all(axis=2))):
                i, j = int(here[a]), int(here[b])
                if (i != j or self.final[i, n] > 1) and (steps := self._both(i, j, int(n))):
                    return (*steps, _Step(index, _NOWHERE, int(n)))
        return None

    def _both(self, i: int, j: int, n: int) -> tuple[_Step, ...] | None:
        """Return steps that take two pods off a node; None if they get into each other's way."""
        first = _Step(i, n, self._tightest(i, but=(n,)))
        self._apply((first,))
        second = _Step(j, n, self._tightest(j, but=(n,)))
        self._apply((_Step(i, first.target, n),))
        return (first, second) if second.target != _NOWHERE else None

    def _one_after_another(self, index: int, links: "_Links") -> tuple[_Step, ...] | None:
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
            target = self._tightest(j1, but=(m1, n1))
            if target != _NOWHERE:
                aside = (_Step(j1, m1, target), _Step(i1, n1, m1))
                return (*aside, _Step(index, _NOWHERE, n1))
        return None

    def _at_the_cost_of(self, tier: int) -> Callable[[int], tuple[_Step, ...] | None]:
        """Return a way to place a pod that may make one of a lower tier go without."""

        def find(index: int) -> tuple[_Step, ...] | None:
            if steps := self._spare(index):
                return steps
            links = _Links.of(self)
            lower = np.array(list(self._lone_below(tier)), dtype=np.int64)
            opens = links.opening(self, index, all_of_them=True) & np.isin(links.classes, lower)
            ranked = links.ranked(self, index, opens)
            by_tier = sorted(ranked, key=lambda at: self._rank(int(links.classes[at])))
            for at in by_tier[:1]:
                i, n = links.at(at)
                return (_Step(i, n, _NOWHERE), _Step(index, _NOWHERE, n))
            return None

        return find

    def _lone_below(self, tier: int) -> Iterator[int]:
        """Yield the classes of a lower tier whose pods go alone."""
        for i, each in enumerate(self.instance.classes):
            if each.gang is None and each.kind is None and self._rank(i) < tier:
                yield i

    def _rank(self, index: int) -> int:
        """Return the tier that loses when a pod of the class goes without."""
        each = self.instance.classes[index]
        waits = self.final[index].sum() > self.survivors[index] and each.place
        return each.place.tier if waits and each.place else each.keep_tier


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
    def of(cls, board: _Board) -> "_Links":
        instance = board.instance
        classes, nodes = np.nonzero(board.final)
        fits = instance.arrivals.copy()
        for k in range(len(instance.resources)):
            fits &= board.free[:, k] >= instance.requests[:, k, None]
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

    def opening(self, board: _Board, index: int, *, all_of_them: bool = False) -> Mask:
        """Return the links whose pod's going makes room for one of class `index`.

        Unless `all_of_them` are asked for, only those whose pod may go to another node.
        """
        requests, arrivals = board.instance.requests, board.instance.arrivals
        room = (board.free[self.nodes] + requests[self.classes] >= requests[index]).all(axis=1)
        opens = room & arrivals[index, self.nodes] & (self.classes != index)
        able = np.asarray(arrivals.any(axis=1))[self.classes]
        return np.asarray(opens if all_of_them else opens & able, dtype=np.bool_)

    def ranked(self, board: _Board, index: int, among: Mask) -> Counts:
        """Return the links of a mask: those that cost no move first, then the tightest."""
        links = np.flatnonzero(among)
        requests = board.instance.requests
        left = board.free[self.nodes[links]] + requests[self.classes[links]] - requests[index]
        waste = left @ board.scale
        return np.asarray(links[np.lexsort((waste, self.moved[links]))], dtype=np.int64)
