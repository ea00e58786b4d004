"""A node, as far as placing pods is concerned, and what makes nodes alike."""

from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from bayplan.cluster.constraints import Taint
from bayplan.cluster.keys import NodeName
from bayplan.cluster.resources import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as far as placing pods is concerned.

    Attributes:
        name: The node's name.
        allocatable: What pods may use in sum; `pods` is the number of pods.
        labels: Labels, sorted by key.
        taints: Taints, sorted.
        schedulable: False when cordoned.
        ready: False when its Ready condition is not True.
    """

    name: NodeName
    allocatable: Resources
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[Taint, ...] = ()
    schedulable: bool = True
    ready: bool = True
    _words: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # One object for equal sizes, so that a fleet's nodes are told apart by identity.
        size = _SIZES.setdefault(self.allocatable.items, self.allocatable)
        object.__setattr__(self, "allocatable", size)

    def in_words(self, said: dict[object, str]) -> str:
        """Return the node in words, the same for equal nodes, for digests.

        They are put together once, for every pass asks; `said` are those of all but names.
        """
        if not self._words:
            alike = (id(self.allocatable), self.labels, self.taints, self.schedulable, self.ready)
            rest = said.get(alike)
            if rest is None:
                rest = said[alike] = repr((self.allocatable.items, *alike[1:]))
            object.__setattr__(self, "_words", f"{self.name} {rest}")
        return self._words


#: The sizes that some node has.
_SIZES: Final[WeakValueDictionary[tuple[tuple[str, int], ...], Resources]] = WeakValueDictionary()
