"""From numbers per class and node back to named pods.

Which pod of a class goes where is free, so it is decided here, the same way every time: the
youngest running pods give up their node first, the oldest waiting pods and gangs are placed first.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from bayplan.aftermath import NOWHERE, Sent
from bayplan.cluster.keys import NodeName
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Bind, Evict, Move, in_bulk
from bayplan.solver.problem import gangs
from bayplan.solver.problem.assignment import Assignment, kept
from bayplan.solver.problem.classes import oldest_first
from bayplan.solver.problem.instance import Counts, Instance, Picked, PodClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What is done, each sort in the order of its pods."""

    bound: Sent[Bind]
    moved: Sent[Move]
    evicted: Sent[Evict]


@dataclass(frozen=True, slots=True)
class _Ways:
    """Which pods go where: where the pods are in the snapshot, and where the nodes are."""

    pods: Counts
    rows: Counts

    @classmethod
    def joined(cls, parts: Sequence[tuple[Counts, Counts]]) -> "_Ways":
        """Return the parts as one, by the names of the pods, which is how a snapshot sorts them."""
        none = np.zeros(0, dtype=np.int64)
        pods = np.concatenate([none, *(pods for pods, _ in parts)])
        rows = np.concatenate([none, *(rows for _, rows in parts)])
        order = np.argsort(pods, kind="stable")
        return cls(pods[order], rows[order])


def actions(snapshot: Snapshot, instance: Instance, assignment: Assignment) -> Actions:
    """Return the actions that lead from the present placement to the assignment."""
    bound: list[tuple[Counts, Counts]] = []
    moved: list[tuple[Counts, Counts]] = []
    gone: list[tuple[Counts, Counts]] = []
    stay = kept(instance, assignment)
    formed = {
        k: gangs.form(instance, assignment, k)
        for k, kind in enumerate(instance.kinds)
        if kind.required is not None or kind.preferred
    }
    for i, each in enumerate(instance.classes):
        leavers = _leavers(each, instance.running[i] - stay[i])
        moving = int(assignment.survivors[i] - stay[i].sum())
        gone.append((leavers[moving:], np.full(len(leavers) - moving, NOWHERE)))
        places = _places(assignment.final[i] - stay[i])
        if each.kind in formed:
            homes = [n for gang in formed[each.kind] for n in gang[i]]
            places = np.array(homes, dtype=np.int64)
        moved.append((leavers[:moving], places[:moving]))
        bound.append((_chosen(instance, assignment, i), places[moving:]))
    came, went = _Ways.joined(bound), _Ways.joined(moved)
    devices = _devices(instance, assignment, came, went)
    return Actions(
        bound=_binds(snapshot, came, devices),
        moved=_moves(snapshot, went, devices),
        evicted=_evictions(snapshot, _Ways.joined(gone)),
    )


def _binds(snapshot: Snapshot, ways: _Ways, devices: Mapping[int, int]) -> Sent[Bind]:
    binds = in_bulk(
        Bind,
        **_read(snapshot, ways, pod="key", uid="uid", gang="gang", priority="priority"),
        node=_names(snapshot, ways),
        device=map(devices.get, ways.pods.tolist()),
    )
    return Sent(binds, ways.pods, ways.rows)


def _moves(snapshot: Snapshot, ways: _Ways, devices: Mapping[int, int]) -> Sent[Move]:
    moves = in_bulk(
        Move,
        **_read(snapshot, ways, pod="key", uid="uid", source="node"),
        **_read(snapshot, ways, owner="owner", priority="priority"),
        target=_names(snapshot, ways),
        device=map(devices.get, ways.pods.tolist()),
    )
    return Sent(moves, ways.pods, ways.rows)


def _evictions(snapshot: Snapshot, ways: _Ways) -> Sent[Evict]:
    evictions = in_bulk(
        Evict,
        **_read(snapshot, ways, pod="key", uid="uid", node="node"),
        **_read(snapshot, ways, priority="priority", owner="owner", gang="gang"),
    )
    return Sent(evictions, ways.pods, ways.rows)


def _read(snapshot: Snapshot, ways: _Ways, **attributes: str) -> dict[str, Iterable[object]]:
    """Return attributes of the pods, by the names that actions have for them."""
    listed = list(map(snapshot.pods.__getitem__, ways.pods.tolist()))
    return {ours: map(attrgetter(its), listed) for ours, its in attributes.items()}


def _names(snapshot: Snapshot, ways: _Ways) -> Iterable[NodeName]:
    """Return the names of the nodes."""
    nodes = map(snapshot.nodes.__getitem__, ways.rows.tolist())
    return map(attrgetter("name"), nodes)


def _devices(instance: Instance, assignment: Assignment, *coming: _Ways) -> dict[int, int]:
    """Return a GPU for each share that comes to a node, by where its pod is in the snapshot."""
    if instance.devices is None:
        return {}
    sizes = {
        pod: int(instance.devices.sizes[i])
        for i in np.flatnonzero(instance.devices.sizes).tolist()
        for where in (instance.classes[i].running.where, instance.classes[i].waiting.where)
        for pod in where.tolist()
    }
    came: dict[int, list[int]] = defaultdict(list)
    for each in coming:
        for pod, n in zip(each.pods.tolist(), each.rows.tolist(), strict=True):
            if pod in sizes:
                came[n].append(pod)
    number: dict[int, int] = {}
    for n, pods in came.items():
        layout = instance.devices.layout(n, assignment.final[:, n])
        pods.sort()
        number |= zip(pods, layout.numbers([sizes[pod] for pod in pods]), strict=True)
    return number


def _leavers(each: PodClass, gone: Counts) -> Counts:
    """Return the running pods that give up their node, oldest first; the youngest of each do.

    Args:
        each: The class.
        gone: [node] how many leave it.
    """
    left = gone.copy()
    leavers: list[int] = []
    for k in np.flatnonzero(gone[each.rows])[::-1].tolist():
        n = each.rows[k]
        if left[n]:
            left[n] -= 1
            leavers.append(k)
    return each.running.where[np.array(leavers[::-1], dtype=np.int64)]


def _places(arrivals: Counts) -> Counts:
    """Return the node of each arriving pod, by node name."""
    nodes = np.flatnonzero(arrivals)
    return np.asarray(np.repeat(nodes, arrivals[nodes]), dtype=np.int64)


def _chosen(instance: Instance, assignment: Assignment, index: int) -> Counts:
    """Return the waiting pods of a class that are placed: the oldest, or those of whole gangs."""
    each = instance.classes[index]
    if each.kind is None:
        return each.waiting.where[: int(assignment.placed[index])]
    where = {pod.key: i for pod, i in zip(each.waiting, each.waiting.where.tolist(), strict=True)}
    gangs = instance.kinds[each.kind].gangs[: int(assignment.units[each.kind])]
    chosen = [where[pod.key] for gang in gangs for pod in oldest_first(gang) if pod.key in where]
    return np.array(chosen, dtype=np.int64)


def left_out(instance: Instance, assignment: Assignment, index: int) -> Picked:
    """Return the waiting pods of a class that are not placed."""
    each = instance.classes[index]
    if each.kind is None:
        return each.waiting[int(assignment.placed[index]) :]
    return each.waiting.without(_chosen(instance, assignment, index))
