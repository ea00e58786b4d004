"""Partial gangs that never were whole: who gives its room back, so that all of it waits together.

Gates cannot be shut again. A gang is released by one patch for each pod, and though that is
rehearsed, one of them may be refused in earnest, a newer plan may come before it with other things
to do with the room, or a node is lost between the patch and the binding. Pods that run then are of
no use, and keep room from others. Where nothing is under way that would make it whole, they are
evicted, their owners make them anew, and they wait behind their gates with the others:

    released ─▶ some run, the rest waits in vain ──`PARTIAL_S` after the first─▶ evicted ─▶ all wait

Who is on its way to a node that can take it waits for kube-scheduler, however long that takes, and
not in vain.

An InferenceDeployment does so with its units by itself (`bayplan.inference.rollout`), also with
those that served once, but for pods that are pinned and cannot be bound. What others run may still
be of use to them when a pod is lost, so only that is called back of which it is sure that it never
was whole for longer than a moment: a gang of just as many pods as it needs, one of which was made
no later than `MOMENT_S` after the first of the others had its node.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bayplan.api import names
from bayplan.cluster.keys import GangKey
from bayplan.cluster.pods import Disruption, Ended, Pod, ended_with

#: Seconds from the first node that a gang gets after which it gives it back.
PARTIAL_S: Final = 15

#: Seconds from the first node that a gang gets. One that loses a pod in them was not whole for long
#: enough to be of use to anybody, and what comes in that pod's place is the rest of a new gang.
MOMENT_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A pod of a gang.

    Attributes:
        pod: The pod.
        bound_at: Since when it has its node, in seconds since the epoch; 0 if it has none yet.
        planned: Whether a plan gave it its node.
    """

    pod: Pod
    bound_at: int = 0
    planned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialGang:
    """Pods that are to give their room back, those first that may yet be bound.

    Attributes:
        pods: The pods; none where nobody may be asked to.
        since: When the first of them got its node, in seconds since the epoch; 0 if none has yet.
    """

    pods: tuple[Pod, ...] = ()
    since: int = 0


#: A gang that is not partial, or of which nobody may be asked to go.
WHOLE: Final = PartialGang()


def suspects(
    pods: Iterable[Pod], held: Collection[str], stuck: Collection[str] = ()
) -> frozenset[GangKey]:
    """Return the gangs of which pods wait in vain, and others may have a node.

    `pods` are all that are not bound; `held` and `stuck` as for `partial_gang`.
    """
    unbound = [*pods]
    there = Counter(pod.gang for pod in unbound if pod.node is None)
    return frozenset(
        pod.gang
        for pod in unbound
        if pod.gang is not None
        and pod.uid in (held if pod.node is None else stuck)
        and there[pod.gang] < pod.gang_min_count
    )


def partial_gang(
    members: Sequence[Member],
    held: Collection[str],
    stuck: Collection[str] = (),
    *,
    ended: Iterable[Ended] = (),
) -> PartialGang:
    """Return the pods of one gang that are to give their room back.

    `members` are all of its pods that have not ended, `ended` those that have ended well: with one
    of the same run it was whole. `held` are the uids of pods that have no place in the newest plan,
    `stuck` of those that cannot be bound where they are pinned.
    """
    pods = [member.pod for member in members]
    if {pod.gang_min_count for pod in pods} != {len(members)} or ended_with(pods, ended):
        return WHOLE
    placed = [member for member in members if member.pod.node is not None]
    waiting = [pod for pod in pods if pod.node is None]
    trapped = [m.pod for m in placed if not m.pod.bound and m.pod.uid in stuck]
    if any(pod.terminating for pod in pods):
        return WHOLE
    if not trapped and not all(pod.uid in held and _is_in_vain(pod) for pod in waiting):
        return WHOLE
    first_at = min((m.bound_at for m in placed if m.bound_at), default=math.inf)
    never_whole = any(pod.created_at <= first_at + MOMENT_S for pod in (*waiting, *trapped))
    if not never_whole or not all(_may_go(member, stuck=bool(trapped)) for member in placed):
        return WHOLE
    going = sorted((pod for pod in pods if pod.node is not None), key=lambda pod: pod.bound)
    return PartialGang(pods=tuple(going), since=0 if math.isinf(first_at) else int(first_at))


def _is_in_vain(pod: Pod) -> bool:
    """Return whether a pod without a place is not on its way, though somebody lifted its gate."""
    return pod.waiting or bool(pod.refused)


def _may_go(member: Member, *, stuck: bool) -> bool:
    """Return whether a pod comes again if it is evicted, and may be.

    An InferenceDeployment sees to its own, unless one of them is stuck.
    """
    pod = member.pod
    if pod.owner is None:
        return False
    if pod.owner.kind == names.KIND_DEPLOYMENT and not stuck:
        return False
    return member.planned and not (pod.bound and pod.disruption is Disruption.FIXED)
