"""From counts of nodes back to nodes: an integer point of the fleet program as an assignment.

Which node of a class keeps what, and which node with some residual room takes which fill, is
free; the first nodes by name come first, so that equal points give equal assignments.
"""

import numpy as np

from bayplan.solver.keepfill.fleet import Fleet
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.instance import Counts


def assignment(fleet: Fleet, point: Counts) -> Assignment:
    """Return the placement that an integer point stands for."""
    keep_of = _keeps(fleet, point)
    stay = _stay(fleet, keep_of)
    fills = _fills(fleet, point, keep_of)
    survivors = point[fleet.s]
    coming = survivors - stay.sum(axis=1) + point[fleet.p]
    final = stay + _arrivals(fleet, point, fills, coming)
    return Assignment(final=final, survivors=survivors, units=point[fleet.u])


def _keeps(fleet: Fleet, point: Counts) -> Counts:
    """Return [node] the keep of each node."""
    nodes = np.argsort(fleet.states.of_node, kind="stable")
    keep_of = np.empty(len(nodes), dtype=np.int64)
    keep_of[nodes] = np.repeat(np.arange(len(fleet.y)), point[fleet.y])
    return keep_of


def _stay(fleet: Fleet, keep_of: Counts) -> Counts:
    """Return [class, node] pods that stay; of classes with one identity the first stay."""
    instance = fleet.instance
    stay = np.zeros_like(instance.running)
    for i in fleet.view.settled:
        stay[i] = instance.running[i]
    for q, members in enumerate(fleet.view.members):
        left = fleet.states.keeps[keep_of, q]
        for i in members:
            stay[i] = np.minimum(left, instance.running[i])
            left = left - stay[i]
    return stay


def _fills(fleet: Fleet, point: Counts, keep_of: Counts) -> Counts:
    """Return [node, shape] places for arrivals."""
    fills = np.zeros((len(keep_of), len(fleet.shapes)), dtype=np.int64)
    residual_of = _residuals(fleet, point, keep_of)
    nodes = np.argsort(residual_of, kind="stable")
    ends = np.searchsorted(residual_of[nodes], np.arange(len(fleet.residuals) + 1))
    for r, each in enumerate(fleet.residuals):
        chosen = np.repeat(each.patterns, point[each.columns])
        mine = nodes[ends[r] : ends[r + 1]][: len(chosen)]
        fills[mine] = fleet.patterns[each.type].counts[chosen]
    return fills


def _residuals(fleet: Fleet, point: Counts, keep_of: Counts) -> Counts:
    """Return [node] the residual class it is filled in, after its reserve."""
    residual_of = fleet.residual_of[keep_of]
    if not fleet.reserves:
        return residual_of
    spot_of = fleet.spot_of[keep_of]
    nodes = np.argsort(spot_of, kind="stable")
    starts = np.searchsorted(spot_of[nodes], np.arange(int(fleet.spot_of.max()) + 1))
    for each in fleet.reserves:
        count = int(point[each.column])
        if count:
            first = int(starts[each.spot])
            residual_of[nodes[first : first + count]] = each.target
            starts[each.spot] += count
    return residual_of


def _arrivals(fleet: Fleet, point: Counts, fills: Counts, coming: Counts) -> Counts:
    """Return [class, node] pods that arrive, `coming` of each class."""
    arrivals = np.zeros_like(fleet.instance.running)
    places = {(t, shape): _places(fleet, fills, t, shape) for t, shape in fleet.supply}
    taken = dict.fromkeys(places, 0)
    for g, group in enumerate(fleet.groups):
        pods = np.repeat(np.array(group.classes, dtype=np.int64), coming[list(group.classes)])
        for t in group.types:
            key, count = (t, group.shape), int(point[fleet.x[g, t]])
            there = places[key][taken[key] : taken[key] + count]
            np.add.at(arrivals, (pods[:count], there), 1)
            taken[key] += count
            pods = pods[count:]
    return arrivals


def _places(fleet: Fleet, fills: Counts, kind: int, shape: int) -> Counts:
    """Return the nodes of a type, each as often as it has a place for the shape."""
    nodes = np.flatnonzero(fleet.types.of_node == kind)
    return np.asarray(np.repeat(nodes, fills[nodes, shape]), dtype=np.int64)
