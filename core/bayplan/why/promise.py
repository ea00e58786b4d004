"""How little harm could be enough to make room on many nodes, told from kinds of pods alone.

It is quick, so that it is asked of all nodes, and who could leave only of those that come first.
"""

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

from bayplan.aftermath import Aftermath, Numbers
from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import PodKind
from bayplan.cluster.resources import Resources

#: A priority beyond all others: of nobody.
_NOBODY: Final = 2**62


class Lack(NamedTuple):
    """What a pod lacks in a room, and whether shares of GPUs matter, so that it is no sum."""

    short: Resources
    in_parts: bool


class Promise:
    """What the leaving of pods of some kinds could bring at best, on nodes as a plan leaves them.

    Harm is how many pods go, and the highest of their priorities; none of them is below `lowest`.
    """

    def __init__(self, after: Aftermath, leave: Collection[PodKind]) -> None:
        self._after = after
        self.lowest = min((kind.priority for kind in leave), default=0)
        priorities = [k.priority if k in leave else _NOBODY for k in after.snapshot.kinds]
        self._priorities = np.array(priorities, dtype=np.int64)

    def least(self, nodes: Sequence[NodeName], lacks: Sequence[Lack]) -> list[tuple[int, int]]:
        """Return for each node a harm below which nobody makes room there for what is lacking.

        That is who does so alone and has the lowest priority, or any two. Where shares of GPUs
        matter, one pod may be enough whoever it is.
        """
        lowest = self._alone(nodes, lacks).tolist()
        return [self._harm(*each) for each in zip(lacks, lowest, strict=True)]

    def _harm(self, lack: Lack, lowest: int) -> tuple[int, int]:
        if not lack.short.items:
            return (0, 0)
        if lack.in_parts:
            return (1, self.lowest)
        return (1, lowest) if lowest < _NOBODY else (2, self.lowest)

    def _alone(self, nodes: Sequence[NodeName], lacks: Sequence[Lack]) -> Numbers:
        """Return [node] the lowest priority of a guest whose leaving alone is enough."""
        different = list({id(lack): lack for lack in lacks}.values())
        number = {id(lack): n for n, lack in enumerate(different)}
        enough = self._enough([lack.short for lack in different])
        guests = list(map(self._after.state_at, nodes))
        sizes = np.array([*map(len, guests)], dtype=np.int64)
        of_lack = np.array([number[id(lack)] for lack in lacks], dtype=np.int64)
        kinds = np.array([*chain.from_iterable(guests)], dtype=np.int64)
        lowest = np.full(len(nodes), _NOBODY)
        given = enough[np.repeat(of_lack, sizes), kinds]
        np.minimum.at(lowest, np.repeat(np.arange(len(nodes)), sizes), given)
        return lowest

    def _enough(self, shorts: Sequence[Resources]) -> Numbers:
        """Return [short, kind] the priority of the kind where one such pod covers what is short."""
        names = sorted({name for short in shorts for name in short})
        needs = _table(shorts, names)[:, np.newaxis]
        gains = _table([kind.requests for kind in self._after.snapshot.kinds], names)
        return np.where(np.all(gains >= needs, axis=2), self._priorities, _NOBODY)


def _table(rows: Sequence[Resources], names: Sequence[str]) -> Numbers:
    """Return [row, name] the amounts."""
    table = [[row[name] for name in names] for row in rows]
    return np.array(table, dtype=np.int64).reshape(len(rows), len(names))
