"""Shapes: how many replicas of each pool a unit has, or needs to be whole.

A spec has one for every unit, and each pod says what makes its own unit whole as it is now, in an
annotation: `prefill=1,decode=2`. While a new ratio is on its way the two differ.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import total_ordering
from typing import Final

from bayplan.api.pools import MAX_UNIT
from bayplan.cluster.units import whole_number


@total_ordering
@dataclass(frozen=True, slots=True)
class Shape:
    """Replicas by pool, sorted by the pool's name, without zeros.

    Shapes are ordered by how many replicas they have in all.
    """

    counts: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> "Shape":
        """Return the shape of so many replicas of each pool."""
        return cls(tuple(sorted((pool, n) for pool, n in counts.items() if n)))

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """Return what `str` wrote; of anything else an empty shape."""
        counts: dict[str, int] = {}
        for part in text.split(","):
            pool, _, said = part.rpartition("=")
            n = whole_number(said)
            # What is more than any unit may have is not ours either, and would be counted out.
            if not pool or n is None or n > MAX_UNIT:
                return cls()
            counts[pool] = n
        return cls.of(counts)

    def __str__(self) -> str:
        return ",".join(f"{pool}={n}" for pool, n in self.counts)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __getitem__(self, pool: str) -> int:
        return next((n for name, n in self.counts if name == pool), 0)

    def __lt__(self, other: "Shape") -> bool:
        return (self.size, self.counts) < (other.size, other.counts)

    @property
    def size(self) -> int:
        """How many replicas it has in all."""
        return sum(n for _, n in self.counts)

    def within(self, other: "Shape") -> bool:
        """Return whether it asks for no more than `other` of any pool."""
        return all(n <= other[pool] for pool, n in self.counts)

    def covered_by(self, pools: Iterable[str]) -> bool:
        """Return whether replicas of these pools are enough for it; nothing is no shape."""
        have: dict[str, int] = {}  # a Counter takes three times as long, for every unit
        for pool in pools:
            have[pool] = have.get(pool, 0) + 1
        return bool(self) and all(have.get(pool, 0) >= n for pool, n in self.counts)

    @classmethod
    def count(cls, pools: Iterable[str]) -> "Shape":
        """Return the shape that replicas of these pools make."""
        return cls.of(Counter(pools))


#: What pods say that say nothing.
NO_SHAPE: Final = Shape()
