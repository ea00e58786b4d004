"""Label selectors and node selector terms of Kubernetes objects to requirements."""

from collections.abc import Iterable

from bayplan.codec.fields import Field
from bayplan.snapshot import NodeTerm, Requirement


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
    """Return what a LabelSelector asks of labels; an empty one asks nothing."""
    exact = (
        Requirement(key=key, operator="In", values=(value,))
        for key, value in field.get("matchLabels").labels().items()
    )
    return (*exact, *expressions(field.get("matchExpressions").items()))
