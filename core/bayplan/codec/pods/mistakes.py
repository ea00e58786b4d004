"""What in a pod that can be read is not believed, or keeps it from being planned, in words.

For its events and for who asks about it: of a field that cannot be read the codec complains itself.
"""

from bayplan.api import names
from bayplan.cluster.pods import MAX_MOVE_COST
from bayplan.codec.fields import Raw, top
from bayplan.codec.pods.disruption import move_cost
from bayplan.codec.pods.gates import gates_of, other_gates, oversight


def mistake_in(raw: Raw) -> str:
    """Return what in a pod that can be read is not believed, and what follows; "" if all is."""
    metadata = top(raw, "Pod").get("metadata")
    if move_cost(metadata) is not None:
        return ""
    told = metadata.get("annotations", names.ANNOTATION_MOVE_COST).text("")[:20]
    return (
        f"no plan disturbs it while it runs, for {names.ANNOTATION_MOVE_COST} is {told!r}:"
        f" make it a whole number from 1 to {MAX_MOVE_COST}"
    )


def oversight_in(raw: Raw) -> str:
    """Return why a pod waits behind our gate where nobody looks for it; "" for any other pod."""
    root = top(raw, "Pod")
    return oversight(gates_of(root.get("spec")), root.get("metadata", "labels").labels())


def other_gates_in(raw: Raw) -> str:
    """Return behind which gates of others a pod waits, and what follows; "" for any other pod."""
    return other_gates(gates_of(top(raw, "Pod").get("spec")))
