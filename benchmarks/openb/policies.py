"""The policies that are compared: ours, FGD, and three simple ones as FGD's authors define them."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayplan.cluster.units import WHOLE_MILLI
from bayplan.online.kinds import Kind, catalogue
from bayplan.online.scorer import NodeRoom, Scorer
from bayplan.online.value import Copies, Floats, Ints
from benchmarks.openb.fgd import Fragmentation
from benchmarks.openb.inflation import Policy
from benchmarks.openb.trace import Trace

#: Largest CPU and GPUs of a node, by which FGD's authors scale best fit.
_MOST_CPU_MILLI: Final = 128_000
_MOST_GPU_MILLI: Final = 8 * WHOLE_MILLI


class Scored:
    """Places each pod where a scorer sees the least loss."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def arrive(self, kind: Kind) -> bool:
        """Place a pod; return whether it fitted."""
        spot = self._scorer.choose(kind)
        if spot is None:
            return False
        self._scorer.take(kind, spot)
        return True


class Simple(ABC):
    """Places each pod where a rule that looks at one node at a time says."""

    def __init__(self, trace: Trace, seed: int) -> None:
        nodes = shuffled(trace.nodes, seed)
        width = max(len(node.devices) for node in nodes)
        self.cpu: Ints = np.array([node.cpu_milli for node in nodes])
        self.memory: Ints = np.array([node.memory_mib for node in nodes])
        self.devices: Ints = np.array(
            [node.devices + (-1,) * (width - len(node.devices)) for node in nodes]
        )
        self.random = Random(seed)  # noqa: S311 - an experiment, not a secret
        self._models = np.array([node.model for node in nodes])

    def arrive(self, kind: Kind) -> bool:
        """Place a pod; return whether it fitted."""
        enough = (self.cpu >= kind.cpu_milli) & (self.memory >= kind.memory_mib)
        able = (self.devices >= kind.gpu_milli).sum(axis=1) >= kind.gpus
        rows = np.flatnonzero(self._welcome(kind) & enough & able)
        if not len(rows):
            return False
        row = int(rows[self.scores(kind, rows).argmax()])
        self.cpu[row] -= kind.cpu_milli
        self.memory[row] -= kind.memory_mib
        self.devices[row, self._chosen(kind, row)] -= kind.gpu_milli
        return True

    @abstractmethod
    def scores(self, kind: Kind, rows: Ints) -> Floats:
        """Return how good each of `rows` is; the first of the best is taken."""

    def device(self, free: Ints, able: Ints) -> int:
        """Return which of the devices `able` a share takes: the fullest."""
        return int(able[free[able].argmin()])

    def _welcome(self, kind: Kind) -> NDArray[np.bool_]:
        """Return which nodes have a model that will do."""
        anywhere = not (kind.gpus and kind.models)
        return np.isin(self._models, kind.models) | anywhere

    def _chosen(self, kind: Kind, row: int) -> list[int]:
        able = np.flatnonzero(self.devices[row] >= kind.gpu_milli)
        if kind.is_share:
            return [self.device(self.devices[row], able)]
        return [int(device) for device in able[: kind.gpus]]


class BestFit(Simple):
    """Leaves the least CPU and GPU behind, as shares of the largest node, cut to whole percents."""

    def scores(self, kind: Kind, rows: Ints) -> Floats:
        """Return 100 for an exact fit, down to 0 for the largest node empty."""
        cpu = (self.cpu[rows] - kind.cpu_milli) / _MOST_CPU_MILLI
        gpu = (self.devices[rows].clip(0).sum(axis=1) - kind.total_milli) / _MOST_GPU_MILLI
        percent: Floats = np.floor(100 * (1 - (cpu + gpu) / 2))
        return percent


class Packing(Simple):
    """Prefers devices in use, then whole devices of nodes in use, then empty nodes."""

    def scores(self, kind: Kind, rows: Ints) -> Floats:
        """Return 50 to 100, 33 to 50, or up to 33 in these cases."""
        if not kind.gpus:
            return np.zeros(len(rows))
        free = np.sort(np.where(self.devices[rows] >= kind.gpu_milli, self.devices[rows], 10_000))
        taken = free[:, : kind.gpus]
        whole = (self.devices[rows] == WHOLE_MILLI).sum(axis=1)
        new = (taken == WHOLE_MILLI).sum(axis=1)
        used = np.maximum(100 - (taken * 100 // WHOLE_MILLI).sum(axis=1) // 10, 50)
        opened = np.where(new > 0, np.maximum(50 - new, 33), used)
        empty = whole == (self.devices[rows] >= 0).sum(axis=1)
        scores: Floats = np.where(empty, np.maximum(33 - whole, whole), opened).astype(np.float64)
        return scores


class Anywhere(Simple):
    """Takes any node and any device where the pod fits."""

    def scores(self, kind: Kind, rows: Ints) -> Floats:  # noqa: ARG002 - looks at nothing
        """Return 1 for one of them."""
        scores = np.zeros(len(rows))
        scores[self.random.randrange(len(rows))] = 1
        return scores

    def device(self, free: Ints, able: Ints) -> int:  # noqa: ARG002 - looks at nothing
        """Return any of them."""
        return int(self.random.choice(able.tolist()))


def ours(trace: Trace, seed: int) -> Scored:  # noqa: ARG001 - nothing is random about it
    """Return the online score with the list as its forecast."""
    return Scored(scorer(trace))


def scorer(trace: Trace) -> Scorer:
    """Return the online score with the list as its forecast."""
    kinds = catalogue(Counter(trace.pods))
    return Scorer(trace.nodes, Copies.of_catalogue(kinds, trace.models), trace.models)


def fgd(trace: Trace, seed: int) -> Scored:
    """Return our own implementation of FGD."""
    worth = Fragmentation.of_pods(trace.pods, trace.models)
    return Scored(Scorer(shuffled(trace.nodes, seed), worth, trace.models))


def shuffled(nodes: Sequence[NodeRoom], seed: int) -> list[NodeRoom]:
    """Return `nodes` in another order, named by it.

    The published policies leave many ties, and who wins them is worth up to a point: by the names
    of the list, which sort by hardware, FGD does worse than published; in a mixed order, as well.
    """
    order = Random(seed).sample(range(len(nodes)), len(nodes))  # noqa: S311 - an experiment
    return [replace(nodes[index], name=f"{place:05}") for place, index in enumerate(order)]


#: How a policy starts on a trace with a seed.
Start = Callable[[Trace, int], Policy]

#: How to make each policy for a run, by the name of its field in the results.
POLICIES: Final[Mapping[str, Start]] = {
    "ours": ours,
    "fgd": fgd,
    "best_fit": BestFit,
    "packing": Packing,
    "random": Anywhere,
}
