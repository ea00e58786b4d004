"""How much of a plan goes into one object.

etcd takes 1.5 MB at most, so a PackingPlan lists a bounded number of actions. What is left out is
the least urgent: reasons first, then binds of the lowest priority, whole gangs at a time. Pods
whose bind is left out go on waiting and are in one of the next plans.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from bayplan.plan import Bind, Plan
from bayplan.snapshot import GangKey, PodKey


def bounded(plan: Plan, most: int) -> Plan:
    """Return the plan with at most `most` actions; victims are never left out.

    The planner's budgets keep the number of victims far below `most`.
    """
    victims = len(plan.moves) + len(plan.evictions)
    binds = _first(plan.binds, most - victims)
    holds = plan.holds[: max(0, most - victims - len(binds))]
    return replace(plan, binds=binds, holds=holds)


def _first(binds: tuple[Bind, ...], most: int) -> tuple[Bind, ...]:
    """Return the binds of the highest priorities that fit, gangs whole, in their old order."""
    if len(binds) <= most:
        return binds
    kept: set[PodKey] = set()
    for group in _groups(binds):
        if len(kept) + len(group) <= most:
            kept.update(bind.pod for bind in group)
    return tuple(bind for bind in binds if bind.pod in kept)


def _groups(binds: Iterable[Bind]) -> list[list[Bind]]:
    """Return gangs and single pods, the highest priority first."""
    groups: dict[GangKey | PodKey, list[Bind]] = defaultdict(list)
    for bind in binds:
        groups[bind.gang or bind.pod].append(bind)
    return sorted(groups.values(), key=lambda group: -max(bind.priority for bind in group))
