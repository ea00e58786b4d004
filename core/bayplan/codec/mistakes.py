"""What in a pod that can be read is not believed, or keeps it from being planned, in words.

For its events and for who asks about it: of a field that cannot be read the codec complains itself.
"""

from bayplan.api import names
from bayplan.cluster.snapshot import MAX_MOVE_COST
from bayplan.codec.fields import Raw, top
from bayplan.codec.pods import gates_of, is_managed, move_cost


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
    gates = [gate.get("name").value for gate in root.get("spec", "schedulingGates").items()]
    if names.GATE not in gates or is_managed(root.get("metadata", "labels").labels()):
        return ""
    return (
        f"has the gate {names.GATE}, but no plan is made for it and its gate is never lifted:"
        f' give it the label {names.LABEL_MANAGED}: "true" as well'
    )


def other_gates_in(raw: Raw) -> str:
    """Return behind which gates of others a pod waits, and what follows; "" for any other pod."""
    gates = gates_of(top(raw, "Pod").get("spec"))
    others = [gate for gate in gates if gate != names.GATE]
    if not others:
        return ""
    follows = (
        "it is planned once they are lifted" if names.GATE in gates else "Bayplan does not hold it"
    )
    return f"waits behind gates of others ({', '.join(others)}): {follows}"
