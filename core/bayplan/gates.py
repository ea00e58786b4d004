"""When a waiting pod must not wait for us any longer, and when a pin has become a trap.

Two ways in which nothing waits for ever: with no planner alive, gates are lifted and the default
algorithm places the pods; a pod that was pinned to a node which cannot take it any more is
replaced by a fresh one. The operator asks on every round and acts.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bayplan import filters
from bayplan.plan import Hold, Reason
from bayplan.policy import NodeProvisioning, Policy
from bayplan.snapshot import NodeName, Pod, Snapshot

#: Why a pod waits for something other than room: a search that found nothing proves nothing, a
#: gang must first be complete, a pod that is in the way may leave later.
_NO_NODE_HELPS: Final = frozenset(
    {Reason.NO_PLACE_FOUND, Reason.GANG_INCOMPLETE, Reason.DISRUPTION_FORBIDDEN}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSigns:
    """What is known about the planner, in seconds of a clock that never jumps.

    Attributes:
        renewed_at: When its lease was last renewed; None without a lease.
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


def overdue(pods: Iterable[Pod], signs: PlannerSigns, *, at: float, now: float) -> tuple[Pod, ...]:
    """Return the waiting pods whose gates must be lifted now; none while a planner is alive.

    A pod gets the full time-out from its creation, too, so that a planner that comes back has a
    chance to place it.

    Args:
        pods: Pods that have no node.
        signs: What is known about the planner.
        at: The time on the clock of the signs.
        now: Seconds since the epoch, as pods are told theirs.
    """
    if not signs.away_s(at):
        return ()
    late = (pod for pod in pods if pod.waiting and not pod.terminating)
    return tuple(pod for pod in late if now - pod.created_at >= signs.timeout_s)


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

    `snapshot` holds the nodes they are pinned to with every pod on them. On a node that is
    over-full, the youngest pinned pods go until the rest fits.
    """
    nodes = {node.name: node for node in snapshot.nodes}
    free = snapshot.free()
    reasons: dict[str, str] = {}
    by_node: dict[NodeName, list[Pod]] = defaultdict(list)
    for pod in pinned:
        if pod.node is not None and not pod.bound and not pod.terminating:
            by_node[pod.node].append(pod)
    for name, pods in by_node.items():
        for pod in sorted(pods, key=lambda p: (-p.created_at, p.key)):
            node = nodes.get(name)
            if node is None:
                reasons[pod.uid] = f"{name} is gone"
            elif refusal := filters.static_rejection(pod, node):
                reasons[pod.uid] = refusal.message
            elif not pod.requests.fits(free[name] + pod.requests):
                reasons[pod.uid] = f"others took its room on {name}"
                free[name] = free[name] + pod.requests
    return reasons
