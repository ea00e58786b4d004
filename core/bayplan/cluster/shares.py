"""Shares of single GPUs: whether they fit beside each other, and on which GPU each goes.

A share is a part of one GPU, so it is not enough that the shares of a node are no more than its
GPUs: each must fit on one, and a GPU of which anybody has a part is lost to who asks for whole
ones. Amounts are those of `bayplan.cluster.resources`: a share that has its GPU is a part of the
GPU with that number, any other is a share of that size, and counts as if it had a GPU for itself.

Where a GPU has more on it than fits, or more GPUs are in use than there are, somebody is on another
one than is told. Nobody knows which, so nobody gets any GPU there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from bayplan.cluster import units
from bayplan.cluster.units import SHARED_GPU, WHOLE_MILLI

#: More shares than these on one node are packed by best fit alone.
_MOST_SHARES: Final = 500

#: Steps after which a packing is given up and the best one found so far counts.
_MOST_STEPS: Final = 20_000

Amounts = tuple[tuple[str, int], ...]


def asked(items: Amounts) -> int:
    """Return the thousandths of one GPU that a pod with these requests asks for; 0 without."""
    for name, n in items:
        if units.is_share(name):
            return units.share_milli(name)
        if units.is_part(name):
            return n
    return 0


def number(items: Amounts) -> int | None:
    """Return the number of the GPU on which a pod with these requests has its share, if known."""
    return next((units.part_device(name) for name, _ in items if units.is_part(name)), None)


def concerned(items: Amounts, room: Amounts) -> bool:
    """Return whether requests are about shares, or about whole GPUs where there are shares."""
    whole = False
    for name, _ in items:
        if name.startswith("gpu "):
            return True
        whole = whole or name == SHARED_GPU
    return whole and any(name.startswith("gpu ") for name, _ in room)


@dataclass(frozen=True, slots=True)
class Gpus:
    """What is left of the GPUs of a node.

    Attributes:
        empty: GPUs of which nobody has a part; negative on an over-full node.
        holes: What is left of each GPU of which somebody has a part, by number, in thousandths.
    """

    empty: int
    holes: Mapping[int, int]

    @property
    def crowded(self) -> bool:
        """Whether there is more on the GPUs than fits, so that nobody may come."""
        return self.empty < 0 or any(n < 0 for n in self.holes.values())

    @property
    def whole(self) -> int:
        """The whole GPUs that can be had."""
        return 0 if self.crowded else self.empty

    @property
    def widest(self) -> int:
        """The largest share that fits, in thousandths."""
        if self.crowded:
            return 0
        return max(WHOLE_MILLI if self.empty else 0, 0, *self.holes.values())

    @property
    def loose(self) -> int:
        """All that is left, in thousandths."""
        return 0 if self.crowded else self.empty * WHOLE_MILLI + sum(self.holes.values())


@lru_cache(maxsize=50_000)
def left_in(room: Amounts) -> Gpus:
    """Return what is left in `room`: what the node lists less what all its pods ask for."""
    taken = [(name, n) for name, n in room if n < 0 and name.startswith("gpu ")]
    holes = {units.part_device(name): WHOLE_MILLI + n for name, n in taken if units.is_part(name)}
    homeless = sum(-n for name, n in taken if units.is_share(name))
    whole = next((n for name, n in room if name == SHARED_GPU), 0)
    return Gpus(whole - len(holes) - homeless, holes)


def fit(asks: Amounts, room: Amounts) -> bool:
    """Return whether whole GPUs and shares that are asked for all fit beside what is there.

    A share that has its GPU asks nothing of the other ones.
    """
    left = left_in(room)
    empty, holes = left.empty, dict(left.holes)
    sizes: list[int] = []
    for name, n in asks:
        if left.crowded and (name == SHARED_GPU or units.is_share(name)):
            return False
        if name == SHARED_GPU:
            empty -= n
        elif not name.startswith("gpu "):
            continue
        elif units.is_share(name):
            sizes += [units.share_milli(name)] * n
        elif units.is_part(name):
            device = units.part_device(name)
            empty -= device not in holes
            holes[device] = holes.get(device, WHOLE_MILLI) - n
            if holes[device] < 0:
                return False
    if empty < left.empty and empty < 0:
        return False
    return not sizes or fewest(sizes, holes.values()) <= empty


def tightest(milli: int, room: Amounts) -> int:
    """Return the number of the GPU on which a share leaves the least; a new one where none has."""
    holes = left_in(room).holes
    able = [number for number, hole in holes.items() if hole >= milli]
    if able:
        return min(able, key=lambda number: (holes[number], number))
    return next(number for number in range(len(holes) + 1) if number not in holes)


def short_of(asks: Amounts, room: Amounts) -> dict[str, int]:
    """Return the whole GPUs and shares that have to come free; empty when all fit.

    A share that is bound to a GPU without room for it is told by its size. Of a node that has too
    many pods on its GPUs, those have to come free as well.
    """
    if fit(asks, room):
        return {}
    lacking: Counter[str] = Counter({SHARED_GPU: max(0, -left_in(room).empty)})
    so_far: dict[str, int] = {}
    for name, n in sorted(asks, key=lambda item: (item[0] != SHARED_GPU, item[0])):
        if name == SHARED_GPU:
            so_far[name] = min(n, left_in(room).whole)
            lacking[name] += n - so_far[name]
        elif units.is_share(name) or units.is_part(name):
            one = units.is_part(name)
            for _ in range(1 if one else n):
                more = so_far | {name: so_far.get(name, 0) + (n if one else 1)}
                if fit(tuple(more.items()), room):
                    so_far = more
                else:
                    lacking[units.share(n) if one else name] += 1
    return {name: n for name, n in lacking.items() if n}


def fewest(sizes: Iterable[int], holes: Iterable[int]) -> int:
    """Return how many empty GPUs shares of these sizes need besides the holes.

    Exact but for crowds that nobody has seen yet (`_MOST_STEPS`), where it may be more.
    """
    return len(_packed(_ordered(sizes), _ordered(holes))) - len(_ordered(holes))


def places(sizes: Sequence[int], holes: Sequence[int]) -> list[int]:
    """Return for each share where it goes: the index of a hole, or beyond them of an empty GPU."""
    ordered = sorted(range(len(holes)), key=lambda h: (-holes[h], h))
    open_to: dict[int, list[int]] = {}
    packing = _packed(_ordered(sizes), _ordered(holes))
    order = [h for h in ordered if holes[h] > 0]
    order += range(len(holes), len(holes) + len(packing) - len(order))
    for at, content in zip(order, packing, strict=True):
        for size in content:
            open_to.setdefault(size, []).append(at)
    return [open_to[size].pop(0) for size in sizes]


def _ordered(amounts: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted((n for n in amounts if n > 0), reverse=True))


@lru_cache(maxsize=200_000)
def _packed(sizes: tuple[int, ...], holes: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return what goes where, holes first, with as few empty GPUs as possible."""
    found = _best_fit(sizes, holes)
    least = _least(sizes, holes) if len(sizes) <= _MOST_SHARES else len(found) - len(holes)
    for empty in range(least, len(found) - len(holes)):
        search = _Search([*holes, *[WHOLE_MILLI] * empty])
        if search.place(sizes, 0):
            return search.contents()
        if search.steps >= _MOST_STEPS:
            return found
    return found


def _best_fit(sizes: Sequence[int], holes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return a packing in which each share goes where the least is left, the largest first."""
    left, contents = list(holes), [list[int]() for _ in holes]
    for size in sizes:
        able = [i for i, room in enumerate(left) if room >= size]
        if not able:
            able = [len(left)]
            left.append(WHOLE_MILLI)
            contents.append([])
        best = min(able, key=left.__getitem__)
        left[best] -= size
        contents[best].append(size)
    return tuple(map(tuple, contents))


def _least(sizes: Sequence[int], holes: Sequence[int]) -> int:
    """Return a number of empty GPUs below which no packing is possible."""
    volume = -((sum(holes) - sum(sizes)) // WHOLE_MILLI)
    # No two of the largest share a GPU, and a hole takes at most one of them.
    large = sum(2 * size > WHOLE_MILLI for size in sizes)
    taking = sum(2 * hole > WHOLE_MILLI for hole in holes)
    return max(0, volume, large - taking)


class _Search:
    """Looks for a packing into given room, the largest share first, in every way there is."""

    def __init__(self, rooms: list[int]) -> None:
        self._left = rooms
        self._contents: list[list[int]] = [[] for _ in rooms]
        self.steps = 0

    def contents(self) -> tuple[tuple[int, ...], ...]:
        return tuple(map(tuple, self._contents))

    def place(self, sizes: tuple[int, ...], at: int) -> bool:
        """Place the shares from index `at` on; return whether all have a place."""
        if at == len(sizes):
            return True
        size, tried = sizes[at], set[int]()
        for i, room in enumerate(self._left):
            if room < size or room in tried:
                continue
            if self.steps >= _MOST_STEPS:
                return False
            self.steps += 1
            tried.add(room)
            self._left[i] -= size
            self._contents[i].append(size)
            if self.place(sizes, at + 1):
                return True
            self._left[i] += size
            self._contents[i].pop()
            if room == size:
                # Nothing better than a perfect fit can become of this room.
                return False
        return False
