"""The gates behind which a pod waits, and why some of them are not ours to lift."""

from collections.abc import Collection, Mapping

from bayplan.api import names
from bayplan.codec.fields import Field


def gates_of(spec: Field) -> list[str]:
    """Return the names of the gates behind which a pod waits."""
    return [gate.get("name").text() for gate in spec.get("schedulingGates").items()]


def is_managed(labels: Mapping[str, str]) -> bool:
    """Return whether a pod with these labels is one of those that the operator looks at."""
    return labels.get(names.LABEL_MANAGED) == "true"


def oversight(gates: Collection[str], labels: Mapping[str, str]) -> str:
    """Return why a pod waits behind our gate where nobody looks for it; "" for any other pod."""
    if names.GATE not in gates or is_managed(labels):
        return ""
    return (
        f"has the gate {names.GATE}, but no plan is made for it and its gate is never lifted:"
        f' give it the label {names.LABEL_MANAGED}: "true" as well'
    )


def other_gates(gates: Collection[str]) -> str:
    """Return behind which gates of others a pod waits, and what follows; "" for any other pod."""
    others = [gate for gate in gates if gate != names.GATE]
    if not others:
        return ""
    follows = (
        "it is planned once they are lifted" if names.GATE in gates else "Bayplan does not hold it"
    )
    return f"waits behind gates of others ({', '.join(others)}): {follows}"
