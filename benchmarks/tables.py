"""An exact search that shares nothing with the engines: a table over counts, node by node.

Pods that are alike are counted. After each node the table knows, for every vector of counts, the
largest sum of gains with which so many pods can sit on the nodes seen so far. That is exhaustive,
and quick enough for ten thousand small clusters; the benchmarks take their optima from it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int32]

#: The counts of a filling, and the room that it leaves.
Filling = tuple[tuple[int, ...], tuple[int, ...]]

#: The gain of what cannot be.
NEVER: Final = -(2**20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Pods that are alike, and may sit on some nodes.

    Attributes:
        requests: What each uses, by resource.
        count: How many there are.
        most: By node, how many of them may sit there, room aside.
    """

    requests: tuple[int, ...]
    count: int
    most: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One way to use a node: how many of each kind, and what that is worth."""

    counts: tuple[int, ...]
    gain: int


def fillings(kinds: Sequence[Kind], node: int, room: Sequence[int]) -> Iterator[Filling]:
    """Yield each way to fill a node with `room`: the counts, and what stays free."""

    def extend(index: int, left: tuple[int, ...]) -> Iterator[Filling]:
        if index == len(kinds):
            yield (), left
            return
        kind = kinds[index]
        for n in range(min(kind.count, kind.most[node]) + 1):
            rest = tuple(have - n * need for have, need in zip(left, kind.requests, strict=True))
            if n and min(rest) < 0:
                return
            for counts, free in extend(index + 1, rest):
                yield (n, *counts), free

    yield from extend(0, tuple(room))


def table(shape: Sequence[int], nodes: Sequence[Sequence[Fill]]) -> Table:
    """Return the largest sum of gains by vector of counts; `NEVER` and below: not possible.

    Args:
        shape: The most of each count.
        nodes: What each node may hold; exactly one of it is taken.
    """
    best = np.full([n + 1 for n in shape], NEVER, dtype=np.int32)
    best[(0,) * len(shape)] = 0
    for fills in nodes:
        after = np.full_like(best, NEVER)
        for fill in fills:
            upper = tuple(slice(n, None) for n in fill.counts)
            lower = tuple(
                slice(0, size - n) for size, n in zip(best.shape, fill.counts, strict=True)
            )
            np.maximum(after[upper], best[lower] + fill.gain, out=after[upper])
        best = np.maximum(after, NEVER)
    return best


def reachable(best: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the vectors of counts that are possible, one a row, and their gains."""
    rows = np.argwhere(best >= 0)
    return rows, best[tuple(rows.T)].astype(np.int64)


def entries(counts: Sequence[int]) -> int:
    """Return how large a table over these counts would be."""
    return int(np.prod([n + 1 for n in counts], dtype=np.int64))


def lexicographic(values: Sequence[NDArray[np.int64]]) -> int:
    """Return the row with the lexicographically largest values, the first list first."""
    return int(np.lexsort(tuple(reversed([np.asarray(v) for v in values])))[-1])
