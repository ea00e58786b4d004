"""Node objects to `Node` values, and what is wrong with a node."""

from typing import Final

from bayplan.api import names
from bayplan.cluster.constraints import Taint
from bayplan.cluster.keys import NodeName
from bayplan.cluster.nodes import Node
from bayplan.cluster.resources import Resources
from bayplan.cluster.units import Rounding
from bayplan.codec.fields import Field, Raw, top
from bayplan.inference.units import Trouble

#: Conditions by which known health checkers report broken accelerators, with their bad status
#: (https://docs.aws.amazon.com/eks/latest/userguide/node-health.html).
_BROKEN: Final = frozenset({("AcceleratedHardwareReady", "False")})

#: Stands for what a health checker reports: nobody is placed there who does not tolerate it.
UNHEALTHY: Final = Taint(key=names.LABEL_UNHEALTHY)


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
        taints=tuple(sorted(_taints(root))),
        schedulable=not spec.get("unschedulable").flag(),
        ready=_is_ready(status.get("conditions")),
    )


def trouble_of(raw: Raw) -> Trouble:
    """Return what is wrong with the node.

    Raises:
        DecodeError: A field that this depends on cannot be read.
    """
    root = top(raw, "Node")
    if not _is_ready(root.get("status", "conditions")):
        return Trouble.AWAY
    if _is_failing(root):
        return Trouble.FAILING
    return Trouble.CORDONED if root.get("spec", "unschedulable").flag() else Trouble.NONE


def _is_failing(root: Field) -> bool:
    label = root.get("metadata", "labels").labels().get(names.LABEL_UNHEALTHY, "false")
    conditions = root.get("status", "conditions").items()
    told = {(c.get("type").text(""), c.get("status").text("")) for c in conditions}
    return label != "false" or bool(told & _BROKEN)


def _taints(root: Field) -> list[Taint]:
    taints = [_taint(taint) for taint in root.get("spec", "taints").items()]
    return [*taints, UNHEALTHY] if _is_failing(root) else taints


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
