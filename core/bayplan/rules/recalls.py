"""Pods that were refused where a plan had put them: how long which nodes rest for them.

Why kube-scheduler or a kubelet refuses a pod no plan knows, so the next one would ask the same
again: a whole gang would start and be called back twice a minute. So each time has it wait for
twice as long as the time before, and other nodes are tried before those that have refused it:

    called back ── as long as the time before ──▶ other nodes ── its own pause ──▶ any node

So it is with the pods that a controller makes and that are of no gang; but these go to other nodes
at once, as long as few have refused them: one broken node is not to keep a Deployment from growing.
It counts from the beginning once the pods or one of these nodes are others; the operator sees that.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate, islice
from operator import itemgetter
from typing import Final

from bayplan.api.packing_plan import MAX_REFUSING, MAX_REVISIONS
from bayplan.cluster.keys import GangKey, NodeName, Owner
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod, PodKind
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan
from bayplan.codec.recalls import Group, Recall, bytes_of
from bayplan.rules import filters

#: Nodes that may be at fault themselves if they refuse pods of no gang; with more, the pods are.
_FEW: Final = 2

#: Seconds for which the nodes that have refused a gang rest after the first time, and at most.
_FIRST_S: Final = 60
_MOST_S: Final = 3600

#: Seconds after a pause for which it counts how often pods were refused, at least: they may wait
#: for room before they are on their way again, and then for minutes until a pin counts as a trap.
_COUNTS_S: Final = 300

#: Seconds by which a call-back may lie in our future: beyond, the clock that told it was wrong.
_AHEAD_S: Final = 60.0

#: Tells of nodes that may take pods of a kind.
Takers = Callable[[PodKind], frozenset[NodeName]]


def standing(plans: Iterable[PublishedPlan], *, now: float) -> Mapping[Group, Recall]:
    """Return what still counts at `now` (seconds since the epoch), by whose pods they are.

    It does until they have had as long again as its pause to show that they are refused no more,
    or five minutes if that is longer.
    What was told by a clock that is far ahead of ours keeps nobody waiting, unless the newest plan
    was made by it, too: then it is the API server's, and ours is behind.
    """
    known = tuple(plans)
    newest, teller = max(known, key=lambda plan: plan.sequence, default=None), last_told(known)
    told = (teller.recalled if teller else None) or ()
    now = max(now, newest.created_at if newest else 0)
    return {
        recall.group: recall
        for recall in told
        if recall.at - _AHEAD_S <= now < _counts_until(recall)
    }


def last_told(plans: Iterable[PublishedPlan]) -> PublishedPlan | None:
    """Return the newest plan that tells who was refused; it tells of all of them."""
    told = (plan for plan in plans if plan.recalled is not None)
    return max(told, key=lambda plan: plan.sequence, default=None)


def again(before: Recall | None, made: Recall) -> Recall:
    """Return that pods were refused once more; `before` is what still counted of them.

    Several may have been on their way to one node: while it rests, that is the same time.
    """
    if before is None:
        return made
    names = {name for name, _ in made.nodes}
    if made.at < _times(before)[1] and names & _refusing(before):
        return before
    nodes = (*made.nodes, *(node for node in before.nodes if node[0] not in names))
    return replace(made, times=before.times + 1, nodes=nodes[:MAX_REFUSING])


def knows(recall: Recall, revisions: Iterable[str]) -> bool:
    """Return whether pods of these templates were refused then; where not all fit, of any.

    Of a gang all of them, as it is of use as a whole. A controller may have pods of two templates
    in the middle of a rollout: while one of those that wait is of the one that was refused, it is.
    """
    told, then = set(revisions), set(recall.revisions)
    if isinstance(recall.group, Owner):
        return not told or bool(told & then)
    return len(then) == MAX_REVISIONS or told <= then


def most_pressing(known: Iterable[Recall], *, most: int, size: int) -> tuple[Recall, ...]:
    """Return at most so many, in so many bytes: the newest of each namespace, then the second, ...

    Else whoever has many pods that are refused would have those of others forgotten.
    """
    newest = sorted(known, key=lambda recall: (recall.at, str(recall.group)), reverse=True)
    before: Counter[str] = Counter()
    ranked: list[tuple[int, Recall]] = []
    for recall in newest:
        ranked.append((before[recall.group.namespace], recall))
        before[recall.group.namespace] += 1
    first = [recall for _, recall in sorted(ranked, key=itemgetter(0))[:most]]
    sizes = accumulate(map(bytes_of, first))
    return tuple(recall for recall, used in zip(first, sizes, strict=True) if used <= size)


def set_back(snapshot: Snapshot, recalls: Mapping[Group, Recall], *, now: float) -> Snapshot:
    """Return the snapshot in which pods that were refused come to no node too early.

    One of them that still runs is not moved there either, to make room for the others.
    """
    if not recalls:
        return snapshot
    # Hardly any pod is in a gang, nearly every one has an owner.
    owned = any(isinstance(group, Owner) for group in recalls)
    asked = snapshot.pods if owned else snapshot.in_gangs
    told = {pod.uid: recalls[group] for pod, group in _grouped(asked) if group in recalls}
    if not told:
        return snapshot

    @cache
    def takers(kind: PodKind) -> frozenset[NodeName]:
        """Return nodes that may take pods of a kind, of many some: more than may have refused."""
        taking = (node.name for node in snapshot.nodes if _takes(node, kind))
        return frozenset(islice(taking, MAX_REFUSING + 1))

    pods = (
        _kept_back(pod, told[pod.uid], takers, now) if pod.uid in told else pod
        for pod in snapshot.pods
    )
    return replace(snapshot, pods=tuple(pods))


def next_try(recalls: Iterable[Recall], *, now: float) -> float:
    """Return when the next of these pods are tried on more nodes, in seconds since the epoch.

    Infinite if none is known.
    """
    tries = (at for recall in recalls for at in _times(recall))
    return min((at for at in tries if now < at), default=math.inf)


def group_of(pod: Pod) -> Group | None:
    """Return with whom a pod is refused alike; None if nobody makes it again."""
    return pod.gang if pod.gang is not None else pod.owner


def in_words(recall: Recall) -> str:
    """Return why pods wait that were refused: who refused them, where, and until when."""
    others_at, any_at = _times(recall)
    where = recall.nodes[0][0] if recall.nodes else "its node"
    often = "once" if recall.times == 1 else f"{recall.times} times"
    others = (
        f"other nodes from {_said(others_at)}" if others_at > recall.at else "other nodes at once"
    )
    return (
        f"{recall.by.value} refused {recall.pod} on {where}, {often} so far:"
        f" {recall.message.rstrip('.')}; it is tried on {others}, and on {where} again from"
        f" {_said(any_at)}"
    )


def _kept_back(pod: Pod, recall: Recall, takers: Takers, now: float) -> Pod:
    others_at, any_at = _times(recall)
    if now >= any_at or pod.node in _refusing(recall):
        return pod
    where = tuple(name for name, _ in recall.nodes)
    if pod.waiting and (now < others_at or takers(pod.kind) <= {*where}):
        where = ()
    kept = replace(pod.constraints, refused=in_words(recall), refused_at=where)
    return replace(pod, constraints=kept)


def _takes(node: Node, kind: PodKind) -> bool:
    # Nobody reads why not, and to say why a node is too small takes longer than all else here.
    fits = kind.requests.fits(node.allocatable)
    return fits and filters.eligibility(kind.constraints, node) is None


def _times(recall: Recall) -> tuple[int, int]:
    """Return from when pods are tried on other nodes, and on all."""
    whole = isinstance(recall.group, GangKey) or len(recall.nodes) > _FEW
    others_s = _pause_s(recall.times - 1) if whole else 0
    return recall.at + others_s, recall.at + _pause_s(recall.times)


def _counts_until(recall: Recall) -> int:
    pause_s = _pause_s(recall.times)
    return recall.at + pause_s + max(pause_s, _COUNTS_S)


def _refusing(recall: Recall) -> frozenset[NodeName]:
    return frozenset(name for name, _ in recall.nodes)


def _grouped(pods: Iterable[Pod]) -> Iterator[tuple[Pod, Group]]:
    for pod in pods:
        group = group_of(pod)
        if group is not None:
            yield pod, group


def _pause_s(times: int) -> int:
    return min(_MOST_S, _FIRST_S << (min(times, 16) - 1)) if times > 0 else 0


def _said(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"
