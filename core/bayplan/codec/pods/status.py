"""What a pod's status says: since when it has its node, why it has none, how it does there."""

from bayplan.cluster.budgets import Health
from bayplan.codec.fields import Field, Raw, top


def bound_at_of(raw: Raw) -> int:
    """Return since when the pod has its node, in seconds since the epoch; 0 if it has none.

    Raises:
        DecodeError: That cannot be read.
    """
    for condition in top(raw, "Pod").get("status", "conditions").items():
        scheduled = condition.get("type").value == "PodScheduled"
        if scheduled and condition.get("status").value == "True":
            return condition.get("lastTransitionTime").instant()
    return 0


def refusal_of(status: Field) -> str:
    """Return why kube-scheduler finds no node for a pod, in its words; "" if it does not say so.

    Since when is not told: the condition is False behind a gate too, so `lastTransitionTime` is
    that of the pod's making, or null.
    """
    for condition in status.get("conditions").items():
        kind, reason, message = condition.parts("type", "reason", "message")
        if kind == "PodScheduled" and reason == "Unschedulable":
            return str(message or reason)
    return ""


def health_of(status: Field) -> Health:
    """Return what PodDisruptionBudgets make of a pod on a node, as the API server has it.

    A manifest that no API server has seen counts as ready, with which nobody is disturbed too much.
    """
    phase = status.get("phase").text("")
    if phase == "Pending":
        return Health.PENDING
    for condition in status.get("conditions").items():
        kind, holds = condition.parts("type", "status")
        if kind == "Ready":
            return Health.READY if holds == "True" else Health.UNREADY
    return Health.UNREADY if phase else Health.READY
