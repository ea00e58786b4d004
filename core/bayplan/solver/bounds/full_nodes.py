"""Whether pods fit on nodes that would all be full: what each of them could hold then, together.

Where next to nothing would be left free, no linear program tells what is impossible: parts of pods
fill every hole. But there is little that a node can hold without leaving more free than may be free
in all, and it is listed in a moment: what it could hold of one half of the pods is joined with what
it could hold of the other (meet in the middle: Horowitz and Sahni, Journal of the ACM 21, 1974).
Then one node after another gets something of that list, always for the pods that have the fewest
left, until everybody is somewhere or all has been tried.

Of the rules only room is seen, so what is impossible here is impossible.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Final, TypeVar

import numpy as np

from bayplan.solver.problem.goals import Keep, Place
from bayplan.solver.problem.instance import Counts, Instance, Mask
from bayplan.solver.programs.budget import Budget

#: Most nodes: one after another is gone into.
_NODES: Final = 200

#: Most ways to choose those who are left out.
_WAYS: Final = 64

#: Largest share of what a node could hold that may leave as little free; of more the list is long.
_RARE: Final = 1e-2

#: Most that a node could hold of one half of the pods, pairs of halves, and pairs that fill it.
_HALVES: Final = 100_000
_PAIRS: Final = 2_000_000
_FULL: Final = 20_000

#: Pairs that are looked at together.
_AT_ONCE: Final = 500_000

#: No number of a content gets larger.
_HUGE: Final = 2.0**62

#: Effort of listing, of a node by itself, and of a look at what could be on it.
_EFFORT_PER_PAIR: Final = 5e-8
_EFFORT_PER_NODE: Final = 3e-5
_EFFORT_PER_LOOK: Final = 2e-7


_Way = TypeVar("_Way")


class _TooManyError(Exception):
    """There is more to look at than may be."""


def overflows(
    instance: Instance, demand: Sequence[tuple[Keep | Place, int]], budget: Budget
) -> bool:
    """Return whether it is proved that no placement meets the demand.

    Args:
        instance: The problem.
        demand: How many pods are kept or placed for each of some goals.
        budget: What may be used up; what was is taken off.
    """
    capacity, asks = instance.capacity, instance.requests
    if not 0 < len(capacity) <= _NODES or (capacity != capacity[0]).any():
        return False
    scarce = (instance.run_totals + instance.wait_totals) @ asks > capacity[0]
    if not scarce.any():
        return False
    sizes, of_class = np.unique(asks[:, scarce], axis=0, return_inverse=True)
    try:
        ways = [
            np.bincount(of_class.ravel(), pods, minlength=len(sizes)).astype(np.int64)
            for pods in _ways(instance, demand)
        ]
        # With most room left the list is longest, so it is known soonest whether it is too long.
        ways.sort(key=lambda pods: tuple((pods @ sizes).tolist()))
        for pods in ways:
            some = (pods > 0) & sizes.any(axis=1)
            question = _Question(
                sizes=sizes[some],
                pods=pods[some],
                room=capacity[0, scarce],
                spare=capacity[:, scarce].sum(axis=0) - pods @ sizes,
                budget=budget,
            )
            if question.fits():
                return False
    except _TooManyError:
        return False
    return True


def _ways(instance: Instance, demand: Sequence[tuple[Keep | Place, int]]) -> list[Counts]:
    """Return [class] who has to be somewhere, for each choice of those who are left out."""
    everyone = np.zeros(len(instance.classes), dtype=np.int64)
    left_out, groups = [], []
    for goal, value in demand:
        totals = instance.wait_totals if isinstance(goal, Place) else instance.run_totals
        pods = goal.mask(instance) * totals
        everyone += pods
        some = np.flatnonzero(pods)
        count = int(pods.sum()) - value
        if count and len(some) > _WAYS:
            raise _TooManyError
        left_out.append(_first(_choices(pods[some].tolist(), count)))
        groups.append(some)
    ways = []
    for chosen in _first(product(*left_out)):
        ways.append(everyone.copy())
        for some, counts in zip(groups, chosen, strict=True):
            ways[-1][some] -= counts
    return ways


def _choices(pods: list[int], count: int) -> Iterator[tuple[int, ...]]:
    """Yield each way to choose so many pods, as how many of each class."""
    if not count:
        # Most often nobody is left out, of any number of classes.
        yield (0,) * len(pods)
        return
    first, *others = pods
    for n in range(max(0, count - sum(others)), min(first, count) + 1):
        for rest in _choices(others, count - n):
            yield (n, *rest)


def _first(ways: Iterator[_Way]) -> list[_Way]:
    """Return the ways, of which there must not be too many."""
    found = list(islice(ways, _WAYS + 1))
    if len(found) > _WAYS:
        raise _TooManyError
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Halves:
    """What a node could hold of some of the pods.

    Attributes:
        sums: [content, resource] what it takes.
        codes: [content] how many of each class, as one number.
    """

    sums: Counts = field(repr=False)
    codes: Counts = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """Whether pods fit on nodes that are all alike.

    Attributes:
        sizes: [class, resource] what a pod uses.
        pods: [class] how many there are.
        room: [resource] what a node has.
        spare: [resource] what is left free of all nodes.
        budget: What may be used up.
    """

    sizes: Counts
    pods: Counts
    room: Counts
    spare: Counts
    budget: Budget

    def fits(self) -> bool:
        """Return whether all pods fit.

        Raises:
            _TooManyError: It is not known.
        """
        if (self.spare < 0).any():
            return False
        if np.prod(np.minimum(1.0, (self.spare + 1) / np.maximum(1, self.room))) > _RARE:
            raise _TooManyError
        return self._filled(self.pods, self.spare, self._full())

    def _full(self) -> Counts:
        """Return [content, class] what a node could hold that leaves no more free than is spare."""
        spare = self.spare
        most = np.where(self.sizes > 0, self.room // np.maximum(self.sizes, 1), self.pods.max())
        most = np.minimum(self.pods, most.min(axis=1))
        order = np.argsort(-(self.sizes / self.room).sum(axis=1), kind="stable")
        halves = order[::2], order[1::2]
        one, other = (self._held(some, most) for some in halves)
        by_first = np.argsort(other.sums[:, 0], kind="stable")
        first = other.sums[by_first, 0]
        least = np.searchsorted(first, (self.room - spare)[0] - one.sums[:, 0], side="left")
        ends = np.searchsorted(first, self.room[0] - one.sums[:, 0], side="right")
        counts = ends - least
        if counts.sum() > _PAIRS:
            raise _TooManyError
        self._use(_EFFORT_PER_PAIR * int(counts.sum()))
        found = []
        for rows in np.array_split(np.arange(len(counts)), int(counts.sum()) // _AT_ONCE + 1):
            mine = np.repeat(rows, counts[rows])
            steps = np.arange(len(mine)) - np.repeat(np.cumsum(counts[rows]), counts[rows])
            theirs = by_first[ends[mine] + steps]
            left = self.room - one.sums[mine] - other.sums[theirs]
            full = ((left >= 0) & (left <= spare)).all(axis=1)
            found.append(np.column_stack([one.codes[mine[full]], other.codes[theirs[full]]]))
        codes = np.concatenate(found)
        if len(codes) > _FULL:
            raise _TooManyError
        contents = np.zeros((len(codes), len(most)), dtype=np.int64)
        for some, code in zip(halves, codes.T, strict=True):
            contents[:, some] = _decoded(code, most[some])
        return contents

    def _held(self, some: Counts, most: Counts) -> _Halves:
        """Return what a node could hold of some classes."""
        if np.prod(most[some] + 1.0) > _HUGE:
            raise _TooManyError
        sums = np.zeros((1, len(self.room)), dtype=np.int64)
        codes = np.zeros(1, dtype=np.int64)
        for i in some.tolist():
            heads = np.arange(int(most[i]) + 1)
            sums = (sums[:, None, :] + heads[:, None] * self.sizes[i]).reshape(-1, len(self.room))
            codes = (codes[:, None] * len(heads) + heads).ravel()
            self._use(_EFFORT_PER_PAIR * len(codes))
            fits: Mask = (sums <= self.room).all(axis=1)
            sums, codes = sums[fits], codes[fits]
            if len(codes) > _HALVES:
                raise _TooManyError
        return _Halves(sums=sums, codes=codes)

    def _filled(self, pods: Counts, spare: Counts, contents: Counts) -> bool:
        """Return whether these contents hold all the pods and leave no more free."""
        if not pods.any():
            return True
        self._use(_EFFORT_PER_NODE + _EFFORT_PER_LOOK * len(contents))
        left = self.room - contents @ self.sizes
        contents = contents[(contents <= pods).all(axis=1) & (left <= spare).all(axis=1)]
        ways = np.where(pods > 0, (contents > 0).sum(axis=0), len(contents) + 1)
        who = int(ways.argmin())
        contents = contents[np.argsort(contents[:, who] == 0, kind="stable")]
        for n, each in enumerate(contents[: ways[who]]):
            rest = spare - (self.room - each @ self.sizes)
            # What has been tried with one content is not tried again beside another.
            if self._filled(pods - each, rest, contents[n:]):
                return True
        return False

    def _use(self, effort: float) -> None:
        self.budget.effort -= effort
        if self.budget.spent:
            raise _TooManyError


def _decoded(codes: Counts, most: Counts) -> Counts:
    """Return [content, class] how many there are of each class."""
    counts = np.zeros((len(codes), len(most)), dtype=np.int64)
    for i in reversed(range(len(most))):
        codes, counts[:, i] = np.divmod(codes, most[i] + 1)
    return counts
