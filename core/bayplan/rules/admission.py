"""What the API server did not admit of the last plans, so that the next ones do not ask for it.

An admission policy may forbid that a pod is released or evicted, or the pod itself be such that no
change of it is valid. Nothing of that can be seen before it is tried, and a plan of which one step
is refused does nothing else either: the next plan would be the same, and stop there again. So who
was refused is left out for a while: a waiting pod is held with the reason, a running one stays.
What is known is in the status of plans, for the pod may be one that takes no annotation.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan

#: Seconds for which they are left out at least, however short the cooldown is.
_LEAST_S: Final = 60.0


def refused(plans: Iterable[PublishedPlan], *, now: float, cooldown_s: float) -> Mapping[str, str]:
    """Return who is to be left out at `now` (seconds since the epoch), by uid, and why.

    That ends `cooldown_s` seconds after the plan has, or a minute if that is more. A plan that has
    ended in the future was ended by a clock that was wrong: it counts from its creation.
    """
    told: dict[str, str] = {}
    for published in sorted(plans, key=lambda plan: plan.sequence):
        if not published.finished or now < _over_at(published, now, cooldown_s):
            told |= published.refused
    return told


def next_end(plans: Iterable[PublishedPlan], *, now: float, cooldown_s: float) -> float:
    """Return when the next of them is left out no more, in seconds since the epoch.

    Infinite if none is known.
    """
    ended = (plan for plan in plans if plan.refused and plan.finished)
    ends = (_over_at(plan, now, cooldown_s) for plan in ended)
    return min((at for at in ends if now < at), default=math.inf)


def _over_at(published: PublishedPlan, now: float, cooldown_s: float) -> float:
    wrong = published.finished_at > now + _LEAST_S
    since = published.created_at if wrong else published.finished_at
    return since + max(_LEAST_S, cooldown_s)


def set_aside(snapshot: Snapshot, told: Mapping[str, str]) -> Snapshot:
    """Return the snapshot in which no plan asks anything for the pods with these uids."""
    if not told or not any(pod.uid in told for pod in snapshot.pods):
        return snapshot
    pods = (_left_out(pod, told[pod.uid]) if pod.uid in told else pod for pod in snapshot.pods)
    return replace(snapshot, pods=tuple(pods))


def _left_out(pod: Pod, why: str) -> Pod:
    if pod.waiting:
        return replace(pod, constraints=replace(pod.constraints, barred=why))
    if pod.bound and pod.disruption is not Disruption.FIXED:
        return replace(pod, disruption=Disruption.FIXED, fixed_by=why)
    return pod
