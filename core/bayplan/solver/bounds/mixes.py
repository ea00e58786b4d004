"""What single nodes could hold: the mixes of pods that are worth most at given prices.

A mix is what a node keeps of its pods and what arrives beside it. There are far too many to list,
so they are searched for: whole keeps first, then arrivals one by one, and only where enough could
still arrive to be worth more than the best that is known. All of it is in whole numbers, and what
is not looked at counts with the most that it could be worth: what the search says that no mix
exceeds, none does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bayplan.solver.problem.instance import Counts, Instance, Mask
from bayplan.solver.problem.states import States, count_states, node_types
from bayplan.solver.programs.linear import Reals

#: Most keeps of a cluster; beyond it a look at each takes too long.
MAX_KEEPS: Final = 60_000

#: Most pairs of a mix and what could arrive beside it that are looked at together.
_MAX_PAIRS: Final = 400_000

#: Parts of a node by which room is rounded up, and of the worth of arrivals by which that is: more
#: than doubles are off by.
_SAFE: Final = 1e-9

#: How much more one resource counts than the others: what could arrive is bounded in each way.
#: Where nodes hold many pods, with one of them too much seems possible for prices to settle in
#: time. Where they hold few, prices settle anyhow, and more mixes in sight make better plans.
_WEIGHT: Final = (2.0,)
_WEIGHTS_OF_MANY: Final = (0.5, 1.0, 2.0, 6.0)

#: Pods that are many for a node.
_MANY: Final = 6

#: New mixes of one class of nodes that come of one search, at most.
_MOST_NEW: Final = 4

#: Nobody.
_NONE: Final = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What pods on a node are worth, in whole numbers.

    Attributes:
        worth: [class] of a pod on any node; not negative.
        stay: [class] how much more where it runs already.
    """

    worth: Counts
    stay: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a search found.

    Attributes:
        most: [class of nodes] what no mix is worth more than.
        exact: Whether all was looked at that could be among what was searched for.
        keeps: [mix] what the nodes keep, as the index of a keep.
        fills: [mix, class] what arrives.
        pairs: How many pairs of a mix and a class of pods were looked at.
    """

    most: Counts
    exact: bool
    keeps: Counts
    fills: Counts
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The nodes as counted classes, with what can be on them.

    Attributes:
        states: The classes of nodes and their keeps.
        room: [keep, resource] what is free beside a keep, of resources that could run out.
        asks: [class, resource] what a pod uses of these.
        welcome: [class of nodes, class] whether a pod may arrive.
        pods: [class] how many there are.
        scales: [way, resource] ways to weigh the resources against each other.
    """

    states: States
    room: Counts = field(repr=False)
    asks: Counts = field(repr=False)
    welcome: Mask = field(repr=False)
    pods: Counts = field(repr=False)
    scales: Reals = field(repr=False)


def nodes_of(instance: Instance, anchored: Counts) -> Nodes | None:
    """Return the nodes with these pods on them; None where they can keep too many things.

    Args:
        instance: The problem.
        anchored: [class, node] pods that stay or leave; all others only arrive.
    """
    if np.prod(anchored.T + 1.0, axis=1).sum() > MAX_KEEPS:
        return None
    types = node_types(instance)
    states = count_states(
        types=types.of_node,
        room=instance.capacity,
        anchored=anchored.T,
        requests=instance.requests,
    )
    if states is None:
        return None
    scarce = (instance.upper.T @ instance.requests > instance.capacity).any(axis=0)
    if not scarce.any():
        return None
    pods = instance.run_totals + instance.wait_totals
    weights = _WEIGHTS_OF_MANY if pods.sum() > _MANY * len(instance.capacity) else _WEIGHT
    evenly = np.ones((1, int(scarce.sum())))
    ways = np.concatenate([evenly, *(evenly + n * np.eye(evenly.shape[1]) for n in weights)])
    return Nodes(
        states=states,
        room=states.residual[:, scarce],
        asks=instance.requests[:, scarce],
        welcome=types.welcome[states.types],
        pods=pods,
        scales=ways / np.maximum(1.0, instance.capacity[:, scarce].mean(axis=0)),
    )


def best(
    nodes: Nodes, prices: Prices, known: Counts, *, width: int, ended: Callable[[], bool]
) -> Offer:
    """Return the best mixes of each class of nodes, of those that are worth more than `known`.

    Args:
        nodes: The nodes.
        prices: What pods are worth.
        known: [class of nodes] the most that a known mix is worth.
        width: How many mixes of each size are looked at more closely; with fewer the search is
            faster, and may miss some.
        ended: Says whether time is over; what was not looked at until then is missed too.
    """
    search = _Search(nodes, prices, known, width, comes=prices.worth > 0)
    search.floor = search.best
    return search.run(ended, most_new=_MOST_NEW)


def above(
    nodes: Nodes, prices: Prices, floor: Counts, *, width: int, ended: Callable[[], bool]
) -> Offer:
    """Return the mixes that are worth more than `floor`: all of them if the offer is exact.

    Arrivals that are worth nothing make no mix better, so only here they are looked at.

    Args:
        nodes: The nodes.
        prices: What pods are worth.
        floor: [class of nodes] what mixes have to be worth more than.
        width: How many mixes of each size are looked at more closely, at most.
        ended: Says whether time is over.
    """
    everyone = np.ones(len(prices.worth), dtype=np.bool_)
    return _Search(nodes, prices, floor, width, comes=everyone).run(ended, most_new=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mixes:
    """Some mixes of equally many arrivals.

    Attributes:
        keeps: [mix] index of the keep.
        values: [mix] what it is worth.
        room: [mix, resource] what is still free.
        path: [mix, arrival] who arrived, as positions in the order of the search; ascending.
    """

    keeps: Counts
    values: Counts
    room: Counts
    path: Counts

    def some(self, which: Counts | Mask) -> "_Mixes":
        """Return a part of them."""
        return _Mixes(
            keeps=self.keeps[which],
            values=self.values[which],
            room=self.room[which],
            path=self.path[which],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """The most that arrivals could be worth by the room for them, if they could be split.

    Attributes:
        scale: [resource] by which room and sizes are one number.
        sizes: [class] the size of a pod.
        at: [step] the room that all before take.
        worth: [step] what all before are worth.
        slope: [step] what more room is worth.
    """

    scale: Reals
    sizes: Reals
    at: Reals
    worth: Reals
    slope: Reals

    @classmethod
    def of(cls, asks: Counts, worth: Counts, pods: Counts, scale: Reals) -> tuple["_Curve", Counts]:
        """Return the curve of some classes, and the order in which it takes them."""
        sizes = asks @ scale
        with np.errstate(divide="ignore", invalid="ignore"):
            # Who takes no room comes first, for nothing has to be given up for it.
            ranks = np.where(sizes > 0, worth / sizes, np.inf)
        order = np.argsort(-ranks, kind="stable")
        steps = np.cumsum((sizes * pods)[order]), np.cumsum((worth * pods)[order])
        at, total = (np.concatenate([[0.0], step]) for step in steps)
        slope = np.append(ranks[order], 0.0)
        return cls(scale=scale, sizes=sizes[order], at=at, worth=total, slope=slope), order

    def most(self, room: Reals, first: Counts | int = 0) -> Counts:
        """Return what arrivals are worth at most, of the classes from `first` on in the order."""
        there = self.at[first] + room + _SAFE
        step = np.searchsorted(self.at, there, side="right") - 1
        worth = self.worth[step] + self.slope[step] * (there - self.at[step])
        return np.asarray(np.ceil(worth * (1 + _SAFE) - self.worth[first]) + 1, dtype=np.int64)


class _Search:
    """One search: ever larger mixes, as long as they promise more than what is known."""

    def __init__(
        self, nodes: Nodes, prices: Prices, known: Counts, width: int, *, comes: Mask
    ) -> None:
        self.nodes = nodes
        self.prices = prices
        self.width = width
        self.known = known
        self.best = known.copy()
        # [class of nodes] what mixes have to promise more than.
        self.floor = known
        # [class of nodes] what mixes may be worth that were not looked at.
        self.missed = known.copy()
        self.new: list[_Mixes] = []
        self.pairs = 0
        some = np.flatnonzero(comes & (nodes.pods > 0) & nodes.welcome.any(axis=0))
        each = (nodes.asks[some], prices.worth[some], nodes.pods[some])
        curves = [_Curve.of(*each, scale) for scale in nodes.scales]
        self.curves = [curve for curve, _ in curves]
        self.order = some[curves[0][1]]
        self.worth = prices.worth[self.order]
        self.asks = nodes.asks[self.order]
        self.pods = nodes.pods[self.order]
        self.welcome = nodes.welcome[:, self.order]

    def run(self, ended: Callable[[], bool], *, most_new: int | None) -> Offer:
        """Look at keeps, then at what arrives beside them."""
        keeps = np.arange(len(self.nodes.states.owner))
        mixes = _Mixes(
            keeps=keeps,
            values=self.nodes.states.keeps @ (self.prices.worth + self.prices.stay),
            room=self.nodes.room,
            path=np.zeros((len(keeps), 0), dtype=np.int64),
        )
        self._note(mixes)
        most = mixes.values + self._arriving(mixes.room, self.curves)
        while len(self.order) and len(mixes.keeps):
            if ended():
                np.maximum.at(self.missed, self._owners(mixes), most)
                break
            mixes = self._narrowed(mixes, most)
            mixes, most = self._grown(mixes)
            self._note(mixes)
        return self._offer(most_new)

    def _owners(self, mixes: _Mixes) -> Counts:
        return self.nodes.states.owner[mixes.keeps]

    @staticmethod
    def _arriving(room: Counts, curves: list[_Curve]) -> Counts:
        """Return what could arrive in each room, at most."""
        found = [curve.most(room @ curve.scale) for curve in curves]
        return np.asarray(np.min(found, axis=0), dtype=np.int64)

    def _note(self, mixes: _Mixes) -> None:
        """Note the mixes that are worth more than what was known."""
        owners = self._owners(mixes)
        np.maximum.at(self.best, owners, mixes.values)
        better = mixes.values > self.known[owners]
        if better.any():
            self.new.append(mixes.some(better))

    def _narrowed(self, mixes: _Mixes, most: Counts) -> _Mixes:
        """Return the mixes that promise most; what is left out is remembered by its promise."""
        owners = self._owners(mixes)
        promise = most - self.floor[owners]
        some = np.flatnonzero(promise > 0)
        width = min(self.width, max(1, _MAX_PAIRS // len(self.order)))
        if len(some) > width:
            ranked = some[np.argpartition(-promise[some], width)]
            some, others = ranked[:width], ranked[width:]
            np.maximum.at(self.missed, owners[others], most[others])
        return mixes.some(some)

    def _grown(self, mixes: _Mixes) -> tuple[_Mixes, Counts]:
        """Return the mixes with one more arrival that promise enough, and what they promise."""
        owners, count = self._owners(mixes), len(mixes.keeps)
        fits = self.welcome[owners]
        self.pairs += fits.size
        for k in range(self.asks.shape[1]):
            fits &= self.asks[None, :, k] <= mixes.room[:, None, k]
        if mixes.path.shape[1]:
            fits &= np.arange(len(self.order))[None, :] >= mixes.path[:, -1:]
        first, *others = self.curves
        rest = (mixes.room @ first.scale)[:, None] - first.sizes[None, :]
        rows, comes = np.nonzero(fits)
        assert count or not len(rows)  # noqa: S101 - nothing grows out of nothing
        values = mixes.values[rows] + self.worth[comes]
        most = values + first.most(np.maximum(rest[rows, comes], 0.0), comes)
        promising = np.flatnonzero(most > self.floor[owners[rows]])
        rows, comes = rows[promising], comes[promising]
        used = (mixes.path[rows] == comes[:, None]).sum(axis=1)
        there = used < self.pods[comes]
        rows, comes, promising = rows[there], comes[there], promising[there]
        grown = _Mixes(
            keeps=mixes.keeps[rows],
            values=values[promising],
            room=mixes.room[rows] - self.asks[comes],
            path=np.column_stack([mixes.path[rows], comes]),
        )
        return grown, np.minimum(most[promising], grown.values + self._arriving(grown.room, others))

    def _offer(self, most_new: int | None) -> Offer:
        """Return the best of the new mixes of each class of nodes, or all of them."""
        kept = np.concatenate([_NONE, *(mixes.keeps for mixes in self.new)])
        values = np.concatenate([_NONE, *(mixes.values for mixes in self.new)])
        chosen = _best_of_each(self.nodes.states.owner[kept], values, most_new)
        fills = np.zeros((len(chosen), len(self.nodes.pods)), dtype=np.int64)
        rows = np.full(len(kept), len(chosen))
        rows[chosen] = np.arange(len(chosen))
        for mixes in self.new:
            mine, rows = rows[: len(mixes.keeps)], rows[len(mixes.keeps) :]
            some = mine < len(chosen)
            np.add.at(fills, (mine[some, None], self.order[mixes.path[some]]), 1)
        return Offer(
            most=np.maximum(self.best, self.missed),
            exact=bool((self.missed <= self.floor).all()),
            keeps=kept[chosen],
            fills=fills,
            pairs=self.pairs,
        )


def _best_of_each(owners: Counts, values: Counts, most: int | None) -> Counts:
    """Return the indices of the most valuable of each owner, most valuable first."""
    if most is None:
        return np.arange(len(owners))
    order = np.lexsort((-values, owners))
    sorted_ = owners[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_, sorted_)
    return np.asarray(order[rank < most], dtype=np.int64)
