"""An assignment that is being changed, step by step, and taken back if it got worse.

Ejection chains, exchanges and splits work on it: they try pods here and there, and keep what they
did only if all rules hold and the goals got better.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayplan.policy import Policy
from bayplan.solver.exact.constraints import allowed
from bayplan.solver.local.greedy import scale_of
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.goals import Goal, Keep, Place
from bayplan.solver.problem.instance import Counts, Instance, Mask, Rank

#: What it weighs that a share breaks a whole GPU: more than anything that is left over.
_BREAKING: Final = 1000.0

#: The node of a pod that has none.
NOWHERE: Final = -1


class Wish(NamedTuple):
    """Pods that need a place together, by class: a gang, one waiting pod, or one evicted."""

    need: tuple[tuple[int, int], ...]
    kind: int | None
    rank: Rank
    evicted: bool


class Step(NamedTuple):
    """A pod of a class leaves a node, arrives at one, or both."""

    who: int
    source: int
    target: int


def wishes(instance: Instance, goal: Keep | Place) -> list[Wish]:
    """Return what would serve the goal, small pods first: they are as much worth as large ones."""
    total = np.maximum(instance.capacity.sum(axis=0, initial=0), 1)
    weight = (instance.requests / total).max(axis=1, initial=0.0)
    mask = goal.mask(instance)
    evicted = isinstance(goal, Keep)
    lone = [
        Wish(need=((i, 1),), kind=None, rank=goal.rank, evicted=evicted)
        for i, each in enumerate(instance.classes)
        if mask[i] and (not each.gang if evicted else each.kind is None)
    ]
    gangs = [
        Wish(need=kind.need, kind=k, rank=goal.rank, evicted=False)
        for k, kind in enumerate(instance.kinds)
        if isinstance(goal, Place) and kind.place == goal.group
    ]
    return sorted(
        lone + gangs,
        key=lambda wish: (sum(weight[i] * n for i, n in wish.need), wish.need),
    )


@dataclass(slots=True)
class Board:
    """An assignment while it is being changed, with the room that is left.

    Attributes:
        free: [node, resource] room, without the GPUs that shares hold.
        held: [node] those GPUs.
        sharing: Classes whose pods share a GPU.
    """

    instance: Instance
    policy: Policy
    start: Assignment
    order: tuple[Goal, ...] = field(init=False)
    scale: NDArray[np.float64] = field(init=False, repr=False)
    final: Counts = field(init=False, repr=False)
    survivors: Counts = field(init=False, repr=False)
    units: Counts = field(init=False)
    free: Counts = field(init=False, repr=False)
    held: Counts = field(init=False, repr=False)
    sharing: frozenset[int] = field(init=False)
    _given_up: list[int] = field(default_factory=list)
    _saved: Assignment = field(init=False, repr=False)
    _free: Counts = field(init=False, repr=False)
    _held: Counts = field(init=False, repr=False)
    _opened: dict[int, Counts] = field(default_factory=dict, repr=False)
    _repacked: set[int] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        self.order = goals.in_order(self.instance, self.policy.order)
        self.scale = scale_of(self.instance)
        self.final, self.survivors = self.start.final.copy(), self.start.survivors.copy()
        self.units = self.start.units.copy()
        self.free, self.held = self.instance.spare(self.final)
        devices = self.instance.devices
        self.sharing = frozenset(() if devices is None else np.flatnonzero(devices.sizes).tolist())
        self._save(self.start)

    def assignment(self) -> Assignment:
        """Return the assignment as it is."""
        return Assignment(
            final=self.final.copy(), survivors=self.survivors.copy(), units=self.units.copy()
        )

    def granted(
        self, wanted: Iterable[Wish], grant: Callable[[Wish], bool], ended: Callable[[], bool]
    ) -> Iterator[Assignment]:
        """Yield the assignment each time that a wish was granted; who is not is given up."""
        for wish in wanted:
            while not ended() and self.wanted(wish):
                if not grant(wish):
                    self.give_up(wish)
                    break
                yield self.assignment()

    def wanted(self, wish: Wish) -> bool:
        """Return whether one more of what is wished for waits, and there is hope for it.

        There is none for a pod that asks for no less, on no more nodes, than one given up.
        """
        index = wish.need[0][0]
        return self._waits(wish) and (wish.kind is not None or not self._hopeless(index))

    def give_up(self, wish: Wish) -> None:
        """Note that a lone pod found no place."""
        if wish.kind is None:
            self._given_up.append(wish.need[0][0])

    def _hopeless(self, index: int) -> bool:
        requests, arrivals = self.instance.requests, self.instance.arrivals
        return any(
            (requests[index] >= requests[i]).all() and not (arrivals[index] & ~arrivals[i]).any()
            for i in self._given_up
        )

    def _waits(self, wish: Wish) -> bool:
        if wish.kind is not None:
            return int(self.units[wish.kind]) < len(self.instance.kinds[wish.kind].gangs)
        index = wish.need[0][0]
        each, alive = self.instance.classes[index], int(self.survivors[index])
        if wish.evicted:
            return alive < len(each.running)
        return int(self.final[index].sum()) - alive < len(each.waiting)

    def follow(self, wish: Wish, steps: tuple[Step, ...] | None) -> bool:
        """Carry out steps that place a pod of the wish; return False without any."""
        if steps is None:
            return False
        self.apply(steps)
        if wish.evicted:
            self.survivors[wish.need[0][0]] += 1
        return True

    def apply(self, steps: Iterable[Step]) -> None:
        """Carry out steps; who goes without is first taken from those that only waited."""
        for who, source, target in steps:
            if target == NOWHERE and self.final[who].sum() == self.survivors[who]:
                self.survivors[who] -= 1
            if source != NOWHERE:
                self.final[who, source] -= 1
                self.free[source] += self.instance.requests[who]
                self._repack(who, source)
            if target != NOWHERE:
                self.final[who, target] += 1
                self.free[target] -= self.instance.requests[who]
                self._repack(who, target)

    def _repack(self, who: int, n: int) -> None:
        """Count again what shares hold of the GPUs of a node where one came or left."""
        devices = self.instance.devices
        if devices is not None and devices.sizes[who]:
            held = devices.held(n, self.final[:, n])
            self.free[n, devices.column] -= held - self.held[n]
            self.held[n] = held
            self._repacked.add(n)
            self._open_again((n,))

    def better(self) -> bool:
        """Keep what was done if it made the whole better and every rule holds; return whether."""
        now = self.assignment()
        if not goals.better(self.instance, self.order, now, self._saved):
            return False
        if not allowed(self.instance, self.policy, now):
            return False
        self._save(now)
        return True

    def _save(self, now: Assignment) -> None:
        self._saved, self._free, self._held = now, self.free.copy(), self.held.copy()
        self._repacked.clear()

    def restore(self) -> None:
        """Take back what was done since it was last saved."""
        self.final[:], self.survivors[:] = self._saved.final, self._saved.survivors
        self.units[:], self.free[:], self.held[:] = self._saved.units, self._free, self._held
        self._open_again(self._repacked)
        self._repacked.clear()

    def fits(self, index: int) -> Mask:
        """Return the nodes with room for one more pod of the class."""
        room = (self.free >= self.instance.requests[index]).all(axis=1)
        fits = np.asarray(room & self.instance.arrivals[index], dtype=np.bool_)
        if index in self.sharing:
            assert self.instance.devices is not None  # noqa: S101 - somebody shares
            fits &= self._breaks(index) <= self.free[:, self.instance.devices.column]
        return fits

    def _breaks(self, index: int) -> Counts:
        """Return [node] the whole GPUs that one more share of a class would break.

        It is kept from step to step, for only where shares come and go it changes.
        """
        if index not in self._opened:
            self._opened[index] = np.zeros(len(self.instance.nodes), dtype=np.int64)
            self._open_again(range(len(self.instance.nodes)), (index,))
        return self._opened[index]

    def _open_again(self, nodes: Iterable[int], classes: Iterable[int] = ()) -> None:
        """Find again what shares of some classes, or of all that were asked for, would break."""
        devices, rows = self.instance.devices, list(nodes)
        if devices is not None and rows:
            for i in classes or self._opened:
                self._opened[i][rows] = devices.held_with(i, self.final, rows) - self.held[rows]

    def tightest(self, index: int, *, but: tuple[int, ...] = ()) -> int:
        """Return the node where the least is left over; `NOWHERE` without any."""
        fits = self.fits(index)
        fits[list(but)] = False
        if not fits.any():
            return NOWHERE
        waste = (self.free - self.instance.requests[index]) @ self.scale
        if index in self.sharing:
            waste += _BREAKING * self._breaks(index)
        return int(np.where(fits, waste, np.inf).argmin())
