"""Gangs whose pods are to share a domain: where they may come, and which pods form a gang.

Engines count pods by class and node, so which of them make one gang is decided here, after the
fact: as many gangs as possible are formed inside one domain of the dearest label, then of the next.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from bayplan.cluster.constraints import GangTopology
from bayplan.cluster.nodes import Node
from bayplan.solver.problem.assignment import Assignment
from bayplan.solver.problem.domains import Counts, Domains, by_label
from bayplan.solver.problem.instance import GangKind, Instance

#: The nodes of one gang's pods, by class.
Formed = dict[int, list[int]]


def tiers(topology: GangTopology, nodes: tuple[Node, ...]) -> tuple[Domains, ...]:
    """Return the domains of each preferred label, dearest first, inside the required ones."""
    required = (topology.required,) if topology.required else ()
    return tuple(by_label(nodes, *required, key) for key in topology.preferred)


def form(instance: Instance, assignment: Assignment, k: int) -> list[Formed]:
    """Return the placed gangs of kind `k` as the nodes of their pods."""
    kind = instance.kinds[k]
    left = {i: assignment.final[i].copy() for i, _ in kind.need}
    levels = [*kind.preferred, *([] if kind.required is None else [kind.required])]
    formed = [gang for over in levels for gang in _inside(kind, over, left)]
    rest = int(assignment.units[k]) - len(formed)
    everywhere = range(len(instance.nodes))
    return formed + [_take(kind, left, everywhere) for _ in range(rest)]


def together(instance: Instance, assignment: Assignment, rank: int) -> int:
    """Return how many placed gangs are in one domain of the label that they prefer `rank`th."""
    count = 0
    for k, kind in enumerate(instance.kinds):
        if rank < len(kind.preferred) and assignment.units[k]:
            of_node = kind.preferred[rank].of_node
            for gang in form(instance, assignment, k):
                where = {int(of_node[n]) for nodes in gang.values() for n in nodes}
                count += len(where) == 1 and -1 not in where
    return count


def _inside(kind: GangKind, over: Domains, left: dict[int, Counts]) -> Iterator[Formed]:
    """Form gangs inside single domains, from the pods that are `left`, until none is whole."""
    whole = np.min([over.sums(left[i]) // need for i, need in kind.need], axis=0)
    members = over.members() if whole.any() else []
    for d in np.flatnonzero(whole).tolist():
        for _ in range(int(whole[d])):
            yield _take(kind, left, members[d])


def _take(kind: GangKind, left: dict[int, Counts], nodes: Sequence[int]) -> Formed:
    """Take the pods of one gang from the first of `nodes` that have them."""
    formed: Formed = {}
    for i, need in kind.need:
        taken: list[int] = []
        for n in nodes:
            count = min(need - len(taken), int(left[i][n]))
            taken += [n] * count
            left[i][n] -= count
            if len(taken) == need:
                break
        formed[i] = taken
    return formed
