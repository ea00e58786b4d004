"""Whole free slots: how much room there is for large pods, and what a plan does to it.

A slot of 8 GPUs is 8 free ones on one node. Metrics count them, and a plan that defragments is
worth what it wins of them.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from bayplan.cluster import shares, units
from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Bind, Move, Plan

#: Sizes of slots in GPUs, most wanted first.
SIZES: Final = (8, 4, 2, 1)


def free_slots(snapshot: Snapshot) -> dict[int, int]:
    """Return the number of free slots of each size on nodes that take pods."""
    return _slots(snapshot, snapshot.free())


def won(snapshot: Snapshot, plan: Plan) -> tuple[int, int]:
    """Return the largest size of which the plan changes the number of free slots, and by how much.

    (0, 0) when it changes none.
    """
    before, after = free_slots(snapshot), _slots(snapshot, _free_after(snapshot, plan))
    changes = ((size, after[size] - before[size]) for size in SIZES)
    return next((change for change in changes if change[1]), (0, 0))


def promised_gpus(snapshot: Snapshot, plan: Plan) -> int:
    """Return the GPUs that the plan keeps for pods that wait, or that are still to be moved."""
    homes = {bind.uid for bind in plan.binds} | {move.uid for move in plan.moves}
    sources = {move.uid: move.source for move in plan.moves}
    awaited = (p for p in snapshot.pods if p.uid in homes and p.node == sources.get(p.uid))
    return sum(pod.requests.gpus for pod in awaited)


def _slots(snapshot: Snapshot, free: Mapping[NodeName, Resources]) -> dict[int, int]:
    takers = [node.name for node in snapshot.nodes if node.ready and node.schedulable]
    rooms = [n for name in takers for n in whole_gpus(free[name])]
    return {size: sum(max(0, room) // size for room in rooms) for size in SIZES}


def whole_gpus(free: Resources) -> Iterator[int]:
    """Yield the whole GPUs that are free, by vendor; one of which anybody has a part is none."""
    for resource, n in free.items:
        if resource == units.SHARED_GPU and shares.concerned(((resource, 1),), free.items):
            yield shares.left_in(free.items).empty
        elif units.is_gpu(resource):
            yield n


def _free_after(snapshot: Snapshot, plan: Plan) -> dict[NodeName, Resources]:
    """Return the room on each node once the plan is carried out."""
    free = snapshot.free()
    for key, node, taken in _changes(plan):
        pod = snapshot.by_key.get(key)
        if pod is None or node not in free:
            continue
        if taken is None:
            free[node] += pod.requests
        else:
            free[node] -= pod.requests.on_device(taken.device)
    return free


def _changes(plan: Plan) -> Iterator[tuple[PodKey, NodeName, Bind | Move | None]]:
    """Yield whose room comes free where, or is taken by which action."""
    for bind in plan.binds:
        yield bind.pod, bind.node, bind
    for move in plan.moves:
        yield move.pod, move.source, None
        yield move.pod, move.target, move
    for evict in plan.evictions:
        yield evict.pod, evict.node, None
