"""Checks that the certificate says what the actions reach, stage by stage."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np

from bayplan import slots
from bayplan.cluster import units
from bayplan.cluster.pods import PodKind
from bayplan.plan import EVICTION_COST, Plan
from bayplan.rules import between, filters
from bayplan.validate.evidence import Evidence, gather
from bayplan.validate.findings import Code, Violation, wrong
from bayplan.validate.gangs import newcomers
from bayplan.validate.stages import decided, in_order, told


def objective(about: Evidence) -> Iterator[Violation]:
    """Check that the certificate says what the actions reach, and that they are worth it."""
    names, found = in_order(about), counted(about)
    yield from told(about, names)
    yield from _claimed(about, found)
    if about.plan.victims:
        yield from _gained(about, names, found)


def _claimed(about: Evidence, found: Counter[str]) -> Iterator[Violation]:
    """Check that each stage has its value, and no bound is beaten."""
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


def _gained(about: Evidence, names: tuple[str, ...], found: Counter[str]) -> Iterator[Violation]:
    """Check that doing nothing is worth less: the first stage in which that differs decides."""
    idle = _of_doing_nothing(about)
    for name in names:
        change = found[name] - idle(name)
        if change:
            if (change > 0) is name.startswith("disruption"):
                yield wrong(
                    Code.NO_GAIN, f"{name} is {found[name]}; without the plan it is {idle(name)}"
                )
            return


def _of_doing_nothing(about: Evidence) -> Callable[[str], int]:
    """Return what tells the value of a stage if nothing is done."""
    runs = about.kinds_at(np.flatnonzero(decided(about)))
    kept: Counter[str] = Counter()
    for kind, n in runs.items():
        kept[f"keep {kind.priority}"] += n

    @cache
    def free() -> Counter[str]:
        # Hardly ever asked for: what binds, moves or evicts differs before it comes to slots.
        idle = Plan(certificate=about.plan.certificate)
        return _free_slots(gather(about.snapshot, about.policy, idle))

    return lambda name: free()[name] if name.startswith("free ") else kept[name]


def counted(about: Evidence) -> Counter[str]:
    """Return what the actions reach, by name of the stage."""
    found: Counter[str] = Counter()
    for kind, n in _survivors(about).items():
        found[f"keep {kind.priority}"] += n
    for each, n in newcomers(about).items():
        found[each.stage] += n
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
    survives = decided(about)
    survives[about.after.evicted.pods[about.after.evicted.pods >= 0]] = False
    return about.kinds_at(np.flatnonzero(survives))


def _free_slots(about: Evidence) -> Counter[str]:
    """Return the whole free slots on nodes that take pods, by size."""
    found: Counter[str] = Counter()
    for resource in filter(units.is_gpu, about.amounts.names):
        free = about.there(resource) - about.in_use(resource)
        if resource == units.SHARED_GPU:
            for n, shared in about.shared.items():
                free[n] -= shared.gpus
        free = np.maximum(free[about.takers], 0)
        for size in slots.SIZES:
            found[f"free {size}-GPU slots"] += int((free // size).sum())
    return found
