"""Kinds of pods, and the catalogue of kinds to keep room for, with their prices.

The catalogue is the forecast of the online score: what has been asked for so far is what will be
asked for next. The prices are one rule for every mix of pods, tuned on public traces
(`benchmarks/RESULTS.md` tells on which lists and seeds).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayplan.cluster.units import WHOLE_MILLI

#: How much dearer room for n GPUs gets with the square of its share of the demand.
_DEARER: Final = 250


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Kind:
    """What a pod asks of a node, as far as the score looks at it.

    Attributes:
        cpu_milli: CPU in millicores.
        memory_mib: Memory in MiB.
        gpus: Number of GPUs; 0 for a pod without.
        gpu_milli: How much of each GPU, in thousandths; below 1000 only for one GPU.
        models: GPU models that will do; empty means any.
    """

    cpu_milli: int = 0
    memory_mib: int = 0
    gpus: int = 0
    gpu_milli: int = WHOLE_MILLI
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.cpu_milli, self.memory_mib, self.gpus) < 0:
            raise ValueError(f"{self}: a request cannot be negative")
        if not 0 < self.gpu_milli <= WHOLE_MILLI:
            raise ValueError(f"{self}: a share lies between 1 and {WHOLE_MILLI} thousandths")
        if self.gpu_milli < WHOLE_MILLI and self.gpus != 1:
            raise ValueError(f"{self}: a share is of exactly one GPU")

    @property
    def is_share(self) -> bool:
        """Return whether the pod takes a part of one GPU."""
        return self.gpu_milli < WHOLE_MILLI

    @property
    def total_milli(self) -> int:
        """Return the GPU demand in thousandths of a GPU."""
        return self.gpus * self.gpu_milli


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The kinds with GPUs that room is kept for, in columns.

    Attributes:
        kinds: Ascending, so that the order in which pods were counted makes no difference.
        prices: [kind] value of room for the first copy on a node, a whole number.
    """

    kinds: tuple[Kind, ...]
    prices: NDArray[np.float64] = field(repr=False)


def catalogue(counts: Mapping[Kind, int]) -> Catalogue:
    """Return the kinds of `counts` that ask for GPUs, with the value of room for one copy of each.

    `counts` says how many pods of each kind are known.
    """
    kinds = tuple(sorted(kind for kind, n in counts.items() if n > 0 and kind.gpus))
    pods = np.array([counts[kind] for kind in kinds], dtype=np.float64)
    return Catalogue(kinds=kinds, prices=_prices(kinds, pods))


def _prices(kinds: tuple[Kind, ...], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return whole numbers: 1,000 for a kind of at most one GPU, more for several GPUs.

    How common a kind is does not matter, for room is either left for it or not. Room for several
    GPUs is different: it is used up by any small pod, and as the more such pods come the dearer.
    """
    gpus = np.array([kind.gpus for kind in kinds], dtype=np.float64)
    demand = counts * np.array([kind.total_milli for kind in kinds], dtype=np.float64)
    total = max(1.0, demand.sum())
    of_size = np.array([demand[gpus == size].sum() / total for size in gpus])
    several = np.sqrt(gpus) * (1 + _DEARER * of_size**2)
    prices: NDArray[np.float64] = np.rint(1000 * np.where(gpus > 1, several, 1.0))
    return prices
