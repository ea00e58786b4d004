"""When a waiting pod must not wait for us any longer, and when a pin has become a trap.

Two ways in which nothing waits for ever: with no planner alive, gates are lifted and the default
algorithm places the pods; a pod that was pinned to a node which cannot take it any more is
replaced by a fresh one. The operator asks on every round and acts; planner and webhook ask whose
pin to believe.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from bayplan.cluster.keys import NodeName, PodKey
from bayplan.cluster.nodes import Node
from bayplan.cluster.pods import Pod
from bayplan.cluster.resources import Resources
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Hold, Reason
from bayplan.policy import NodeProvisioning, Policy
from bayplan.rules import filters

#: Why a pod waits for something other than room: a search that found nothing proves nothing, a
#: gang must first be complete, a pod that is in the way may leave later.
_NO_NODE_HELPS: Final = frozenset(
    {
        Reason.NO_PLACE_FOUND,
        Reason.GANG_INCOMPLETE,
        Reason.DISRUPTION_FORBIDDEN,
        Reason.VOLUME_UNREADABLE,
        Reason.NOT_ADMITTED,
        Reason.REFUSED_ON_NODE,
    }
)

#: How taints begin by which Kubernetes says how a node does, which may be over in a moment.
_PASSING: Final = "node.kubernetes.io/"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSigns:
    """What is known about the planner, in seconds of a clock that never jumps.

    Attributes:
        renewed_at: When its lease was last renewed by one whose passes do not fail; None if never.
        watched_since: When we began to look: a planner that is older than us may be starting too.
        timeout_s: Seconds of silence after which it counts as away.
    """

    renewed_at: float | None
    watched_since: float
    timeout_s: float

    def away_s(self, now: float) -> float:
        """Return the seconds of silence, or 0 while the planner counts as alive."""
        silence = now - max(self.watched_since, self.renewed_at or 0.0)
        return silence if silence >= self.timeout_s else 0.0


def overdue(
    pods: Iterable[Pod], signs: PlannerSigns, seen_at: Mapping[str, float], *, at: float, now: float
) -> tuple[Pod, ...]:
    """Return the waiting pods whose gates must be lifted now; none while a planner is alive.

    A pod gets the full time-out from its creation, too, so that a planner that comes back has a
    chance to place it; or from when we first saw it, for its creation may lie in our future.

    Args:
        pods: Pods that have no node.
        signs: What is known about the planner.
        seen_at: When they were first seen, by uid, on the clock of the signs.
        at: The time on the clock of the signs.
        now: Seconds since the epoch, as pods are told theirs.
    """
    if not signs.away_s(at):
        return ()
    return tuple(
        pod
        for pod in pods
        if pod.waiting
        and max(now - pod.created_at, at - seen_at.get(pod.uid, at)) >= signs.timeout_s
    )


def to_offer(holds: Iterable[Hold], policy: Policy) -> frozenset[str]:
    """Return the uids of held pods that node autoscalers should get to see.

    Those that are proved not to fit, whatever may be disturbed, and all of their gang with them.
    Whoever would fit once a budget or a cooldown admits it needs no new node.
    """
    if policy.node_provisioning is NodeProvisioning.NEVER:
        return frozenset()
    return frozenset(hold.uid for hold in holds if hold.rejection.reason not in _NO_NODE_HELPS)


def stranded(snapshot: Snapshot, pinned: Iterable[Pod]) -> Mapping[str, str]:
    """Return, by uid, why each of the `pinned` pods can never be bound where its pin says.

    `snapshot` holds the nodes they are pinned to with every pod on them.
    """
    nodes = {node.name: node for node in snapshot.nodes}
    free = snapshot.free()
    reasons: dict[str, str] = {}
    by_node: dict[NodeName, list[Pod]] = defaultdict(list)
    for pod in pinned:
        if pod.node is not None:
            by_node[pod.node].append(pod)
    for name, pods in by_node.items():
        if name in nodes:
            hopeless_here = hopeless(nodes[name], free[name], pods)
            reasons |= {pod.uid: why for pod, why in hopeless_here}
        else:
            reasons |= {pod.uid: f"{name} is gone" for pod in pods}
    return reasons


def shut_out(snapshot: Snapshot, pinned: Iterable[Pod]) -> frozenset[str]:
    """Return the uids of the `pinned` pods whose node takes them no more, as somebody has said.

    It is cordoned, tainted, or reported broken. That does not pass by itself in the time that a
    binding takes, as what Kubernetes says of a node may.
    """
    nodes = {node.name: _lasting(node) for node in snapshot.nodes}
    there = ((pod, nodes[pod.node]) for pod in pinned if pod.node in nodes)
    return frozenset(
        pod.uid for pod, node in there if not filters.tolerates_taints(pod.constraints, node)
    )


def _lasting(node: Node) -> Node:
    taints = tuple(taint for taint in node.taints if not taint.key.startswith(_PASSING))
    return replace(node, taints=taints)


def hopeless(node: Node, free: Resources, pinned: Collection[Pod]) -> Iterator[tuple[Pod, str]]:
    """Yield those of the `pinned` pods that can never be bound to the node, with the reason.

    `free` is what all pods leave of it, these included. First go those that would not fit there
    without the others, then, on a node that is over-full, the youngest until the rest fits.
    """
    bare = sum((pod.requests for pod in pinned), free)

    def order(pod: Pod) -> tuple[bool, int, PodKey]:
        return filters.reject(pod, node, bare) is None, -pod.created_at, pod.key

    for pod in sorted(pinned, key=order):
        refusal = filters.static_rejection(pod, node)
        if refusal is None and pod.requests.fits(free + pod.requests):
            continue
        yield pod, refusal.message if refusal else f"others took its room on {node.name}"
        free = free + pod.requests


def believed(snapshot: Snapshot, *, ours: Collection[str] = ()) -> Snapshot:
    """Return the snapshot without pods whose pin cannot be kept.

    Anybody may pin a pod to any node; what can never be bound there takes none of its room. The
    pods with the uids in `ours` were pinned since others were judged: they stay, and it is judged
    of the others as it was without them.
    """
    names = {node.name for node in snapshot.nodes}
    pinned = [
        pod
        for pod in snapshot.placed()
        if not pod.bound and pod.node in names and pod.uid not in ours
    ]
    if not pinned:
        return snapshot
    at = {pod.node for pod in pinned}
    there = Snapshot.of(
        (node for node in snapshot.nodes if node.name in at),
        (pod for pod in snapshot.pods if pod.node in at and (pod.bound or pod.uid not in ours)),
    )
    never = stranded(there, pinned)
    if not never:
        return snapshot
    return replace(snapshot, pods=tuple(pod for pod in snapshot.pods if pod.uid not in never))
