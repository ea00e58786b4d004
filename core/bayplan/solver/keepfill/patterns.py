"""Fill patterns: every multiset of pod shapes that an empty node of one type can take.

A pattern says how many pods of each shape arrive on one node. Residual room matters only through
the set of patterns that fit in it, so rooms with equal sets are one, and of each set only the
patterns that nothing can be added to are worth a column: a node may use its pattern in part.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bayplan.solver.problem.instance import Counts, Mask

#: Most patterns of one node type; beyond it the fleet is made of too many kinds of pods.
MAX_PATTERNS: Final = 20_000

#: Most of them for each second of a limit: linear programs over more are not solved in time.
_PER_SECOND: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """The patterns of one node type.

    Attributes:
        counts: [pattern, shape] pods of each shape; the first pattern is empty.
        uses: [pattern, resource] what they use together.
        larger: [pattern, shape] the pattern with one pod more; -1 where there is none.
    """

    counts: Counts = field(repr=False)
    uses: Counts = field(repr=False)
    larger: Counts = field(repr=False)

    def fitting(self, rooms: Counts) -> Mask:
        """Return [room, pattern] which patterns fit in each room; the empty one always does."""
        fits = np.ones((len(rooms), len(self.counts)), dtype=np.bool_)
        for k in range(rooms.shape[1]):
            asks = self.uses[:, k]
            fits &= (asks[None, :] <= rooms[:, k][:, None]) | (asks == 0)[None, :]
        return fits

    def maximal(self, fits: Mask) -> Mask:
        """Return [set, pattern] the patterns of each set that are not part of a larger one."""
        most = fits.copy()
        for s in range(self.larger.shape[1]):
            after = self.larger[:, s]
            most &= ~(fits[:, after] & (after >= 0)[None, :])
        return most


def most_patterns(seconds: float) -> int:
    """Return how many patterns of one node type are of use to a search of so many seconds."""
    return min(MAX_PATTERNS, int(seconds * _PER_SECOND))


def enumerate_patterns(
    shapes: Counts, most: Counts, room: Counts, limit: int = MAX_PATTERNS
) -> Patterns | None:
    """Return all patterns of an empty node; None when they are more than `limit`.

    Args:
        shapes: [shape, resource] what one pod uses.
        most: [shape] most pods of the shape that can arrive; 0 where the node refuses it.
        room: [resource] the room of the empty node.
        limit: Most patterns that are of use.
    """
    counts = np.zeros((1, len(shapes)), dtype=np.int64)
    uses = np.zeros((1, shapes.shape[1]), dtype=np.int64)
    larger = np.zeros((1, 0), dtype=np.int64)
    for s, asks in enumerate(shapes):
        copies = _copies(asks, int(most[s]), room - uses)
        if int(copies.sum()) + len(copies) > limit:
            return None
        # Each row becomes copies + 1 rows, with 0, 1, 2 … pods of this shape.
        start = np.cumsum(copies + 1) - (copies + 1)
        rows = np.repeat(np.arange(len(counts)), copies + 1)
        added = np.arange(len(rows)) - start[rows]
        more = larger[rows]
        exists = (more >= 0) & (added[:, None] <= copies[more])
        own = np.where(added < copies[rows], np.arange(len(rows)) + 1, -1)
        larger = np.column_stack([np.where(exists, start[more] + added[:, None], -1), own])
        counts, uses = counts[rows], uses[rows] + added[:, None] * asks[None, :]
        counts[:, s] = added
    return Patterns(counts=counts, uses=uses, larger=larger)


def _copies(asks: Counts, most: int, room: Counts) -> Counts:
    """Return how many more pods each row of `room` takes."""
    used = asks > 0
    copies = np.full(len(room), most, dtype=np.int64)
    if used.any():
        fit = (np.maximum(room[:, used], 0) // asks[used]).min(axis=1)
        copies = np.minimum(copies, fit)
    return copies
