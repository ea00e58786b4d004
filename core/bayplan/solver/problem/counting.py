"""From a snapshot to an instance: what is alike is counted, and room is what may be decided on."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from bayplan.cluster import units
from bayplan.cluster.constraints import NodeTerm
from bayplan.cluster.keys import BudgetKey, GangKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.rules import filters
from bayplan.rules.minimums import missing
from bayplan.rules.peers import Meant
from bayplan.rules.reach import Reach
from bayplan.solver.problem.between import between
from bayplan.solver.problem.classes import (
    Batch,
    classes_of,
    members_of,
    running_gangs,
    sorted_out,
    teams_of,
)
from bayplan.solver.problem.devices import Sharing, sharing
from bayplan.solver.problem.instance import Allowance, Counts, GangKind, Instance, Mask, PodClass


def build(
    snapshot: Snapshot, *, divided: bool = False, must_go: Collection[GangKey] = ()
) -> Instance:
    """Return the snapshot as classes and arrays; the same for any order of the input.

    With `divided`, pods of running gangs are classes by what they are alone, however many gangs
    there are. An assignment of that instance counts only if it loses all of those in `must_go` and
    none of the others; what cannot be beaten without this rule cannot be beaten at all.
    """
    needed = missing(snapshot)
    members = members_of(snapshot, needed)
    meant = Meant(snapshot)
    decided, fixed = sorted_out(snapshot, members, meant, needed)
    classes, kinds = classes_of(
        snapshot, decided, members, meant, needed, divided=divided, must_go=must_go
    )
    resources = _resources(snapshot)
    room = _room(snapshot, fixed, resources)
    requests = _amounts([c.requests for c in classes], resources)
    running = _running(classes, len(snapshot.nodes))
    shared = _sharing(snapshot.nodes, classes, running, fixed.pods, resources)
    if shared is not None:
        resources = (*resources, *shared.names)
        room[:, shared.devices.column] -= shared.devices.lost
        requests = np.column_stack([requests, shared.requests])
        room = np.column_stack([room, shared.room])
    capacity = np.maximum(room, running.T @ requests)
    arrivals = _arrivals(classes, snapshot) & ~_taken(requests, room, capacity)
    if shared is not None:
        devices = shared.devices
        taken = running.T @ requests[:, devices.column]
        arrivals &= ~np.outer(devices.asked, devices.overfull(room[:, devices.column] - taken))
        taken += devices.all_held(running)
        capacity[:, devices.column] = np.maximum(capacity[:, devices.column], taken)
    # Who is over what a node implies (a port twice) stays; to all others that is no matter.
    implied = np.array([bool(units.implied(name)) for name in resources], dtype=np.bool_)
    room[:, implied] = capacity[:, implied]
    found = between(snapshot, classes, running, meant)
    if found.barred is not None:
        arrivals &= ~found.barred
    for index, nowhere in _away_from_gangs(classes, kinds, snapshot.nodes):
        arrivals[index] &= ~nowhere
    return Instance(
        nodes=snapshot.nodes,
        classes=classes,
        kinds=kinds,
        gangs=running_gangs(classes, members),
        teams=teams_of(classes, members),
        allowances=_allowances(classes, snapshot),
        incomplete=tuple(m.incomplete() for m in members.values() if m.lacks_pods),
        resources=(*resources, *(f"apart {k}" for k in range(len(found.columns)))),
        requests=np.column_stack([requests, *(uses for uses, _ in found.columns)]),
        room=np.column_stack([room, *(there for _, there in found.columns)]),
        capacity=np.column_stack([capacity, *(there for _, there in found.columns)]),
        running=running,
        arrivals=arrivals,
        rules=found.rules,
        wishes=_wishes(classes, snapshot.nodes),
        devices=None if shared is None else shared.devices,
    )


def _resources(snapshot: Snapshot) -> tuple[str, ...]:
    kinds = snapshot.kinds
    names = {name for kind in kinds for name in kind.requests if not _is_shared(name)}
    offered = {name for node in snapshot.node_kinds.values for name in node.allocatable}
    names |= {name for name in offered if units.is_gpu(name)}
    if any(kind.requests.share_milli for kind in kinds):
        names.add(units.SHARED_GPU)
    return tuple(sorted(names))


def _sharing(
    nodes: tuple[Node, ...],
    classes: Sequence[PodClass],
    running: Counts,
    fixed: Sequence[Pod],
    resources: tuple[str, ...],
) -> Sharing | None:
    """Return what shares of GPUs add; None where there are none."""
    if units.SHARED_GPU not in resources:
        return None
    column = resources.index(units.SHARED_GPU)
    return sharing(nodes, [each.requests for each in classes], running, fixed, column)


def _is_shared(name: str) -> bool:
    """Return whether a resource is a matter of packing, not of sums: see `devices`."""
    return units.is_share(name) or units.is_part(name)


def _amounts(rows: Sequence[Resources], resources: tuple[str, ...]) -> Counts:
    """Return [row, resource]; what several rows share is read once."""
    known = {id(row): row for row in rows}
    number = {known_id: i for i, known_id in enumerate(known)}
    amounts = np.zeros((len(known), len(resources)), dtype=np.int64)
    for i, row in enumerate(known.values()):
        have = dict(row.items)
        amounts[i] = [have.get(name, 0) for name in resources]
    index = np.fromiter(map(number.__getitem__, map(id, rows)), dtype=np.int64, count=len(rows))
    return np.asarray(amounts[index], dtype=np.int64)


def _room(snapshot: Snapshot, fixed: Batch, resources: tuple[str, ...]) -> Counts:
    """Return allocatable less every pod that has a node and that a plan may not disturb."""
    looks = snapshot.node_kinds
    sizes = _amounts([node.allocatable for node in looks.values], resources)
    room: Counts = sizes[np.asarray(looks.numbers)]
    room += np.array([units.implied(name) for name in resources], dtype=np.int64)
    taken = _amounts([pod.kind.requests for pod in fixed.pods], resources)
    np.subtract.at(room, fixed.rows, taken)
    return room


def _running(classes: Sequence[PodClass], nodes: int) -> Counts:
    counts = [np.bincount(each.rows, minlength=nodes) for each in classes]
    return np.array(counts, dtype=np.int64).reshape(len(classes), nodes)


def _arrivals(classes: Sequence[PodClass], snapshot: Snapshot) -> Mask:
    """Return where pods of a class may go, room aside; each set of constraints is checked once.

    Nodes are checked once for all that look the same to every pod. What volumes ask is left out of
    that: each may ask for a node of its own, to which all others look the same.
    """
    asked = {each.constraints for each in classes if each.movable}
    bare = {each: replace(each, volumes=()) if each.volumes else each for each in asked}
    looks = filters.Looks.of(bare.values()).over(snapshot)
    of_node = np.asarray(looks.numbers)
    masks = {
        constraints: np.array(
            [filters.eligibility(constraints, node) is None for node in looks.values],
            dtype=np.bool_,
        )[of_node]
        for constraints in {*bare.values()}
    }
    reach = Reach(snapshot.nodes)
    nowhere = np.zeros(len(of_node), dtype=np.bool_)
    arrivals = [
        _reached(masks[bare[each.constraints]], each.constraints.volumes, reach)
        if each.movable
        else nowhere
        for each in classes
    ]
    return np.array(arrivals, dtype=np.bool_).reshape(len(classes), len(of_node))


def _reached(mask: Mask, volumes: Iterable[tuple[NodeTerm, ...]], reach: Reach) -> Mask:
    """Return the nodes of a mask that reach every volume."""
    for terms in volumes:
        there = np.zeros_like(mask)
        there[list(reach.of(terms))] = True
        mask = mask & there
    return mask


def _taken(requests: Counts, room: Counts, capacity: Counts) -> Mask:
    """Return [class, node] whether the node is over-full of something that the class uses."""
    over = capacity > room
    if not over.any():
        return np.zeros((len(requests), len(room)), dtype=np.bool_)
    return np.asarray((requests > 0).astype(np.int64) @ over.T.astype(np.int64) > 0, dtype=np.bool_)


def _away_from_gangs(
    classes: Sequence[PodClass], kinds: Sequence[GangKind], nodes: tuple[Node, ...]
) -> Iterable[tuple[int, Mask]]:
    """Return classes of gangs that must share a domain, with the nodes that are in no such one."""
    for kind in kinds:
        if kind.required is not None:
            yield from ((i, kind.required.of_node < 0) for i, _ in kind.need)
    for i, each in enumerate(classes):
        if each.home is not None:
            label, value = each.home
            inside = [value is not None and (label, value) in node.labels for node in nodes]
            yield i, ~np.array(inside, dtype=np.bool_)


def _wishes(classes: Sequence[PodClass], nodes: tuple[Node, ...]) -> Counts | None:
    """Return the weights of preferred node affinity; None where no pod that may come has any."""
    asked = {each.constraints.prefers for each in classes if each.movable} - {()}
    if not asked:
        return None
    nothing = np.zeros(len(nodes), dtype=np.int64)
    known = {
        prefers: np.array([filters.preference(prefers, node) for node in nodes], dtype=np.int64)
        for prefers in asked
    }
    rows = [known.get(each.constraints.prefers, nothing) for each in classes]
    return np.array(rows, dtype=np.int64)


def _allowances(classes: Sequence[PodClass], snapshot: Snapshot) -> tuple[Allowance, ...]:
    of: dict[BudgetKey, list[int]] = defaultdict(list)
    for i, each in enumerate(classes):
        if each.budget is not None and each.running:
            of[each.budget].append(i)
    allowed = {budget.key: budget.allowed for budget in snapshot.budgets}
    found = (
        Allowance(classes=tuple(indices), most=max(0, allowed.get(key, 0)))
        for key, indices in sorted(of.items())
    )
    return tuple(
        each for each in found if each.most < sum(len(classes[i].running) for i in each.classes)
    )
