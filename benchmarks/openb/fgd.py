"""Fragmentation gradient descent, the published policy to beat, as its authors' simulator runs it.

Weng et al., "Beware of Fragmentation", USENIX ATC 2023. The fragmentation of a node is the free GPU
that a pod drawn from the typical ones could not use there, and a pod goes where it grows least.
Details that matter to the figures and are not all in the paper: typical pods are the most frequent
requests that make up 95 % of the list, without memory; scores pass through a logistic function and
are cut to whole numbers from 0 to 100, which leaves many ties; among equals the first device and
the first node win; every node is looked at.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np

from bayplan.cluster.units import WHOLE_MILLI
from bayplan.online.kinds import Kind
from bayplan.online.value import Floats, Ints, Rooms, accepts

#: Part of the pods whose requests are typical.
_POPULAR: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragmentation:
    """Minus the expected fragmentation, in thousandths of a GPU.

    Attributes:
        table: [free thousandths, column] by size of request: whether a device takes one; what
            is wasted if not; last, what is free.
        cpu: [typical] CPU request.
        gpus: [typical] GPUs of a request; more than any node has for pods without.
        size: [typical] column of the size of request.
        sizes: Number of sizes.
        often: [model, typical] frequency; 0 where the model will not do.
    """

    table: Floats = field(repr=False)
    cpu: Ints
    gpus: Ints
    size: Ints
    sizes: int
    often: Floats = field(repr=False)

    @classmethod
    def of_pods(cls, pods: Sequence[Kind], models: Sequence[str]) -> Self:
        """Return the fragmentation for the typical ones among `pods`."""
        typical = _typical(pods)
        sizes = sorted({kind.gpu_milli for kind in typical})
        free = np.arange(WHOLE_MILLI + 1)[:, None]
        takes = free >= np.array(sizes)
        often = [
            [often * _usable(kind, model) for kind, often in typical.items()] for model in models
        ]
        return cls(
            table=np.concatenate([takes, np.where(takes, 0, free), free], axis=1).astype(
                np.float64
            ),
            cpu=np.array([kind.cpu_milli for kind in typical]),
            gpus=np.array([kind.gpus for kind in typical]),
            size=np.array([sizes.index(kind.gpu_milli) for kind in typical]),
            sizes=len(sizes),
            often=np.array(often),
        )

    def of(self, rooms: Rooms) -> Floats:
        """Return minus what is fragmented on each row: all free GPUs but the usable ones."""
        fits = rooms.tally[:, self.size] >= self.gpus
        fits &= rooms.cpu_milli[:, None] >= self.cpu
        free = rooms.tally[:, -1:]
        usable = (free - rooms.tally[:, self.sizes + self.size]) * fits
        value: Floats = np.einsum("rk,rk->r", usable, self.often[rooms.models]) - free[:, 0]
        return value

    def loss(self, before: Floats, after: Floats) -> Floats:
        """Return minus the score."""
        score: Floats = np.floor(100 / (1 + np.exp((before - after) / WHOLE_MILLI)))
        return -score


def _usable(kind: Kind, model: str) -> bool:
    """Return whether `kind` can use a GPU of `model`."""
    return kind.gpus > 0 and accepts(kind, model)


def _typical(pods: Sequence[Kind]) -> dict[Kind, float]:
    """Return the typical requests and how frequent each is among them."""
    counts = Counter(
        Kind(cpu_milli=p.cpu_milli, gpus=p.gpus, gpu_milli=p.gpu_milli, models=p.models)
        for p in pods
    )
    ordered = sorted(counts, key=lambda kind: (counts[kind], _stable(kind)), reverse=True)
    typical: dict[Kind, float] = {}
    for kind in ordered:
        if sum(typical.values()) >= _POPULAR * len(pods):
            break
        typical[kind] = counts[kind]
    total = sum(typical.values())
    return {kind: count / total for kind, count in typical.items()}


def _stable(kind: Kind) -> tuple[int, int, int, str]:
    return (kind.cpu_milli, kind.gpu_milli if kind.gpus else 0, kind.gpus, "|".join(kind.models))
