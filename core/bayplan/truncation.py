"""What of a plan is published where its objects have no room for all of it.

The planner's loop asks before it publishes. Steps of the lowest priority are left out, as
`bayplan.bounding` chooses them, and what is left is validated as a plan of its own: pods ask for
the company of others, spread over zones with others, and take the places of others. Where it does
not stand by itself, a plan is made for fewer pods.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from operator import attrgetter
from typing import Final

from bayplan import bounding, planner
from bayplan.cluster.keys import PodKey
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import parts
from bayplan.plan import Certificate, Hold, Plan, Reason, Rejection, Result, Stage, Verdict
from bayplan.policy import Policy
from bayplan.validate import reached, validate

#: How often a plan is made for half as many pods, before nobody is placed at all.
_HALVINGS: Final = 4

_LATER: Final = Rejection(
    reason=Reason.NO_PLACE_FOUND,
    message="more pods are placed at once than one plan can list; the next plans go on",
)


def publishable(
    snapshot: Snapshot,
    policy: Policy,
    result: Result,
    *,
    clock: Callable[[], float],
    listed: Callable[[Plan], Plan] = parts.listed,
) -> Result:
    """Return the result with no more steps than `listed` keeps, as a valid plan.

    Nearly every one comes back as it is. Pods whose step is left out are held, and the certificate
    ends with the first stage that falls short. Each plan that is made for fewer pods may take the
    time limit of the policy on `clock`.
    """
    kept = listed(result.plan)
    if _steps(kept) == _steps(result.plan):
        return result
    for _ in range(_HALVINGS):
        truncated = _truncated(snapshot, policy, result.plan, kept)
        if not validate(snapshot, policy, truncated):
            return replace(result, plan=truncated)
        fewer = _with_only(snapshot, bounding.most_urgent(kept.binds, len(kept.binds) // 2))
        kept = listed(planner.plan(fewer, policy, clock=clock).plan)
    nothing = Plan(certificate=result.plan.certificate)
    return replace(result, plan=_truncated(snapshot, policy, result.plan, nothing))


def _steps(plan: Plan) -> tuple[object, ...]:
    return plan.binds, plan.moves, plan.evictions


def _with_only(snapshot: Snapshot, pods: AbstractSet[PodKey]) -> Snapshot:
    """Return the cluster as if of those that wait there were only these."""
    return replace(
        snapshot, pods=tuple(pod for pod in snapshot.pods if not pod.waiting or pod.key in pods)
    )


def _truncated(snapshot: Snapshot, policy: Policy, whole: Plan, kept: Plan) -> Plan:
    """Return the plan that takes the steps of `kept`, and holds whoever `whole` binds beside it."""
    bound = {bind.pod for bind in kept.binds}
    left_out = (
        Hold(pod=bind.pod, uid=bind.uid, rejection=_LATER, gang=bind.gang)
        for bind in whole.binds
        if bind.pod not in bound
    )
    holds = tuple(sorted((*whole.holds, *left_out), key=attrgetter("pod")))
    truncated = replace(kept, holds=holds)
    return replace(truncated, certificate=_certificate(snapshot, policy, whole, truncated))


def _certificate(snapshot: Snapshot, policy: Policy, whole: Plan, truncated: Plan) -> Certificate:
    """Return what is proved of a truncated plan.

    Bounds count as far as the stages before them have the same values. What is left out is better
    for some later stage, but no longer bounded there.
    """
    values = reached(snapshot, policy, truncated)
    stages: list[Stage] = []
    for stage in whole.certificate.stages:
        stages.append(replace(stage, value=values[stage.name]))
        if stages[-1].value != stage.value:
            break
    moves = truncated.binds or truncated.moves
    return Certificate(
        order=whole.certificate.order,
        verdict=Verdict.IMPROVED if moves else Verdict.UNCHANGED,
        stages=tuple(stages),
    )
