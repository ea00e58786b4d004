"""How much of a plan goes into one object.

etcd takes 1.5 MB at most, so a PackingPlan lists a bounded number of actions. What is left out is
the least urgent: reasons first, then binds of the lowest priority, whole gangs at a time. Pods
whose bind is left out go on waiting and are in one of the next plans. Nobody is made to go for a
bind that is left out: binds on nodes that lose a pod come first.
"""

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import chain

from bayplan.plan import Bind, Plan
from bayplan.snapshot import GangKey, NodeName, PodKey


def bounded(plan: Plan, most: int) -> Plan:
    """Return the plan with at most `most` actions; victims are left out all together or not at all.

    The planner's budgets keep the number of victims far below `most`. They are left out where what
    comes in their place does not fit in; what is bound then goes where nobody had to leave.
    """
    groups = _groups(plan.binds)
    first = _first_arrivals(plan, groups)
    victims = len(plan.moves) + len(plan.evictions)
    if victims + sum(map(len, first)) > most:
        left = {move.source for move in plan.moves} | {evict.node for evict in plan.evictions}
        groups = [group for group in groups if left.isdisjoint(bind.node for bind in group)]
        plan, first, victims = replace(plan, moves=(), evictions=()), [], 0
    kept = _kept(chain(first, groups), most - victims)
    binds = tuple(bind for bind in plan.binds if bind.pod in kept)
    holds = plan.holds[: max(0, most - victims - len(binds))]
    return replace(plan, binds=binds, holds=holds)


def _first_arrivals(plan: Plan, groups: Iterable[list[Bind]]) -> list[list[Bind]]:
    """Return the first groups that bind to each node that loses a pod and gets no moved one."""
    lonely: set[NodeName] = {move.source for move in plan.moves}
    lonely |= {evict.node for evict in plan.evictions}
    lonely -= {move.target for move in plan.moves}
    first = []
    for group in groups:
        nodes = {bind.node for bind in group}
        if not lonely.isdisjoint(nodes):
            first.append(group)
            lonely -= nodes
    return first


def _kept(groups: Iterable[list[Bind]], most: int) -> AbstractSet[PodKey]:
    """Return the pods of the first groups, which may come twice, that fit."""
    kept: set[PodKey] = set()
    for group in groups:
        pods = {bind.pod for bind in group}
        if len(kept) + len(pods - kept) <= most:
            kept |= pods
    return kept


def _groups(binds: Iterable[Bind]) -> list[list[Bind]]:
    """Return gangs and single pods, the highest priority first."""
    groups: dict[GangKey | PodKey, list[Bind]] = defaultdict(list)
    for bind in binds:
        groups[bind.gang or bind.pod].append(bind)
    return sorted(groups.values(), key=lambda group: -max(bind.priority for bind in group))
