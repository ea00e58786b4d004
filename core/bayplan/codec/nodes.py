"""Node objects to `Node` values."""

from bayplan.codec.fields import Field, Raw, top
from bayplan.snapshot import Node, NodeName, Resources, Taint
from bayplan.units import Rounding


def node_of(raw: Raw) -> Node:
    """Return the node.

    Raises:
        DecodeError: A field that placing pods depends on cannot be read.
    """
    root = top(raw, "Node")
    spec, status = root.get("spec"), root.get("status")
    return Node(
        name=NodeName(root.get("metadata", "name").text()),
        allocatable=Resources.of(status.get("allocatable").amounts(Rounding.DOWN)),
        labels=tuple(sorted(root.get("metadata", "labels").labels().items())),
        taints=tuple(sorted(_taint(taint) for taint in spec.get("taints").items())),
        schedulable=not spec.get("unschedulable").flag(),
        ready=_is_ready(status.get("conditions")),
    )


def _taint(field: Field) -> Taint:
    return Taint(
        key=field.get("key").text(),
        value=field.get("value").text(""),
        effect=field.get("effect").text("NoSchedule"),
    )


def _is_ready(conditions: Field) -> bool:
    """Return the Ready condition; a node file without conditions counts as ready."""
    found = [c for c in conditions.items() if c.get("type").text("") == "Ready"]
    return found[0].get("status").text("") == "True" if found else conditions.value is None
