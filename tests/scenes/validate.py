"""Plans that are made by hand, action by action, for the validator to judge."""

from bayplan.cluster.keys import NodeName
from bayplan.cluster.pods import Pod
from bayplan.plan import (
    Bind,
    Certificate,
    Evict,
    Hold,
    Move,
    Plan,
    Reason,
    Rejection,
    Stage,
    Verdict,
    plan_of,
)
from bayplan.policy import Order

N0, N1 = NodeName("n0"), NodeName("n1")


def bind(of: Pod, to: NodeName) -> Bind:
    """Return the pod's bind."""
    return Bind(pod=of.key, uid=of.uid, node=to, gang=of.gang, priority=of.priority)


def move(of: Pod, to: NodeName) -> Move:
    """Return the pod's move from where it is."""
    assert of.node is not None
    return Move(
        pod=of.key, uid=of.uid, source=of.node, target=to, owner=of.owner, priority=of.priority
    )


def evict(of: Pod) -> Evict:
    """Return the pod's eviction from where it is."""
    assert of.node is not None
    return Evict(
        pod=of.key,
        uid=of.uid,
        node=of.node,
        priority=of.priority,
        owner=of.owner,
        gang=of.gang,
    )


def hold(of: Pod) -> Hold:
    """Return the pod's hold."""
    why = Rejection(reason=Reason.INSUFFICIENT_ROOM, message="no room")
    return Hold(pod=of.key, uid=of.uid, rejection=why, gang=of.gang)


def planned(
    *actions: Bind | Move | Evict | Hold,
    stages: tuple[Stage, ...] = (),
    verdict: Verdict | None = None,
    order: Order = Order.PLACE_FIRST,
) -> Plan:
    """Return a plan of these actions, which claims little unless it is told to."""
    does = any(isinstance(a, Bind | Move) for a in actions)
    little = Verdict.IMPROVED if does else Verdict.UNCHANGED
    certificate = Certificate(order=order, verdict=verdict or little, stages=stages)
    return plan_of(certificate, actions)


def reaches(*told: tuple[str, int, int]) -> tuple[Stage, ...]:
    """Return stages by name, value and bound."""
    return tuple(Stage(name=name, value=value, bound=bound) for name, value, bound in told)
