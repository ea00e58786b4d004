"""The placement that is always there: best fit, tier by tier, nobody moved or evicted.

`refill` puts room to use that an exact stage left empty, because no stage so far asked for it.

Each class is placed with whole-column arithmetic, so 8,000 pods on 1,200 nodes take a fraction of
a second. Three orders are tried (large pods first packs better, small pods first places more) and
the best one by the goals is returned.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bayplan.policy import Order, Policy
from bayplan.snapshot import GangKey
from bayplan.solver import goals
from bayplan.solver.assignment import Assignment, moves, present
from bayplan.solver.instance import Counts, Instance


def fill(instance: Instance, order: Order) -> Assignment:
    """Return the best of three greedy placements; deterministic."""
    stages = goals.in_order(instance, order)
    candidates = [_fill(instance, key) for key in (_large_first, _small_first, _gpus_first)]
    return max(candidates, key=lambda each: goals.values(instance, stages, each))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """Pods that are placed in one go: a gang, or one pod of a class.

    `count` such units wait; `weight` is the share of the cluster that one pod takes.
    """

    need: tuple[tuple[int, int], ...]
    count: int
    kind: int | None
    tier: int
    weight: float
    gpus: float


def _large_first(unit: _Unit) -> tuple[float, ...]:
    return (-unit.tier, unit.kind is None, -unit.weight)


def _small_first(unit: _Unit) -> tuple[float, ...]:
    return (-unit.tier, unit.weight)


def _gpus_first(unit: _Unit) -> tuple[float, ...]:
    """Small pods first, but those without a GPU last: they fit beside GPUs, not the reverse."""
    return (-unit.tier, not unit.gpus, unit.gpus, -unit.weight)


_Order = Callable[[_Unit], tuple[float, ...]]


@dataclass(slots=True)
class _Fill:
    """Room and placement while they are being filled."""

    instance: Instance
    free: Counts
    final: Counts
    scale: NDArray[np.float64] = field(repr=False)
    done: list[tuple[int, int, int]] = field(default_factory=list)

    def place(self, index: int, count: int) -> int:
        """Place up to `count` pods of a class where the least is left over; return how many."""
        asks = self.instance.requests[index]
        uses = asks > 0
        fits = self.instance.arrivals[index] & np.all(self.free[:, uses] >= asks[uses], axis=1)
        waste = np.where(fits, (self.free - asks) @ self.scale, np.inf)
        left = count
        # A node that was the tightest stays it until it is full, so it is filled at once.
        for n in np.argsort(waste, kind="stable")[: int(fits.sum())]:
            if not left:
                break
            copies = min(left, int((self.free[n, uses] // asks[uses]).min(initial=left)))
            self._put(index, int(n), copies)
            self.done.append((index, int(n), copies))
            left -= copies
        return count - left

    def put_back(self, index: int, missing: int) -> int:
        """Let up to `missing` evicted pods of a class stay where they run; return how many."""
        asks, left = self.instance.requests[index], missing
        uses = asks > 0
        for n in np.flatnonzero(self.instance.running[index] > self.final[index]):
            fit = int((self.free[n, uses] // asks[uses]).min(initial=left))
            gone = int(self.instance.running[index, n] - self.final[index, n])
            copies = min(left, fit, gone)
            self._put(index, int(n), copies)
            left -= copies
        return missing - left

    def undo(self, length: int) -> None:
        """Take back everything after the first `length` steps."""
        while len(self.done) > length:
            index, n, copies = self.done.pop()
            self._put(index, n, -copies)

    def _put(self, index: int, n: int, copies: int) -> None:
        self.free[n] -= self.instance.requests[index] * copies
        self.final[index, n] += copies


def refill(instance: Instance, policy: Policy, start: Assignment) -> Assignment:
    """Return `start` with evicted pods back and waiting pods placed where there is room for them.

    Evicted pods come first, whatever their tier: nobody new takes room that would spare one.
    """
    state = _state(instance, start.final)
    survivors, moves_left = start.survivors.copy(), policy.max_moves - moves(instance, start)
    alone = [i for i, each in enumerate(instance.classes) if each.running and not each.gang]
    for i in alone:
        survivors[i] += state.put_back(i, len(instance.classes[i].running) - int(survivors[i]))
    for i in alone:
        missing = len(instance.classes[i].running) - int(survivors[i])
        back = state.place(i, min(missing, moves_left))
        survivors[i] += back
        moves_left -= back
    dead = {g.key for g in instance.gangs if not survivors[g.classes[0]]}
    before = Assignment(final=state.final.copy(), survivors=survivors, units=start.units)
    units = _place_units(state, before, dead, _large_first)
    return Assignment(final=state.final, survivors=survivors, units=units)


def _fill(instance: Instance, key: _Order) -> Assignment:
    start = present(instance)
    state = _state(instance, start.final)
    units = _place_units(state, start, set(), key)
    return Assignment(final=state.final, survivors=start.survivors, units=units)


def _state(instance: Instance, final: Counts) -> _Fill:
    free = np.maximum(instance.capacity - final.T @ instance.requests, 0)
    return _Fill(instance=instance, free=free, final=final.copy(), scale=scale_of(instance))


def _place_units(state: _Fill, start: Assignment, dead: set[GangKey], key: _Order) -> Counts:
    """Place what waits, in the order of `key`; return the gangs placed by kind.

    Nobody joins a `dead` gang: one whose running pods are evicted.
    """
    placed = start.units.copy()
    for unit in sorted(_units(state.instance, start, dead), key=key):
        if unit.kind is None:
            state.place(unit.need[0][0], unit.count)
        else:
            placed[unit.kind] += _place_gangs(state, unit)
    return placed


def _place_gangs(state: _Fill, unit: _Unit) -> int:
    """Place whole gangs until one does not fit; return how many were placed."""
    for whole in range(unit.count):
        before = len(state.done)
        if not all(state.place(index, count) == count for index, count in unit.need):
            state.undo(before)
            return whole
    return unit.count


def scale_of(instance: Instance) -> NDArray[np.float64]:
    """Return weights that make a left-over GPU worse than any amount of anything else."""
    largest = np.maximum(instance.capacity.max(axis=0, initial=1), 1)
    scale = 1.0 / (largest * (len(instance.resources) + 1))
    scale[goals.gpu_columns(instance)] = 1.0
    return np.asarray(scale, dtype=np.float64)


def _units(instance: Instance, start: Assignment, dead: set[GangKey]) -> list[_Unit]:
    """Return what still waits in `start`, except for what belongs to a dead gang."""
    total = np.maximum(instance.capacity.sum(axis=0, initial=0), 1)
    weights = (instance.requests / total).max(axis=1, initial=0.0)
    gpus = instance.requests[:, goals.gpu_columns(instance)].sum(axis=1)
    placed = start.placed
    singles = [
        _Unit(
            need=((i, 1),),
            count=len(each.waiting) - int(placed[i]),
            kind=None,
            tier=each.place.tier,
            weight=float(weights[i]),
            gpus=float(gpus[i]),
        )
        for i, each in enumerate(instance.classes)
        if each.place is not None and each.kind is None and each.gang not in dead
    ]
    gangs = [
        _Unit(
            need=tuple(sorted(kind.need, key=lambda item: (-weights[item[0]], item[0]))),
            count=len(kind.gangs) - int(start.units[k]),
            kind=k,
            tier=kind.place.tier,
            weight=float(sum(weights[i] * n for i, n in kind.need) / sum(n for _, n in kind.need)),
            gpus=float(sum(gpus[i] * n for i, n in kind.need) / sum(n for _, n in kind.need)),
        )
        for k, kind in enumerate(instance.kinds)
        if kind.running not in dead
    ]
    return singles + gangs
