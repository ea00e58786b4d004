"""Where a pod that arrives alone does the least harm: a score per node, and the devices to use.

A `Scorer` follows a fleet: pods are taken in and let go, and a question about a kind works out anew
only the nodes that have changed since the last question about that kind. An arrival costs O(nodes)
for the choice and a few dozen numbers for each changed node.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NewType

import numpy as np
from numpy.typing import NDArray

from bayplan.cluster.units import WHOLE_MILLI
from bayplan.online.kinds import Kind
from bayplan.online.value import Floats, Ints, Rooms, Worth, accepts

#: Kinds whose scores are remembered; beyond it the one that was asked about first is forgotten.
_MOST_KNOWN: Final = 256

#: Position of a node among the nodes that the scorer was given.
Row = NewType("Row", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoom:
    """What is free on a node.

    Attributes:
        name: Ties go to the lexically first.
        cpu_milli: Free CPU in millicores; negative if overcommitted.
        memory_mib: Free memory in MiB; negative if overcommitted.
        devices: Free thousandths of each GPU, 0 to 1000.
        model: GPU model; "" on a node without GPUs.
    """

    name: str
    cpu_milli: int
    memory_mib: int
    devices: tuple[int, ...] = ()
    model: str = ""

    def __post_init__(self) -> None:
        if any(not 0 <= free <= WHOLE_MILLI for free in self.devices):
            raise ValueError(f"node {self.name}: a device has between 0 and {WHOLE_MILLI} free")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What placing one pod costs on each node.

    Attributes:
        loss: [node] value that is lost; infinite where the pod does not fit.
        device: [node] the device for a share; -1 where it does not fit or is not a share.
    """

    loss: Floats = field(repr=False)
    device: Ints = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place for a pod: the row of the node, and the devices it takes there."""

    row: Row
    devices: tuple[int, ...]


@dataclass(slots=True)
class _Known:
    """The scores of a kind, and the version of the fleet they are of."""

    loss: Floats
    device: Ints
    version: int = -1


class Scorer:
    """Scores a fleet that changes pod by pod.

    Attributes:
        names: Names of the nodes, ascending; rows refer to them.
    """

    def __init__(self, nodes: Sequence[NodeRoom], worth: Worth, models: Sequence[str]) -> None:
        """Start from what is free on `nodes`; `models` is the order of the models in `worth`."""
        ordered = sorted(nodes, key=lambda node: node.name)
        width = max([1, *(len(node.devices) for node in ordered)])
        padded = [node.devices + (0,) * (width - len(node.devices)) for node in ordered]
        self.names = tuple(node.name for node in ordered)
        self._worth = worth
        self._models = tuple(models)
        self._cpu = np.array([node.cpu_milli for node in ordered], dtype=np.int64)
        self._memory = np.array([node.memory_mib for node in ordered], dtype=np.int64)
        self._devices = np.array(padded, dtype=np.int64).reshape(len(ordered), width)
        self._model = np.array([models.index(node.model) for node in ordered], dtype=np.int64)
        self._tally = worth.table[self._devices].sum(axis=1)
        self._whole = (self._devices == WHOLE_MILLI).sum(axis=1)
        self._first = _first_of_level(self._devices)
        self._value = worth.of(self._rooms(np.arange(len(ordered))))
        self._version = 0
        self._changed = np.zeros(len(ordered), dtype=np.int64)
        self._known: dict[Kind, _Known] = {}

    @property
    def cpu_milli(self) -> Ints:
        """Return the free CPU: [node], read-only."""
        return _read_only(self._cpu)

    @property
    def memory_mib(self) -> Ints:
        """Return the free memory: [node], read-only."""
        return _read_only(self._memory)

    @property
    def devices(self) -> Ints:
        """Return the free thousandths: [node, device], padded with 0, read-only."""
        return _read_only(self._devices)

    def welcome(self, kind: Kind) -> NDArray[np.bool_]:
        """Return which nodes have a GPU model that will do for `kind`."""
        return np.array([accepts(kind, model) for model in self._models])[self._model]

    def score(self, kind: Kind) -> Scores:
        """Return what placing a pod of `kind` costs on each node; reuses what has not changed."""
        known = self._known.get(kind)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                del self._known[next(iter(self._known))]
            size = len(self.names)
            known = _Known(np.full(size, np.inf), np.full(size, -1, dtype=np.int64))
            self._known[kind] = known
        if known.version < self._version:
            more = len(self.names) - len(known.loss)  # rows that were added since
            known.loss = np.pad(known.loss, (0, more), constant_values=np.inf)
            known.device = np.pad(known.device, (0, more), constant_values=-1)
            stale = np.flatnonzero(self._changed > known.version)
            if len(stale):
                known.loss[stale], known.device[stale] = self._costs(kind, stale)
            known.version = self._version
        return Scores(loss=known.loss, device=known.device)

    def choose(self, kind: Kind) -> Spot | None:
        """Return where a pod of `kind` does the least harm; None where it fits nowhere."""
        scores = self.score(kind)
        if not len(scores.loss):
            return None
        row = Row(int(scores.loss.argmin()))
        return self.spot(kind, row, scores) if np.isfinite(scores.loss[row]) else None

    def spot(self, kind: Kind, row: Row, scores: Scores) -> Spot:
        """Return the devices that a pod of `kind` takes on a node where it fits."""
        if kind.is_share:
            return Spot(row=row, devices=(int(scores.device[row]),))
        whole = np.flatnonzero(self._devices[row] == WHOLE_MILLI)[: kind.gpus]
        return Spot(row=row, devices=tuple(int(device) for device in whole))

    def take(self, kind: Kind, spot: Spot) -> None:
        """Put a pod of `kind` there; it must fit."""
        self._change(kind, spot, -1)

    def give(self, kind: Kind, spot: Spot) -> None:
        """Let a pod of `kind` go that was put there."""
        self._change(kind, spot, +1)

    def takes(self, node: NodeRoom) -> bool:
        """Return whether a node is of a known model and has no more devices than the widest."""
        return node.model in self._models and len(node.devices) <= self._devices.shape[1]

    def add(self, node: NodeRoom) -> Row:
        """Take in one more node, which it `takes`, and whose name comes after all others."""
        devices = np.zeros((1, self._devices.shape[1]), dtype=np.int64)
        devices[0, : len(node.devices)] = node.devices
        self.names = (*self.names, node.name)
        self._cpu = np.append(self._cpu, node.cpu_milli)
        self._memory = np.append(self._memory, node.memory_mib)
        self._model = np.append(self._model, self._models.index(node.model))
        self._devices = np.concatenate([self._devices, devices])
        self._tally = np.concatenate([self._tally, self._worth.table[devices].sum(axis=1)])
        self._whole = np.append(self._whole, 0)
        self._first = np.concatenate([self._first, _first_of_level(devices)])
        self._value = np.append(self._value, 0.0)
        self._changed = np.append(self._changed, 0)
        row = Row(len(self.names) - 1)
        self._weigh(row)
        return row

    def _change(self, kind: Kind, spot: Spot, sign: int) -> None:
        row, devices = spot.row, list(spot.devices)
        free = self._devices[row].copy()
        free[devices] += sign * kind.gpu_milli
        cpu = self._cpu[row] + sign * kind.cpu_milli
        memory = self._memory[row] + sign * kind.memory_mib
        if free.size and not 0 <= free.min() <= free.max() <= WHOLE_MILLI:
            raise ValueError(f"node {self.names[row]}: {kind} does not fit on devices {devices}")
        self._devices[row], self._cpu[row], self._memory[row] = free, cpu, memory
        self._weigh(row)

    def _weigh(self, row: Row) -> None:
        """Work out anew what follows from the free room of a node."""
        free = self._devices[row]
        self._tally[row] = self._worth.table[free].sum(axis=0)
        self._whole[row] = (free == WHOLE_MILLI).sum()
        self._first[row] = _first_of_level(free[None])[0]
        self._value[row] = self._worth.of(self._rooms(np.array([row])))[0]
        self._version += 1
        self._changed[row] = self._version

    def _rooms(self, rows: Ints) -> Rooms:
        return Rooms(
            cpu_milli=self._cpu[rows],
            memory_mib=self._memory[rows],
            tally=self._tally[rows],
            models=self._model[rows],
        )

    def _costs(self, kind: Kind, rows: Ints) -> tuple[Floats, Ints]:
        """Return loss and device of a pod of `kind` on each of `rows`."""
        loss = np.full(len(rows), np.inf)
        device = np.full(len(rows), -1, dtype=np.int64)
        fits = self._fits(kind, rows)
        if kind.is_share:
            levels = self._devices[rows[fits]]
            able = self._first[rows[fits]] & (levels >= kind.gpu_milli)
            at, on = np.nonzero(able)
            each = np.full(able.shape, np.inf)
            each[at, on] = self._loss_on(kind, rows[fits][at], on)
            if each.size:
                device[fits] = np.where(able.any(axis=1), each.argmin(axis=1), -1)
                loss[fits] = each.min(axis=1)
        else:
            fits[fits] = self._whole[rows[fits]] >= kind.gpus
            loss[fits] = self._loss_of_wholes(kind, rows[fits])
        return loss, device

    def _fits(self, kind: Kind, rows: Ints) -> NDArray[np.bool_]:
        """Return on which of `rows` CPU, memory and model will do."""
        enough = (self._cpu[rows] >= kind.cpu_milli) & (self._memory[rows] >= kind.memory_mib)
        return enough & self.welcome(kind)[rows]

    def _loss_on(self, kind: Kind, rows: Ints, devices: Ints) -> Floats:
        """Return the loss of a share on one device each of `rows`."""
        free = self._devices[rows, devices]
        table = self._worth.table
        return self._loss(kind, rows, table[free - kind.gpu_milli] - table[free])

    def _loss_of_wholes(self, kind: Kind, rows: Ints) -> Floats:
        table = self._worth.table
        return self._loss(kind, rows, kind.gpus * (table[0] - table[WHOLE_MILLI]))

    def _loss(self, kind: Kind, rows: Ints, tally: Floats) -> Floats:
        """Return the loss when a pod of `kind` comes to `rows` and their tally changes so."""
        after = Rooms(
            cpu_milli=self._cpu[rows] - kind.cpu_milli,
            memory_mib=self._memory[rows] - kind.memory_mib,
            tally=self._tally[rows] + tally,
            models=self._model[rows],
        )
        return self._worth.loss(self._value[rows], self._worth.of(after))


def _read_only(array: Ints) -> Ints:
    view = array.view()
    view.flags.writeable = False
    return view


def _first_of_level(free: Ints) -> NDArray[np.bool_]:
    """Return which devices [node, device] are the first of their node with as much free.

    The others would score the same.
    """
    first = np.ones(free.shape, dtype=np.bool_)
    for device in range(1, free.shape[1]):
        first[:, device] = (free[:, :device] != free[:, device, None]).all(axis=1)
    return first
