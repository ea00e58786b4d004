"""Label selectors and node selector terms of Kubernetes objects to requirements."""

from collections.abc import Iterable
from typing import Final

from bayplan.cluster.constraints import NodeTerm, Requirement
from bayplan.codec.fields import Field

#: What a label selector may ask of a label.
_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")


def node_term(field: Field) -> NodeTerm:
    """Return one term of a node affinity."""
    return NodeTerm(
        labels=expressions(field.get("matchExpressions").items()),
        fields=expressions(field.get("matchFields").items()),
    )


def expressions(fields: Iterable[Field]) -> tuple[Requirement, ...]:
    """Return the lines of a `matchExpressions` list."""
    return tuple(
        Requirement(
            key=field.get("key").text(),
            operator=field.get("operator").text(),
            values=field.get("values").texts(),
        )
        for field in fields
    )


def label_selector(field: Field) -> tuple[Requirement, ...]:
    """Return what a LabelSelector asks of labels; an empty one asks nothing.

    Raises:
        DecodeError: An operator is unknown, or lacks its values.
    """
    lines = field.get("matchExpressions")
    for line in lines.items():
        operator = line.get("operator")
        if operator.text() not in _OPERATORS:
            raise operator.error(f"should be one of {', '.join(_OPERATORS)}, is {operator.value!r}")
        if (operator.text() in {"In", "NotIn"}) != bool(line.get("values").texts()):
            raise line.get("values").error(
                "should list at least one value"
                if operator.text() in {"In", "NotIn"}
                else f"should be left out beside operator {operator.text()}"
            )
    return lenient_selector(field)


def lenient_selector(field: Field) -> tuple[Requirement, ...]:
    """Return the same with whatever operators there are; nothing holds of an unknown one."""
    exact = (
        Requirement(key=key, operator="In", values=(value,))
        for key, value in field.get("matchLabels").labels().items()
    )
    return (*exact, *expressions(field.get("matchExpressions").items()))
