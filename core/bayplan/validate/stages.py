"""Which stages a certificate has to tell of, found anew from the snapshot and the order asked for.

The names of the stages are all that this shares with the solver.
"""

from collections.abc import Iterator

import numpy as np

from bayplan import slots
from bayplan.aftermath import Numbers
from bayplan.cluster import units
from bayplan.cluster.pods import Disruption, Pod
from bayplan.plan import Verdict
from bayplan.policy import Order
from bayplan.validate.evidence import Evidence, Mask
from bayplan.validate.findings import Code, Violation, wrong
from bayplan.validate.gangs import placeable, placeable_counts


def told(about: Evidence, names: tuple[str, ...]) -> Iterator[Violation]:
    """Check that the certificate tells of these stages, and that its verdict follows from them.

    One that ends early claims nothing of the stages that it leaves out.
    """
    certificate = about.plan.certificate
    if certificate.order is not about.policy.order:
        yield wrong(
            Code.WRONG_STAGES, f"the order is {certificate.order}, not {about.policy.order}"
        )
    said = tuple(stage.name for stage in certificate.stages)
    if said != names[: len(said)]:
        yield wrong(Code.WRONG_STAGES, f"the stages are {', '.join(names)}; not {', '.join(said)}")
    elif certificate.verdict is not (verdict := _verdict(about, names)):
        yield wrong(Code.WRONG_VERDICT, f"the verdict is {verdict}, not {certificate.verdict}")


def _verdict(about: Evidence, names: tuple[str, ...]) -> Verdict:
    """Return what follows from the stages that are told."""
    plan = about.plan
    unproved = (i for i, stage in enumerate(plan.certificate.stages) if not stage.proved)
    proved = next(unproved, len(plan.certificate.stages))
    placing = max((i for i, name in enumerate(names, 1) if name.startswith("place ")), default=0)
    if any(about.snapshot.waits) and not plan.binds:
        return Verdict.INFEASIBLE if proved >= placing else Verdict.UNCHANGED
    if proved == len(names):
        return Verdict.OPTIMAL
    return Verdict.IMPROVED if plan.binds or plan.moves else Verdict.UNCHANGED


def in_order(about: Evidence) -> tuple[str, ...]:
    """Return the names of the stages for this snapshot and policy, most important first."""
    order = about.policy.order
    slots = tuple(_slots(about))
    first = 1 if order is Order.DEFRAGMENT else 0
    return (
        *_tiers(about),
        *slots[:first],
        *(() if order is Order.PROTECT_FIRST else ("disruption",)),
        *(f"topology {rank + 1}" for rank in range(_preferred(about))),
        *(("preference",) if _prefers(about) else ()),
        *slots[first:],
    )


def _tiers(about: Evidence) -> Iterator[str]:
    """Yield what is kept, placed and protected, from the highest tier down.

    Who preempts nobody is placed when no tier is left that could lose a pod for it. Of one tier go
    first those whom a deployment lacks, then those who preempt.
    """
    kinds = about.kinds_at(np.flatnonzero(decided(about)))
    keeps = {kind.priority for kind in kinds}
    stages: list[tuple[tuple[int, ...], str]] = [((-tier, 0), f"keep {tier}") for tier in keeps]
    for each in placeable_counts(about):
        tier = min(each.tier, *keeps) if each.gentle and keeps else each.tier
        turn = (-tier, 1, -each.tier, not each.needed, each.gentle)
        stages.append((turn, each.stage))
    if about.policy.order is Order.PROTECT_FIRST:
        stages += [((-tier, 2), f"disruption from {tier}") for tier in keeps]
    return (name for _, name in sorted(stages))


def decided(about: Evidence) -> Mask:
    """Return [pod] whether it runs and may be disturbed."""
    kinds = about.snapshot.kinds
    fixed = np.array([kind.disruption is Disruption.FIXED for kind in kinds], dtype=np.bool_)
    return (about.after.before >= 0) & ~about.leaving & ~fixed[about.after.kind_of]


def _prefers(about: Evidence) -> bool:
    """Return whether somebody who may come to a node prefers some."""
    runs = about.kinds_at(np.flatnonzero(decided(about)))
    asked = {kind for kind in runs if kind.disruption is Disruption.MOVABLE}
    asked |= about.kinds_at(placeable(about)).keys()
    return any(kind.constraints.prefers for kind in asked)


def _preferred(about: Evidence) -> int:
    """Return how many labels a gang names in whose domains it would like to be whole."""
    new = (g for g in about.gangs.values() if not g.running and not g.lacks_pods)
    return max((len(g.topology.preferred) for g in new if g.topology), default=0)


def _slots(about: Evidence) -> Iterator[str]:
    """Yield the sizes of slots of which there could be any, with all gone that may go."""
    stays = (about.after.before >= 0) & ~decided(about)
    pods, rows = np.flatnonzero(stays), about.after.before[stays]
    room = [
        _left(about, resource, pods, rows)[about.takers]
        for resource in filter(units.is_gpu, about.amounts.names)
    ]
    for size in slots.SIZES:
        if any((free // size).any() for free in room):
            yield f"free {size}-GPU slots"


def _left(about: Evidence, resource: str, pods: Numbers, rows: Numbers) -> Numbers:
    """Return [node] what is left of a resource by these pods on these nodes; none if too little."""
    asked = np.array([kind.requests[resource] for kind in about.snapshot.kinds], dtype=np.int64)
    left = about.there(resource)
    np.subtract.at(left, rows, asked[about.after.kind_of[pods]])
    if resource == units.SHARED_GPU:
        of = zip(map(about.snapshot.pods.__getitem__, pods.tolist()), rows.tolist(), strict=True)
        held = {_held(pod, n) for pod, n in of if pod.requests.share_milli}
        np.subtract.at(left, [n for n, _ in held], 1)
    return np.maximum(left, 0)


def _held(pod: Pod, n: int) -> tuple[int, int | str]:
    """Return which GPU of node `n` a share holds; where nobody knows, one of its own."""
    return n, pod.uid if pod.requests.device is None else pod.requests.device
