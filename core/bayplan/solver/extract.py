"""From numbers per class and node back to named pods.

Which pod of a class goes where is free, so it is decided here, the same way every time: the
youngest running pods give up their node first, the oldest waiting pods and gangs are placed first.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np

from bayplan.keys import NodeName, PodKey
from bayplan.plan import Bind, Evict, Move
from bayplan.snapshot import Pod
from bayplan.solver import gangs
from bayplan.solver.assignment import Assignment, kept
from bayplan.solver.classes import oldest_first
from bayplan.solver.devices import Devices
from bayplan.solver.instance import Counts, Instance, PodClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What is done, each tuple sorted by pod."""

    binds: tuple[Bind, ...] = ()
    moves: tuple[Move, ...] = ()
    evictions: tuple[Evict, ...] = ()


def actions(instance: Instance, assignment: Assignment) -> Actions:
    """Return the actions that lead from the present placement to the assignment."""
    binds: list[Bind] = []
    moves: list[Move] = []
    evictions: list[Evict] = []
    stay = kept(instance, assignment)
    names = [node.name for node in instance.nodes]
    formed = {
        k: gangs.form(instance, assignment, k)
        for k, kind in enumerate(instance.kinds)
        if kind.required is not None or kind.preferred
    }
    for i, each in enumerate(instance.classes):
        leavers = _leavers(each, instance.running[i] - stay[i])
        moving = leavers[: int(assignment.survivors[i] - stay[i].sum())]
        evictions += [_evict(pod) for pod in leavers[len(moving) :]]
        places = _places(names, assignment.final[i] - stay[i])
        if each.kind in formed:
            places = (names[n] for gang in formed[each.kind] for n in gang[i])
        moves += [_move(pod, next(places)) for pod in moving]
        chosen = _chosen(instance, assignment, i)
        binds += [_bind(pod, node) for pod, node in zip(chosen, places, strict=True)]
    if instance.devices is not None:
        binds, moves = _on_devices(instance, instance.devices, assignment, binds, moves)
    return Actions(
        binds=tuple(sorted(binds, key=attrgetter("pod"))),
        moves=tuple(sorted(moves, key=attrgetter("pod"))),
        evictions=tuple(sorted(evictions, key=attrgetter("pod"))),
    )


def _on_devices(
    instance: Instance,
    devices: Devices,
    assignment: Assignment,
    binds: list[Bind],
    moves: list[Move],
) -> tuple[list[Bind], list[Move]]:
    """Return the actions with a GPU for each share that comes to a node, by the pods' names."""
    sizes = {
        pod.key: int(devices.sizes[i])
        for i in np.flatnonzero(devices.sizes).tolist()
        for pod in (*instance.classes[i].running, *instance.classes[i].waiting)
    }
    came: dict[NodeName, list[PodKey]] = defaultdict(list)
    for bind in binds:
        came[bind.node].append(bind.pod)
    for move in moves:
        came[move.target].append(move.pod)
    number: dict[PodKey, int] = {}
    for n, node in enumerate(instance.nodes):
        pods = sorted(pod for pod in came.get(node.name, ()) if pod in sizes)
        if pods:
            layout = devices.layout(n, assignment.final[:, n])
            number |= zip(pods, layout.numbers([sizes[pod] for pod in pods]), strict=True)
    return (
        [replace(bind, device=number.get(bind.pod)) for bind in binds],
        [replace(move, device=number.get(move.pod)) for move in moves],
    )


def _leavers(each: PodClass, gone: Counts) -> list[Pod]:
    """Return the running pods that give up their node, oldest first; the youngest of each do.

    Args:
        each: The class.
        gone: [node] how many leave it.
    """
    left = gone.copy()
    leavers = []
    for k in np.flatnonzero(gone[each.rows])[::-1].tolist():
        n = each.rows[k]
        if left[n]:
            left[n] -= 1
            leavers.append(each.running[k])
    return leavers[::-1]


def _places(names: Sequence[NodeName], arrivals: Counts) -> Iterator[NodeName]:
    """Return the node of each arriving pod, by node name."""
    nodes = np.flatnonzero(arrivals)
    return map(names.__getitem__, np.repeat(nodes, arrivals[nodes]).tolist())


def _chosen(instance: Instance, assignment: Assignment, index: int) -> Sequence[Pod]:
    """Return the waiting pods of a class that are placed: the oldest, or those of whole gangs."""
    each = instance.classes[index]
    if each.kind is None:
        return each.waiting[: int(assignment.placed[index])]
    mine = {pod.key for pod in each.waiting}
    gangs = instance.kinds[each.kind].gangs[: int(assignment.units[each.kind])]
    return [pod for gang in gangs for pod in oldest_first(gang) if pod.key in mine]


def left_out(instance: Instance, assignment: Assignment, index: int) -> Sequence[Pod]:
    """Return the waiting pods of a class that are not placed."""
    each = instance.classes[index]
    if each.kind is None:
        return each.waiting[int(assignment.placed[index]) :]
    placed = {pod.key for pod in _chosen(instance, assignment, index)}
    return [pod for pod in each.waiting if pod.key not in placed]


def _bind(pod: Pod, node: NodeName) -> Bind:
    return Bind(pod=pod.key, uid=pod.uid, node=node, gang=pod.gang, priority=pod.priority)


def _move(pod: Pod, target: NodeName) -> Move:
    assert pod.node is not None  # noqa: S101 - running
    return Move(
        pod=pod.key,
        uid=pod.uid,
        source=pod.node,
        target=target,
        owner=pod.owner,
        priority=pod.priority,
    )


def _evict(pod: Pod) -> Evict:
    assert pod.node is not None  # noqa: S101 - running
    return Evict(
        pod=pod.key,
        uid=pod.uid,
        node=pod.node,
        priority=pod.priority,
        owner=pod.owner,
        gang=pod.gang,
    )
