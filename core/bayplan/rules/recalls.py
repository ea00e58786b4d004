"""Gangs that were called back, for kube-scheduler refused one of them: how long which nodes rest.

Why it refuses a pod no plan knows, so the next one would ask the same of it: the whole gang would
start and be called back twice a minute. So each time has it wait for twice as long as the time
before, and other nodes are tried before those that have refused it:

    called back ── as long as the time before ──▶ other nodes ── its own pause ──▶ any node

It counts from the beginning once its pods or one of these nodes are others; the operator sees that.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Final

from bayplan.api.packing_plan import MAX_REFUSING
from bayplan.cluster.keys import GangKey, NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod, PodKind
from bayplan.cluster.snapshot import Snapshot
from bayplan.codec import PublishedPlan
from bayplan.codec.recalls import Recall
from bayplan.rules import filters

#: Seconds for which the nodes that have refused a gang rest after the first time, and at most.
_FIRST_S: Final = 60
_MOST_S: Final = 3600

#: Seconds by which a call-back may lie in our future: beyond, the clock that told it was wrong.
_AHEAD_S: Final = 60.0

#: Tells of nodes that may take pods of a kind.
Takers = Callable[[PodKind], frozenset[NodeName]]


def standing(plans: Iterable[PublishedPlan], *, now: float) -> Mapping[GangKey, Recall]:
    """Return what still counts at `now` (seconds since the epoch), by gang.

    It does until the gang has had as long again as its pause to show that it is refused no more.
    What was told by a clock that is far ahead of ours keeps nobody waiting.
    """
    teller = last_told(plans)
    told = (teller.recalled if teller else None) or ()
    return {
        recall.gang: recall
        for recall in told
        if recall.at - _AHEAD_S <= now < recall.at + 2 * _pause_s(recall.times)
    }


def last_told(plans: Iterable[PublishedPlan]) -> PublishedPlan | None:
    """Return the newest plan that tells which gangs were called back; it tells of all of them."""
    told = (plan for plan in plans if plan.recalled is not None)
    return max(told, key=lambda plan: plan.sequence, default=None)


def again(before: Recall | None, made: Recall) -> Recall:
    """Return that a gang is called back once more; `before` is what still counted of it."""
    if before is None:
        return made
    names = {name for name, _ in made.nodes}
    nodes = (*made.nodes, *(node for node in before.nodes if node[0] not in names))
    return replace(made, times=before.times + 1, nodes=nodes[:MAX_REFUSING])


def set_back(snapshot: Snapshot, recalls: Mapping[GangKey, Recall], *, now: float) -> Snapshot:
    """Return the snapshot in which gangs that were called back come to no node too early.

    One of them that still runs is not moved there either, to make room for the others.
    """
    if not recalls or not any(pod.gang in recalls for pod in snapshot.in_gangs):
        return snapshot

    @cache
    def takers(kind: PodKind) -> frozenset[NodeName]:
        """Return nodes that may take pods of a kind, of many some: more than may have refused."""
        taking = (node.name for node in snapshot.nodes if not _rejects(node, kind))
        return frozenset(islice(taking, MAX_REFUSING + 1))

    pods = (
        _kept_back(pod, recalls[pod.gang], takers, now)
        if pod.gang is not None and pod.gang in recalls
        else pod
        for pod in snapshot.pods
    )
    return replace(snapshot, pods=tuple(pods))


def next_try(recalls: Iterable[Recall], *, now: float) -> float:
    """Return when the next of these gangs is tried on more nodes, in seconds since the epoch.

    Infinite if none is known.
    """
    tries = (at for recall in recalls for at in _times(recall))
    return min((at for at in tries if now < at), default=math.inf)


def in_words(recall: Recall) -> str:
    """Return why a gang waits that was called back: who refused it, where, and until when."""
    others_at, any_at = _times(recall)
    where = recall.nodes[0][0] if recall.nodes else "its node"
    often = "once" if recall.times == 1 else f"{recall.times} times"
    others = "other nodes at once" if recall.times == 1 else f"other nodes from {_said(others_at)}"
    return (
        f"kube-scheduler refused {recall.pod} on {where}, and its gang was called back {often}:"
        f" {recall.message}; tried on {others}, there again from {_said(any_at)}"
    )


def _kept_back(pod: Pod, recall: Recall, takers: Takers, now: float) -> Pod:
    others_at, any_at = _times(recall)
    if now >= any_at:
        return pod
    where = tuple(name for name, _ in recall.nodes)
    if pod.waiting and (now < others_at or takers(pod.kind) <= {*where}):
        where = ()
    kept = replace(pod.constraints, refused=in_words(recall), refused_at=where)
    return replace(pod, constraints=kept)


def _rejects(node: Node, kind: PodKind) -> bool:
    refusal = filters.eligibility(kind.constraints, node)
    return bool(refusal or filters.size_rejection(kind.requests, node))


def _times(recall: Recall) -> tuple[int, int]:
    """Return from when a gang is tried on other nodes, and on all."""
    return recall.at + _pause_s(recall.times - 1), recall.at + _pause_s(recall.times)


def _pause_s(times: int) -> int:
    return min(_MOST_S, _FIRST_S << (min(times, 16) - 1)) if times > 0 else 0


def _said(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"
