"""What a plan may do to a running pod, and what a move of it costs."""

from bayplan.api import names
from bayplan.cluster import units
from bayplan.cluster.keys import Owner
from bayplan.cluster.pods import MAX_MOVE_COST, Disruption
from bayplan.codec.fields import Field
from bayplan.codec.pods.requests import device_of

#: Priorities from here on belong to the cluster itself (system-cluster-critical and above).
SYSTEM_PRIORITY = 2_000_000_000


def disruption_of(metadata: Field, spec: Field, owner: Owner | None) -> Disruption:
    """Return what a plan may do to the pod while it runs.

    A pod that no controller makes again would be lost, a DaemonSet's comes straight back, and the
    cluster's own are not ours to touch. Whoever asks not to be disturbed, or whose cost of a move
    cannot be read, stays as well. One of several pods of a replica, or of a group of a
    LeaderWorkerSet, is not moved: all of them would start anew, the others without a place in the
    plan. Nor is one of an older template moved: it does not come again.
    """
    if owner is None or owner.kind in {"DaemonSet", "Node"}:
        return Disruption.FIXED
    if spec.get("priority").integer(0) >= SYSTEM_PRIORITY:
        return Disruption.FIXED
    annotations = metadata.get("annotations").labels()
    if any(annotations.get(name) == value for name, value in names.DO_NOT_DISRUPT.items()):
        return Disruption.FIXED
    if move_cost(metadata) is None:
        return Disruption.FIXED
    if names.ANNOTATION_GPU_SHARE in annotations and device_of(metadata) is None:
        # Nobody knows which GPU would be free without it.
        return Disruption.FIXED
    ours = spec.get("schedulerName").text("") == names.SCHEDULER
    movable = ours and _starts_alone(metadata) and not is_outdated(metadata)
    return Disruption.MOVABLE if movable else Disruption.EVICTABLE


def move_cost(metadata: Field) -> int | None:
    """Return what a move costs, 1 without a word of it; None where it is no number in range."""
    text = metadata.get("annotations", names.ANNOTATION_MOVE_COST).text("1")
    cost = units.whole_number(text) or 0
    return cost if 1 <= cost <= MAX_MOVE_COST else None


def is_outdated(metadata: Field) -> bool:
    """Return whether the pod is marked as one of an older template."""
    return metadata.get("annotations", names.ANNOTATION_OUTDATED).value == "true"


def _starts_alone(metadata: Field) -> bool:
    """Return whether no other pod starts anew when this one does."""
    labels, annotations = (metadata.get(each).labels() for each in ("labels", "annotations"))
    grouped = names.LABEL_LWS_GROUP in labels and annotations.get(names.ANNOTATION_LWS_SIZE) != "1"
    return labels.get(names.LABEL_REPLICA_SIZE, "1") == "1" and not grouped
