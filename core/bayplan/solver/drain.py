"""Whole slots by draining nodes one by one: the defragmentation that is always there.

The nodes with the fewest pods go first. All pods of a node find a place where they break no other
slot, or none of them moves. An exact engine that ran out of time leaves this plan standing.
"""

import numpy as np

from bayplan.policy import Policy
from bayplan.slots import SIZES
from bayplan.solver import goals
from bayplan.solver.assignment import Assignment, moves
from bayplan.solver.goals import FreeSlots
from bayplan.solver.instance import Counts, Instance


def drain(instance: Instance, policy: Policy, start: Assignment) -> Assignment:
    """Return `start` with nodes drained as long as the budget of moves lasts."""
    size = next((s for s in SIZES if FreeSlots(s).limit(instance)), None)
    if size is None:
        return start
    final, left = start.final.copy(), policy.max_moves - moves(instance, start)
    free = instance.left(final)
    stays = [not each.movable or each.budget is not None for each in instance.classes]
    fixed = np.array(stays, dtype=np.bool_)
    if instance.devices is not None:
        # Shares stay: whether they fit elsewhere is no sum.
        fixed |= instance.devices.sizes > 0
    counts = final.sum(axis=0)
    settled = (final == instance.running).all(axis=0) & ~(final[fixed] > 0).any(axis=0)
    is_open = np.zeros(len(instance.nodes), dtype=np.bool_)
    is_open[instance.open_nodes] = True
    gain = _slots(instance, instance.room, size) > _slots(instance, free, size)
    for n in np.argsort(counts, kind="stable").tolist():
        if not (settled & is_open & gain)[n] or not 0 < counts[n] <= left:
            continue
        after = _without(instance, final, free, node=n, size=size)
        if after is not None:
            final, free = after
            left -= int(counts[n])
            settled &= (final == instance.running).all(axis=0)
    return Assignment(final=final, survivors=start.survivors, units=start.units)


def _without(
    instance: Instance, final: Counts, free: Counts, *, node: int, size: int
) -> tuple[Counts, Counts] | None:
    """Return the pods and the free room once the node is empty; None if some pod has no place.

    No rule between pods is broken by who comes, nor in the end by who has left.
    """
    final, free = final.copy(), free.copy()
    columns = goals.gpu_columns(instance)
    for i in sorted(np.flatnonzero(final[:, node]), key=lambda i: -instance.requests[i].max()):
        asks = instance.requests[i]
        for _ in range(int(final[i, node])):
            final[i, node] -= 1
            free[node] += asks
            spares = _slots(instance, free - asks, size) == _slots(instance, free, size)
            fits = instance.arrivals[i] & spares & (free >= asks).all(axis=1)
            fits[node] = False
            for rule in instance.rules:
                welcome = rule.allowed(int(i), final, instance.running)
                fits &= True if welcome is None else welcome
            if not fits.any():
                return None
            target = int(np.argmin(np.where(fits, free[:, columns].sum(axis=1), np.inf)))
            free[target] -= asks
            final[i, target] += 1
    if not all(rule.holds(final, instance.running) for rule in instance.rules):
        return None
    return final, free


def _slots(instance: Instance, free: Counts, size: int) -> Counts:
    columns = goals.gpu_columns(instance)
    return np.asarray((np.maximum(free[:, columns], 0) // size).sum(axis=1), dtype=np.int64)
