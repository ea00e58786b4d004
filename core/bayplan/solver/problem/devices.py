"""Shares of GPUs, as the engines see them: columns that every sum obeys, and the packing itself.

Shares must fit on single GPUs, and no sum over a node says that. But some weights of shares do say
what cannot fit: if those above a half count as whole and those below as nothing, a node holds no
more than its GPUs of them. Such weights (dual feasible functions, Fekete and Schepers 2001) are
columns of room like any other, so that every bound holds and most of what does not fit is seen at
once. Whether the rest fits is asked of `Devices`, which packs the shares of a node.

A running share that stays keeps its GPU; all others go where there is room. A GPU with a share is
lost to who asks for whole ones: it is held.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayplan.cluster import shares
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.units import SHARED_GPU, WHOLE_MILLI

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Parts into which a GPU is thought to be cut: shares count as the parts that they surely break.
_CUTS: Final = (1, 2, 3)

#: Most sizes from which on a share counts as whole, if those that would fit beside it do not count.
_MOST_LIMITS: Final = 6


class Layout(NamedTuple):
    """The shares of one node.

    Attributes:
        stay: What stays on each GPU with a number, in thousandths.
        homeless: Shares that stay on GPUs nobody knows.
        come: Sizes of the shares that come, in thousandths.
    """

    stay: Mapping[int, int]
    homeless: int
    come: tuple[int, ...]

    @property
    def holes(self) -> dict[int, int]:
        """What is left of each GPU with a number; negative where there is too much on it."""
        return {number: WHOLE_MILLI - load for number, load in self.stay.items()}

    @property
    def gpus(self) -> int:
        """How many GPUs are held."""
        return len(self.stay) + self.homeless + shares.fewest(self.come, self.holes.values())

    def numbers(self, sizes: Sequence[int]) -> list[int]:
        """Return the GPU of each share that comes, of which these are the sizes in some order."""
        holes = self.holes
        known = list(holes)
        places = shares.places(sizes, [holes[number] for number in known])
        free = (number for number in range(len(sizes) + len(known)) if number not in holes)
        fresh = {at: next(free) for at in sorted({at for at in places if at >= len(known)})}
        return [fresh[at] if at in fresh else known[at] for at in places]


@dataclass(frozen=True, kw_only=True, eq=False)
class Devices:
    """What the shares of each node need.

    Attributes:
        column: Index of the resource that counts whole GPUs.
        sizes: [class] thousandths of a GPU that a pod asks for; 0 unless it is a share.
        numbers: [class] GPU on which running ones have their share; -1 where nobody knows.
        fixed: By node, what stays whatever is planned: thousandths by number of the GPU.
        lost: [node] GPUs that are held by what stays whatever is planned.
        running: [class, node] pods now.
        asked: [class] whether a pod asks for whole GPUs or a share.
    """

    column: int
    sizes: Counts
    numbers: Counts
    fixed: Mapping[int, Mapping[int, int]] = field(repr=False)
    lost: Counts = field(repr=False)
    running: Counts = field(repr=False)
    asked: Mask = field(repr=False)
    _classes: Counts = field(init=False, repr=False)
    _alike: Counts = field(init=False, repr=False)
    _known: dict[tuple[int, bytes], int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        classes = np.flatnonzero(self.sizes)
        object.__setattr__(self, "_classes", classes)
        # Nodes with the same shares now are alike to every question below.
        states: dict[tuple[object, ...], int] = {}
        now = np.ascontiguousarray(self.running[classes].T)
        alike = [
            states.setdefault((now[n].tobytes(), *sorted(self.fixed.get(n, {}).items())), n)
            for n in range(len(self.lost))
        ]
        object.__setattr__(self, "_alike", np.array(alike, dtype=np.int64))

    def layout(self, n: int, there: Counts) -> Layout:
        """Return the shares of node `n` when the [class] pods `there` are on it."""
        stay, homeless = dict(self.fixed.get(n, {})), 0
        come: list[int] = []
        for i in self._classes[there[self._classes] > 0].tolist():
            size, number = int(self.sizes[i]), int(self.numbers[i])
            kept = int(min(there[i], self.running[i, n]))
            come += [size] * int(there[i] - kept)
            if kept and number < 0:
                homeless += kept
            elif kept:
                stay[number] = stay.get(number, 0) + kept * size
        return Layout(stay=stay, homeless=homeless, come=tuple(come))

    def held(self, n: int, there: Counts) -> int:
        """Return the GPUs of node `n` that shares hold, besides those that are lost anyway."""
        key = (int(self._alike[n]), there[self._classes].tobytes())
        if key not in self._known:
            lost = len(self.fixed.get(n, {}))
            self._known[key] = self.layout(n, there).gpus - lost
        return self._known[key]

    def all_held(self, final: Counts) -> Counts:
        """Return the same for each node, when `final` is [class, node] pods."""
        held = np.zeros(final.shape[1], dtype=np.int64)
        for n in np.flatnonzero(final[self._classes].any(axis=0)).tolist():
            held[n] = self.held(n, final[:, n])
        return held

    def shared(self, final: Counts) -> Mask:
        """Return the nodes that have shares when `final` is [class, node] pods."""
        some: Mask = np.any(final[self._classes], axis=0, keepdims=True)[0]
        some[list(self.fixed)] = True
        return some

    def held_with(self, index: int, final: Counts, nodes: Iterable[int]) -> Counts:
        """Return what shares would hold of each of the nodes with one more of a class there."""
        found = []
        for n in nodes:
            there = final[:, n].copy()
            there[index] += 1
            found.append(self.held(n, there))
        return np.array(found, dtype=np.int64)

    def overfull(self, whole: Counts) -> Mask:
        """Return the nodes on which more runs than fits now, when `whole` GPUs are left to them."""
        over = self.all_held(self.running) > whole
        for n in np.flatnonzero(self.running[self._classes].any(axis=0)).tolist():
            over[n] |= any(hole < 0 for hole in self.layout(n, self.running[:, n]).holes.values())
        for n, loads in self.fixed.items():
            over[n] |= any(load > WHOLE_MILLI for load in loads.values())
        return over


class Sharing(NamedTuple):
    """What shares add to an instance: columns of room, and what they need of GPUs.

    Attributes:
        names: Names of the columns.
        requests: [class, column] what one pod uses.
        room: [node, column] what there is of it.
        devices: The packing.
    """

    names: tuple[str, ...]
    requests: Counts
    room: Counts
    devices: Devices


def sharing(
    nodes: Sequence[Node],
    asks: Sequence[Resources],
    running: Counts,
    fixed: Sequence[Pod],
    column: int,
) -> Sharing | None:
    """Return what shares add; None where there are none.

    Args:
        nodes: All nodes.
        asks: [class] what one pod asks for.
        running: [class, node] pods now.
        fixed: Pods with a node that a plan may not disturb.
        column: Index of the resource that counts whole GPUs.
    """
    sizes = np.array([each.share_milli for each in asks], dtype=np.int64)
    kinds = {kind for kind in set(map(attrgetter("kind"), fixed)) if kind.requests.share_milli}
    if not kinds and not sizes.any():
        return None
    staying = [pod for pod in fixed if pod.kind in kinds]
    rows = {node.name: n for n, node in enumerate(nodes)}
    whole = np.array([node.allocatable[SHARED_GPU] for node in nodes], dtype=np.int64)
    _take_whole(whole, fixed, rows)
    loads, lost = _staying(staying, rows)
    homeless = lost - np.array([len(loads.get(n, {})) for n in range(len(nodes))], dtype=np.int64)
    known = {*sizes[sizes > 0].tolist(), *(pod.requests.share_milli for pod in staying)}
    weights = _weights(sorted(known))
    gpus = np.array([each[SHARED_GPU] for each in asks], dtype=np.int64)
    requests, room = [], []
    for weigh in weights:
        unit = weigh(WHOLE_MILLI)
        requests.append(gpus * unit + np.array([weigh(s) if s else 0 for s in sizes.tolist()]))
        left = (whole - homeless) * unit
        for pod in staying:
            if pod.node is not None and pod.requests.device is not None:
                left[rows[pod.node]] -= weigh(pod.requests.share_milli)
        room.append(left)
    numbers = [-1 if each.device is None else each.device for each in asks]
    return Sharing(
        names=tuple(f"gpu column {k}" for k in range(len(weights))),
        requests=np.column_stack(requests).astype(np.int64),
        room=np.column_stack(room).astype(np.int64),
        devices=Devices(
            column=column,
            sizes=sizes,
            numbers=np.array(numbers, dtype=np.int64),
            fixed={n: dict(each) for n, each in loads.items() if each},
            lost=lost,
            running=running,
            asked=(gpus > 0) | (sizes > 0),
        ),
    )


def _staying(
    pods: Iterable[Pod], rows: Mapping[NodeName, int]
) -> tuple[Mapping[int, dict[int, int]], Counts]:
    """Return what shares that stay have of the GPUs of each node, and [node] GPUs that they hold.

    One whose GPU nobody knows holds one that is nobody else's.
    """
    loads: dict[int, dict[int, int]] = defaultdict(dict)
    lost = np.zeros(len(rows), dtype=np.int64)
    for pod in pods:
        assert pod.node is not None  # noqa: S101 - fixed pods have one
        n, number = rows[pod.node], pod.requests.device
        lost[n] += number is None or number not in loads[n]
        if number is not None:
            loads[n][number] = loads[n].get(number, 0) + pod.requests.share_milli
    return loads, lost


def _take_whole(whole: Counts, fixed: Iterable[Pod], rows: Mapping[NodeName, int]) -> None:
    for pod in fixed:
        if pod.node is not None:
            whole[rows[pod.node]] -= pod.requests[SHARED_GPU]


Weigh = Callable[[int], int]


def _weights(sizes: Sequence[int]) -> list[Weigh]:
    """Return weights of which one GPU never holds more than that of a whole one, all different.

    The plain size comes first, so that who asks for more never weighs less in all of them.
    """
    limits = [size for size in sizes if 2 * size <= WHOLE_MILLI][:_MOST_LIMITS]
    some: list[Weigh] = [_plain]
    some += [partial(_cut, parts=parts) for parts in _CUTS]
    some += [partial(_limited, least=least) for least in limits]
    different: dict[tuple[int, ...], Weigh] = {}
    for weigh in some:
        unit = weigh(WHOLE_MILLI)
        row = tuple(WHOLE_MILLI * WHOLE_MILLI * weigh(size) // unit for size in sizes)
        different.setdefault(row, weigh)
    return list(different.values())


def _plain(size: int) -> int:
    return size


def _cut(size: int, *, parts: int) -> int:
    """Return the weight with a GPU cut into `parts` + 1: only what fills the cuts exactly is exact.

    Fekete and Schepers' u^(k), times k.
    """
    if size * (parts + 1) % WHOLE_MILLI == 0:
        return size * parts
    return size * (parts + 1) // WHOLE_MILLI * WHOLE_MILLI


def _limited(size: int, *, least: int) -> int:
    """Return the weight when what is below `least` does not count: then nothing fits beside much.

    Fekete and Schepers' U^(epsilon).
    """
    if size > WHOLE_MILLI - least:
        return WHOLE_MILLI
    return 0 if size < least else size
