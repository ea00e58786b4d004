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


def rejection_of(raw: Raw) -> str:
    """Return why its kubelet would not start a pod, in its words; "" if that is not so.

    The pod has failed with a reason, and none of its containers was ever made. What is evicted or
    preempted on a node had some.

    Raises:
        DecodeError: Its status cannot be read.
    """
    root = top(raw, "Pod")
    status = root.get("status")
    on_node = status.get("phase").value == "Failed" and root.get("spec", "nodeName").value
    kinds = ("initContainerStatuses", "containerStatuses")
    containers = (each for kind in kinds for each in status.get(kind).items())
    if not on_node or any(map(_has_begun, containers)):
        return ""
    reason, message = status.get("reason").text(""), status.get("message").text("")
    return f"{reason}: {message}" if reason and message else reason


def _has_begun(container: Field) -> bool:
    state = container.get("state")
    began = state.get("running").value is not None or state.get("terminated").value is not None
    return began or bool(container.get("containerID").text(""))


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
