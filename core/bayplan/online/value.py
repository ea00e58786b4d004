"""What free room is worth: the copies of each kind that it could still take, at falling prices.

FGD (Weng et al., ATC 2023) counts a device as useful to a kind when one copy fits. Counting whole
copies sees CPU and memory running out beside free GPUs, and devices that hold one copy but not two.
The n-th copy on a node is worth less than the one before: room that is useful to many kinds is kept
in preference to room for many copies of one.

Limits are worked out once per distinct request and spread over the kinds, so that a row of room
costs one short row of numbers. Prices are whole numbers: sums are exact in any order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bayplan.cluster.units import WHOLE_MILLI
from bayplan.online.kinds import Catalogue, Kind

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Copies on one node beyond this many are worth nothing more; stands for "no limit", too.
_PLENTY: Final = 4096

#: What `n` copies on one node are worth is n to this power; tuned with the prices.
_DIMINISHING: Final = 0.65

#: Worth of [copies], in whole thousandths of the first.
_WORTH_OF_COPIES: Final = np.rint(1000 * np.arange(_PLENTY + 1) ** _DIMINISHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Free room of nodes, or of nodes as they would be; row by row.

    Attributes:
        cpu_milli: [row] free CPU in millicores; negative on an overcommitted node.
        memory_mib: [row] free memory in MiB; negative on an overcommitted node.
        tally: [row, column] `Worth.table` summed over the devices of the node.
        models: [row] index of the GPU model.
    """

    cpu_milli: Ints
    memory_mib: Ints
    tally: Floats
    models: Ints


class Worth(Protocol):
    """A way to put a value on room; placing a pod costs what the value falls by.

    Attributes:
        table: [free thousandths of a device, column] what one device adds to the tally of its node.
    """

    @property
    def table(self) -> Floats:
        """Return the table above."""

    def of(self, rooms: Rooms) -> Floats:
        """Return the value of each row."""

    def loss(self, before: Floats, after: Floats) -> Floats:
        """Return how bad it is that the value `before` becomes `after`; smaller is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """The value of room as the priced copies of the kinds of a catalogue that it takes.

    Attributes:
        table: [free thousandths, column] copies of each share, and last whether it is whole.
        cpu: Distinct CPU requests, ascending.
        memory: Distinct memory requests, ascending.
        wholes: Distinct numbers of whole GPUs, ascending.
        columns: [3, request] where a request finds its limit by CPU, memory and devices.
        prices: [model, request] value of one copy; 0 where the model will not do.
    """

    table: Floats = field(repr=False)
    cpu: Floats
    memory: Floats
    wholes: Floats
    columns: Ints = field(repr=False)
    prices: Floats = field(repr=False)

    @classmethod
    def of_catalogue(cls, catalogue: Catalogue, models: Sequence[str]) -> Self:
        """Return `catalogue` made ready for nodes with the GPU models `models`."""
        priced = sorted(zip(catalogue.kinds, catalogue.prices, strict=True), key=_request)
        groups = [list(group) for _, group in groupby(priced, key=_request)]
        requests = [group[0][0] for group in groups]
        shares = sorted({kind.gpu_milli for kind in requests if kind.is_share})
        wholes = sorted({kind.gpus for kind in requests if not kind.is_share})
        cpu, memory = (
            sorted({get(kind) for kind in requests})
            for get in (attrgetter("cpu_milli"), attrgetter("memory_mib"))
        )
        columns = [
            (
                cpu.index(kind.cpu_milli),
                memory.index(kind.memory_mib),
                shares.index(kind.gpu_milli)
                if kind.is_share
                else len(shares) + wholes.index(kind.gpus),
            )
            for kind in requests
        ]
        prices = [
            [sum(price for kind, price in group if accepts(kind, model)) for group in groups]
            for model in models
        ]
        return cls(
            table=_device_table(shares),
            cpu=np.array(cpu, dtype=np.float64),
            memory=np.array(memory, dtype=np.float64),
            wholes=np.array(wholes, dtype=np.float64),
            columns=np.array(columns, dtype=np.int64).reshape(len(requests), 3).T,
            prices=np.array(prices, dtype=np.float64).reshape(len(models), len(requests)),
        )

    def of(self, rooms: Rooms) -> Floats:
        """Return the value of each row, in O(rows x requests)."""
        whole = np.floor(rooms.tally[:, -1:] / self.wholes)
        worth = (
            _worth(_fitting(rooms.cpu_milli, self.cpu)),
            _worth(_fitting(rooms.memory_mib, self.memory)),
            _worth(np.concatenate([rooms.tally[:, :-1], whole], axis=1)),
        )
        by_cpu, by_memory, by_device = (
            limit.take(column, axis=1) for limit, column in zip(worth, self.columns, strict=True)
        )
        np.minimum(by_cpu, by_memory, out=by_cpu)
        np.minimum(by_cpu, by_device, out=by_cpu)
        value: Floats = np.einsum("rk,rk->r", by_cpu, self.prices[rooms.models])
        return value

    def loss(self, before: Floats, after: Floats) -> Floats:
        """Return the value that is lost."""
        return before - after


def accepts(kind: Kind, model: str) -> bool:
    """Return whether a GPU of `model` will do for `kind`."""
    return not kind.gpus or not kind.models or model in kind.models


def _request(priced: tuple[Kind, float]) -> tuple[int, ...]:
    """Return what a kind asks for, without the models."""
    kind = priced[0]
    return (kind.cpu_milli, kind.memory_mib, kind.gpus, kind.gpu_milli)


def _device_table(shares: Iterable[int]) -> Floats:
    free = np.arange(WHOLE_MILLI + 1, dtype=np.int64)
    columns = [free // share for share in shares] + [free // WHOLE_MILLI]
    return np.stack(columns, axis=1).astype(np.float64)


def _worth(copies: Floats) -> Floats:
    """Return what so many copies are worth; more for more, so the least limit stays the least."""
    worth: Floats = _WORTH_OF_COPIES[np.minimum(copies, _PLENTY).astype(np.int64)]
    return worth


def _fitting(free: Ints, requests: Floats) -> Floats:
    """Return how often each request fits into each row: [row, request]; never negative."""
    asked = np.where(requests > 0, requests, 1.0)
    fitting = np.floor(np.maximum(free, 0)[:, None] / asked)
    fitting[:, requests == 0] = _PLENTY
    return fitting
