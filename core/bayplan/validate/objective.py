"""Checks that the certificate says what the actions reach, stage by stage."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from operator import attrgetter

from bayplan import between, filters, units
from bayplan.plan import EVICTION_COST
from bayplan.snapshot import Disruption, PodKind
from bayplan.validate.evidence import Evidence
from bayplan.validate.findings import Code, Violation, wrong
from bayplan.validate.gangs import newcomers


def objective(about: Evidence) -> Iterator[Violation]:
    """Check that the certificate says what the actions reach, and no bound is beaten."""
    counted = _counted(about)
    for stage in about.plan.certificate.stages:
        value = counted.get(stage.name, 0)
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


def _counted(about: Evidence) -> Counter[str]:
    """Return what the actions reach, by name of the stage."""
    counted: Counter[str] = Counter()
    for kind, n in _survivors(about).items():
        counted[f"keep {kind.priority}"] += n
    for each, n in newcomers(about).items():
        suffix = " without preemption" if each.gentle else ""
        counted[f"place {each.tier}{suffix}"] += n
    counted.update(_disruption(about))
    choosy = {kind for kind in about.coming if kind.constraints.prefers}
    counted["preference"] = sum(
        filters.preference(pod.constraints.prefers, about.nodes[name])
        for pod, name in (about.arrivals if choosy else ())
        if pod.kind in choosy and name in about.nodes
    )
    if about.placement is not None:
        counted.update(between.gathered(about.placement))
    counted.update(_free_slots(about))
    return counted


def _disruption(about: Evidence) -> Counter[str]:
    """Return what running pods suffer, in all and from each tier up."""
    moved = Counter(pod.kind for _, pod in about.moved)
    evicted = Counter(pod.kind for _, pod in about.evicted)
    tiers = {kind.priority for kind in about.snapshot.kinds}
    costs: Counter[str] = Counter()
    for kind in moved.keys() | evicted.keys():
        cost = kind.move_cost * (moved[kind] + evicted[kind]) + EVICTION_COST * evicted[kind]
        costs["disruption"] += cost
        costs.update({f"disruption from {t}": cost for t in tiers if t <= kind.priority})
    return costs


def _survivors(about: Evidence) -> Counter[PodKind]:
    """Return how many pods that the plan might have disturbed go on running, by kind."""
    here = chain.from_iterable(about.snapshot.here.values())
    running = Counter(map(attrgetter("kind"), here))
    survivors = Counter(
        {kind: n for kind, n in running.items() if kind.disruption is not Disruption.FIXED}
    )
    for pod in (
        *about.snapshot.leaving,
        *(about.pods[key] for key in about.gone if key in about.pods),
    ):
        if pod.node in about.nodes and pod.kind.disruption is not Disruption.FIXED:
            survivors[pod.kind] -= 1
    return survivors


def _free_slots(about: Evidence) -> Counter[str]:
    """Return the whole free slots on nodes that take pods, by size; nodes alike are looked at once.

    They are alike if the same is there and the same is used.
    """
    used, shared = about.used, about.shared
    takers = [node for node in about.snapshot.nodes if node.ready and node.schedulable]
    gpus_in_parts = [shared[node.name].gpus if node.name in shared else 0 for node in takers]
    states = [
        (id(node.allocatable), id(used[node.name]), parts)
        for node, parts in zip(takers, gpus_in_parts, strict=True)
    ]
    example = dict(zip(states, takers, strict=True))
    slots: Counter[str] = Counter()
    for state, count in Counter(states).items():
        node, parts = example[state], state[-1]
        for resource, n in node.allocatable.items:
            if units.is_gpu(resource):
                taken = used[node.name].get(resource, 0)
                taken += parts if resource == units.SHARED_GPU else 0
                free = max(0, n - taken)
                for size in (8, 4, 2, 1):
                    slots[f"free {size}-GPU slots"] += free // size * count
    return slots
