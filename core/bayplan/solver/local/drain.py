"""Whole slots by draining nodes one by one: the defragmentation that is always there.

The nodes with the fewest pods go first. All pods of a node find a place where they break no other
slot, or none of them moves. An exact engine that ran out of time leaves this plan standing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bayplan.policy import Policy
from bayplan.slots import SIZES
from bayplan.solver.problem import goals
from bayplan.solver.problem.assignment import Assignment, moves
from bayplan.solver.problem.goals import FreeSlots
from bayplan.solver.problem.instance import Counts, Instance


def drain(
    instance: Instance, policy: Policy, start: Assignment, *, ended: Callable[[], bool]
) -> Assignment:
    """Return `start` with nodes drained until the moves are used up, or the search has `ended`."""
    size = next((s for s in SIZES if FreeSlots(s).limit(instance)), None)
    if size is None:
        return start
    final, left = start.final.copy(), policy.max_moves - moves(instance, start)
    state = _Drained(instance=instance, final=final, free=instance.left(final), size=size)
    stays = [not each.movable or each.budget is not None for each in instance.classes]
    fixed = np.array(stays, dtype=np.bool_)
    if instance.devices is not None:
        # Shares stay: whether they fit elsewhere is no sum.
        fixed |= instance.devices.sizes > 0
    counts = final.sum(axis=0)
    settled = (final == instance.running).all(axis=0) & ~(final[fixed] > 0).any(axis=0)
    is_open = np.zeros(len(instance.nodes), dtype=np.bool_)
    is_open[instance.open_nodes] = True
    gain = _slots(instance, instance.room, size) > _slots(instance, state.free, size)
    for n in np.argsort(counts, kind="stable").tolist():
        if ended():
            break
        if not (settled[n] and is_open[n] and gain[n]) or not 0 < counts[n] <= left:
            continue
        targets = state.empty(n)
        if targets is not None:
            settled[[n, *targets]] = False
            left -= int(counts[n])
    return Assignment(final=final, survivors=start.survivors, units=start.units)


@dataclass(slots=True, kw_only=True)
class _Drained:
    """The pods and the free room while nodes are drained for slots of one size."""

    instance: Instance
    final: Counts = field(repr=False)
    free: Counts = field(repr=False)
    size: int

    def empty(self, node: int) -> list[int] | None:
        """Find places for all pods of a node; return where, or None if some pod has no place.

        No rule between pods is broken by who comes, nor in the end by who has left.
        """
        moved: list[tuple[int, int]] = []
        pods = np.repeat(np.arange(len(self.final)), self.final[:, node])
        for i in sorted(pods.tolist(), key=lambda i: -self.instance.requests[i].max()):
            self._put(i, node, -1)
            target = self._place_for(i, node)
            if target is None:
                self._put(i, node, 1)
                break
            self._put(i, target, 1)
            moved.append((i, target))
        running = self.instance.running
        done = len(moved) == len(pods)
        if done and all(rule.holds(self.final, running) for rule in self.instance.rules):
            return [target for _, target in moved]
        for i, target in moved:
            self._put(i, target, -1)
            self._put(i, node, 1)
        return None

    def _place_for(self, i: int, node: int) -> int | None:
        """Return the tightest other node where one more pod of a class breaks no slot."""
        instance, free, asks = self.instance, self.free, self.instance.requests[i]
        fits = instance.arrivals[i] & (free >= asks).all(axis=1)
        fits[node] = False
        for rule in instance.rules:
            welcome = rule.allowed(i, self.final, instance.running)
            fits &= True if welcome is None else welcome
        some = np.flatnonzero(fits)
        there = free[some]
        spares = _slots(instance, there - asks, self.size) == _slots(instance, there, self.size)
        some = some[spares]
        gpus = free[np.ix_(some, goals.gpu_columns(instance))].sum(axis=1)
        return int(some[gpus.argmin()]) if len(some) else None

    def _put(self, i: int, node: int, count: int) -> None:
        self.final[i, node] += count
        self.free[node] -= self.instance.requests[i] * count


def _slots(instance: Instance, free: Counts, size: int) -> Counts:
    columns = goals.gpu_columns(instance)
    return np.asarray((np.maximum(free[:, columns], 0) // size).sum(axis=1), dtype=np.int64)
