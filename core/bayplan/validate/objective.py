"""Checks that the certificate says what the actions reach, stage by stage."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from bayplan import between, filters, units
from bayplan.plan import EVICTION_COST
from bayplan.snapshot import Disruption, PodKind
from bayplan.validate.evidence import Evidence
from bayplan.validate.findings import Code, Violation, wrong
from bayplan.validate.gangs import newcomers


def objective(about: Evidence) -> Iterator[Violation]:
    """Check that the certificate says what the actions reach, and no bound is beaten."""
    found = counted(about)
    for stage in about.plan.certificate.stages:
        value = found[stage.name]
        if value != stage.value:
            yield wrong(
                Code.WRONG_OBJECTIVE, f"{stage.name} is {value}; the plan claims {stage.value}"
            )
        fewer = stage.name.startswith("disruption")
        beaten = value < stage.bound if fewer else value > stage.bound
        if beaten:
            yield wrong(
                Code.WRONG_OBJECTIVE, f"{stage.name} is {value}, beyond its bound {stage.bound}"
            )


def counted(about: Evidence) -> Counter[str]:
    """Return what the actions reach, by name of the stage."""
    found: Counter[str] = Counter()
    for kind, n in _survivors(about).items():
        found[f"keep {kind.priority}"] += n
    for each, n in newcomers(about).items():
        suffix = " without preemption" if each.gentle else ""
        found[f"place {each.tier}{suffix}"] += n
    found.update(_disruption(about))
    found["preference"] = _preference(about)
    if about.placement is not None:
        found.update(between.gathered(about.placement))
    found.update(_free_slots(about))
    return found


def _preference(about: Evidence) -> int:
    """Return the weights of the preferred node affinity that arrivals find."""
    if not any(kind.constraints.prefers for kind in about.coming):
        return 0
    pods, nodes = about.snapshot.pods, about.snapshot.nodes
    return sum(
        filters.preference(pods[i].constraints.prefers, nodes[n])
        for i, n in zip(about.arrivals.tolist(), about.targets.tolist(), strict=True)
        if n >= 0
    )


def _disruption(about: Evidence) -> Counter[str]:
    """Return what running pods suffer, in all and from each tier up."""
    moved = Counter(about.kinds_at(about.after.moved.pods))
    evicted = Counter(about.kinds_at(about.after.evicted.pods))
    tiers = {kind.priority for kind in about.snapshot.kinds}
    costs: Counter[str] = Counter()
    for kind in moved.keys() | evicted.keys():
        cost = kind.move_cost * (moved[kind] + evicted[kind]) + EVICTION_COST * evicted[kind]
        costs["disruption"] += cost
        costs.update({f"disruption from {t}": cost for t in tiers if t <= kind.priority})
    return costs


def _survivors(about: Evidence) -> Mapping[PodKind, int]:
    """Return how many pods that the plan might have disturbed go on running, by kind."""
    survives = (about.after.before >= 0) & ~about.leaving
    survives[about.after.evicted.pods[about.after.evicted.pods >= 0]] = False
    survivors = about.kinds_at(np.flatnonzero(survives))
    return {kind: n for kind, n in survivors.items() if kind.disruption is not Disruption.FIXED}


def _free_slots(about: Evidence) -> Counter[str]:
    """Return the whole free slots on nodes that take pods, by size."""
    takes = [node.ready and node.schedulable for node in about.snapshot.node_kinds.values]
    takers = np.array(takes, dtype=np.bool_)[about.node_kind]
    slots: Counter[str] = Counter()
    for resource in filter(units.is_gpu, about.amounts.names):
        free = about.there(resource) - about.in_use(resource)
        if resource == units.SHARED_GPU:
            for n, shared in about.shared.items():
                free[n] -= shared.gpus
        free = np.maximum(free[takers], 0)
        for size in (8, 4, 2, 1):
            slots[f"free {size}-GPU slots"] += int((free // size).sum())
    return slots
