"""Half a gang that never was whole: who gives its room back, so that all of it waits together.

Gates cannot be shut again. A gang is released by one patch for each pod, and though that is
rehearsed, one of them may be refused in earnest, or a newer plan may come before it with other
things to do with the room. Pods that run then are of no use, and keep room from others. Where the
newest plan has no place for the rest, they are evicted, their owners make them anew, and they wait
behind their gates with the others:

    released ─▶ some run, the newest plan holds the rest ──`HALF_S`──▶ evicted ─▶ all wait

An InferenceDeployment does so with its units by itself (`bayplan.inference.rollout`), also with
those that served once. What others run may still be of use to them when a pod is lost, so only
that is called back of which it is sure that it never was whole: a gang of just as many pods as it
needs, one of which has waited since before the first of the others had its node.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from bayplan.api import names
from bayplan.cluster.keys import GangKey
from bayplan.cluster.snapshot import Disruption, Pod
from bayplan.inference.rollout import HALF_S

__all__ = ["HALF_S", "Member", "half", "suspects"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A pod of a gang; None where it has ended.

    Attributes:
        pod: The pod.
        bound_at: Since when it has its node, in seconds since the epoch; 0 if it has none yet.
        planned: Whether a plan gave it its node.
    """

    pod: Pod | None
    bound_at: int = 0
    planned: bool = False


def suspects(pods: Iterable[Pod], held: Collection[str]) -> frozenset[GangKey]:
    """Return the gangs of which pods are `held`, by uid, and others may have a node.

    `pods` are all that have none.
    """
    waiting = [pod for pod in pods if pod.node is None]
    there = Counter(pod.gang for pod in waiting)
    return frozenset(
        pod.gang
        for pod in waiting
        if pod.gang is not None and pod.uid in held and there[pod.gang] < pod.gang_min_count
    )


def half(members: Sequence[Member], held: Collection[str]) -> tuple[Pod, ...]:
    """Return the pods of one gang that are to give their room back; none where one may not.

    `members` are all of its pods, `held` the uids of those that the newest plan has no place for.
    """
    pods = [member.pod for member in members if member.pod is not None]
    if {pod.gang_min_count for pod in pods} != {len(members)} or len(pods) < len(members):
        return ()
    placed = [m for m in members if m.pod is not None and m.pod.node is not None]
    waiting = [pod for pod in pods if pod.node is None]
    if any(pod.terminating for pod in pods) or any(pod.uid not in held for pod in waiting):
        return ()
    first_at = min((m.bound_at for m in placed if m.bound_at), default=math.inf)
    never_whole = any(pod.created_at <= first_at for pod in waiting)
    if not never_whole or not all(map(_may_go, placed)):
        return ()
    return tuple(pod for pod in pods if pod.node is not None)


def _may_go(member: Member) -> bool:
    """Return whether a pod comes again if it is evicted, and may be."""
    pod = member.pod
    if pod is None or pod.owner is None or pod.owner.kind == names.KIND_DEPLOYMENT:
        return False
    return member.planned and not (pod.bound and pod.disruption is Disruption.FIXED)
