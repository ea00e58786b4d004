"""The placement that is always there: best fit, tier by tier, nobody moved or evicted.

`refill` puts room to use that an exact stage left empty, because no stage so far asked for it.

Each class is placed with whole-column arithmetic, so 8,000 pods on 1,200 nodes take a fraction of
a second. Three orders are tried (large pods first packs better, small pods first places more) and
the best one by the goals is returned.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayplan.cluster.keys import GangKey
from bayplan.policy import Order, Policy
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment, moves, present
from bayplan.solver.problem.devices import Devices
from bayplan.solver.problem.domains import Beside
from bayplan.solver.problem.instance import Counts, Instance, Mask, PlaceGroup

#: Nodes looked at for gangs that come one by one, at most: a fraction of a second.
_MOST_LOOKS: Final = 1_000_000


def fill(
    instance: Instance, order: Order, *, ended: Callable[[], bool] = lambda: False
) -> Assignment:
    """Return the best of three greedy placements, or of those made before time has `ended`.

    The first one is made in any case, for without it there is no answer.
    """
    stages = goals.in_order(instance, order)
    tastes = (False,) if instance.wishes is None else (False, True)
    found: list[Assignment] = []
    for choosy, key in product(tastes, (_large_first, _small_first, _gpus_first)):
        if found and ended():
            break
        found.append(_fill(instance, key, choosy=choosy))
    return max(found, key=lambda each: goals.values(instance, stages, each))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """Pods that are placed in one go: a gang, or one pod of a class.

    `count` such units wait; `weight` is the share of the cluster that one pod takes.
    """

    need: tuple[tuple[int, int], ...]
    count: int
    kind: int | None
    place: PlaceGroup
    weight: float
    gpus: float

    @property
    def turn(self) -> tuple[int, bool]:
        """Sort the highest tier first, and in it who is needed."""
        return (-self.place.tier, not self.place.needed)


def _large_first(unit: _Unit) -> tuple[float, ...]:
    return (*unit.turn, unit.kind is None, -unit.weight)


def _small_first(unit: _Unit) -> tuple[float, ...]:
    return (*unit.turn, unit.weight)


def _gpus_first(unit: _Unit) -> tuple[float, ...]:
    """Small pods first, but those without a GPU last: they fit beside GPUs, not the reverse."""
    return (*unit.turn, not unit.gpus, unit.gpus, -unit.weight)


#: More pods than a node ever has.
_ANY: Final = 2**20

_Order = Callable[[_Unit], tuple[float, ...]]


@dataclass(slots=True)
class _Fill:
    """Room and placement while they are being filled; `choosy`: preferred nodes come first.

    `held` are the GPUs that shares hold on each node; `free` is without them.
    """

    instance: Instance
    free: Counts
    final: Counts
    held: Counts
    scale: NDArray[np.float64] = field(repr=False)
    choosy: bool = False
    done: list[tuple[int, Counts, Counts]] = field(default_factory=list)

    def place(self, index: int, count: int, within: Mask | None = None) -> int:
        """Place up to `count` pods of a class where the least is left over; return how many.

        Only on nodes in `within`, if given.
        """
        done = 0
        while done < count:
            open_to = self._open_to(index)
            if open_to is None:
                return done + self._put_down(index, count - done, within)
            if not self._put_down(index, 1, open_to if within is None else open_to & within):
                break
            done += 1
        return done

    def _open_to(self, index: int) -> Mask | None:
        """Return [node] where rules between pods let one more of the class come; None: anywhere."""
        told = (
            rule.allowed(index, self.final, self.instance.running) for rule in self.instance.rules
        )
        masks = [mask for mask in told if mask is not None]
        return np.all(masks, axis=0) if masks else None

    def _put_down(self, index: int, count: int, within: Mask | None) -> int:
        devices = self.instance.devices
        if devices is None or not devices.sizes[index]:
            return self._place(index, count, self._fits(index, within))
        # Shares fill GPUs that are shared already before they take another one.
        done = self._share(devices, index, count, within, opening=False)
        return done + self._share(devices, index, count - done, within, opening=True)

    def _share(
        self, devices: Devices, index: int, count: int, within: Mask | None, *, opening: bool
    ) -> int:
        """Place up to `count` shares one by one; unless `opening`, take no further whole GPU."""
        left, asks = count, self.instance.requests[index]
        fits = self._fits(index, within)
        fits &= self.free[:, devices.column] > 0 if opening else devices.shared(self.final)
        for n in self._tightest_first(index, fits).tolist():
            if not left:
                break
            most = min(left, int((self.free[n] // np.maximum(asks, 1))[asks > 0].min()))
            spare = int(self.free[n, devices.column]) if opening else 0
            copies = self._packed(index, n, most, spare)
            if copies:
                self._come(index, np.array([n]), np.array([copies]))
                left -= copies
        return count - left

    def _fits(self, index: int, within: Mask | None) -> Mask:
        """Return the nodes, of those `within`, with room for one more pod of a class."""
        asks = self.instance.requests[index]
        uses = asks > 0
        fits = self.instance.arrivals[index] & np.all(self.free[:, uses] >= asks[uses], axis=1)
        return np.asarray(fits if within is None else fits & within, dtype=np.bool_)

    def _tightest_first(self, index: int, fits: Mask, most: int = _ANY) -> Counts:
        """Return `most` of the nodes `fits` or more, first those where the least is left over."""
        rows = np.flatnonzero(fits)
        waste = (self.free[rows] - self.instance.requests[index]) @ self.scale
        if self.choosy and self.instance.wishes is not None:
            order = np.lexsort((waste, -self.instance.wishes[index, rows]))
        else:
            if most < len(rows):
                # Few are asked for: the others need not be sorted.
                near = waste <= np.partition(waste, most - 1)[most - 1]
                rows, waste = rows[near], waste[near]
            order = np.argsort(waste, kind="stable")
        return rows[order]

    def _place(self, index: int, count: int, fits: Mask) -> int:
        asks = self.instance.requests[index]
        uses = asks > 0
        # A node that was the tightest stays it until it is full, so it is filled at once.
        nodes = self._tightest_first(index, fits, most=max(1, count))
        fit = (self.free[nodes][:, uses] // asks[uses]).min(axis=1, initial=count)
        copies = np.clip(count - (np.cumsum(fit) - fit), 0, fit)
        come = copies > 0
        self._come(index, nodes[come], copies[come])
        return int(copies.sum())

    def copies(self, index: int) -> Counts:
        """Return [node] how many pods of a class have room."""
        asks = self.instance.requests[index]
        uses = asks > 0
        fit = (self.free[:, uses] // asks[uses]).min(axis=1, initial=_ANY)
        return np.where(self.instance.arrivals[index], fit, 0)

    def put_back(self, index: int, missing: int) -> int:
        """Let up to `missing` evicted pods of a class stay where they run; return how many."""
        asks, left = self.instance.requests[index], missing
        uses, devices = asks > 0, self.instance.devices
        for n in np.flatnonzero(self.instance.running[index] > self.final[index]):
            open_to = self._open_to(index)
            # Under a rule one on each node is enough to try: a later stage brings back the others.
            most = left if open_to is None else min(left, int(open_to[n]))
            fit = int((self.free[n, uses] // asks[uses]).min(initial=most))
            gone = int(self.instance.running[index, n] - self.final[index, n])
            spare = 0 if devices is None else int(self.free[n, devices.column])
            copies = self._packed(index, int(n), min(most, fit, gone), spare)
            self._put(index, np.array([n]), np.array([copies]))
            left -= copies
        return missing - left

    def _packed(self, index: int, n: int, most: int, spare: int) -> int:
        """Return how many pods of a class a node takes, at most `most`.

        Shares may break no more than `spare` whole GPUs of it.
        """
        devices = self.instance.devices
        if devices is None or not devices.sizes[index]:
            return most
        there = self.final[:, n].copy()
        for copies in range(most):
            there[index] += 1
            if devices.held(n, there) - int(self.held[n]) > spare:
                return copies
        return most

    def undo(self, length: int) -> None:
        """Take back everything after the first `length` steps."""
        while len(self.done) > length:
            index, nodes, copies = self.done.pop()
            self._put(index, nodes, -copies)

    def _come(self, index: int, nodes: Counts, copies: Counts) -> None:
        """Put pods of a class on different nodes, as one step that can be undone."""
        self._put(index, nodes, copies)
        self.done.append((index, nodes, copies))

    def _put(self, index: int, nodes: Counts, copies: Counts) -> None:
        self.free[nodes] -= copies[:, None] * self.instance.requests[index]
        self.final[index, nodes] += copies
        devices = self.instance.devices
        if devices is not None and devices.sizes[index]:
            for n in nodes.tolist():
                held = devices.held(n, self.final[:, n])
                self.free[n, devices.column] -= held - self.held[n]
                self.held[n] = held


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


def _fill(instance: Instance, key: _Order, *, choosy: bool) -> Assignment:
    start = present(instance)
    state = _state(instance, start.final)
    state.choosy = choosy
    units = _place_units(state, start, set(), key)
    return Assignment(final=state.final, survivors=start.survivors, units=units)


def _state(instance: Instance, final: Counts) -> _Fill:
    free, held = instance.spare(final)
    return _Fill(
        instance=instance,
        free=np.maximum(free, 0),
        final=final.copy(),
        held=held,
        scale=scale_of(instance),
    )


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
    """Place as many of the gangs as fit; return how many."""
    looks = unit.count * len(state.instance.nodes)
    if looks > _MOST_LOOKS and not state.instance.spans_nodes:
        return _place_crowd(state, unit)
    for whole in range(unit.count):
        if not any(_placed(state, unit, 1, within) for within in _homes(state, unit)):
            return whole
    return unit.count


def _place_crowd(state: _Fill, unit: _Unit) -> int:
    """Place as many gangs as fit, many at a time: all pods of a class, then all of the next.

    No rule keeps the pods of a gang together here, but one node for all of them is worth having
    where it costs nothing, so this is for numbers only that would take seconds one by one.
    """
    room = (int(state.copies(index).sum()) // count for index, count in unit.need)
    most = step = min(unit.count, *room)
    placed = 0
    while step:
        if _placed(state, unit, step, None):
            placed += step
            step = min(step, most - placed)
        else:
            step //= 2
    return placed


def _placed(state: _Fill, unit: _Unit, gangs: int, within: Mask | None) -> bool:
    """Place so many whole gangs on nodes in `within`, or nothing; return whether it was done."""
    before = len(state.done)
    for index, count in unit.need:
        if state.place(index, gangs * count, within) < gangs * count:
            state.undo(before)
            return False
    return True


def _homes(state: _Fill, unit: _Unit) -> Iterator[Mask | None]:
    """Yield where to try a gang: domains that it prefers, then those it must be in, or anywhere.

    Of domains of one label the tightest come first.
    """
    assert unit.kind is not None  # noqa: S101 - a gang has a kind
    kind = state.instance.kinds[unit.kind]
    levels = kind.preferred if kind.required is None else (*kind.preferred, kind.required)
    for over in levels:
        roomy = np.ones(over.count, dtype=np.bool_)
        for index, count in unit.need:
            roomy &= over.sums(state.copies(index)) >= count
        gpus = state.free[:, goals.gpu_columns(state.instance)].sum(axis=1)
        tightness = over.sums(gpus)
        for d in sorted(np.flatnonzero(roomy).tolist(), key=lambda d: (tightness[d], d)):
            yield over.of_node == d
    if kind.required is None:
        yield None


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
    beside = [rule.carriers for rule in instance.rules if isinstance(rule, Beside)]
    # Who must be beside others comes after them.
    company = np.any(beside, axis=0) if beside else np.zeros(len(weights), dtype=np.bool_)
    singles = [
        _Unit(
            need=((i, 1),),
            count=len(each.waiting) - int(placed[i]),
            kind=None,
            place=each.place,
            weight=float(weights[i]),
            gpus=float(gpus[i]),
        )
        for i, each in enumerate(instance.classes)
        if each.place is not None and each.kind is None and each.gang not in dead
    ]
    gangs = [
        _Unit(
            need=tuple(
                sorted(kind.need, key=lambda item: (company[item[0]], -weights[item[0]], item[0]))
            ),
            count=len(kind.gangs) - int(start.units[k]),
            kind=k,
            place=kind.place,
            weight=float(sum(weights[i] * n for i, n in kind.need) / sum(n for _, n in kind.need)),
            gpus=float(sum(gpus[i] * n for i, n in kind.need) / sum(n for _, n in kind.need)),
        )
        for k, kind in enumerate(instance.kinds)
        if kind.running not in dead
    ]
    return singles + gangs
