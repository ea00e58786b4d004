"""PodDisruptionBudget objects to `Budget` values."""

from typing import Final

from bayplan.cluster.budgets import Budget
from bayplan.cluster.keys import BudgetKey
from bayplan.codec.fields import Raw, top
from bayplan.codec.selectors import label_selector

#: The policy under which pods that are not ready are no matter of the budget.
_ALWAYS: Final = "AlwaysAllow"


def budget_of(raw: Raw) -> Budget | None:
    """Return the budget; None for one without a selector, which covers no pod.

    Until its controller has looked at it as it is now, it admits no eviction of a ready pod, as the
    API server has it.

    Raises:
        DecodeError: A field cannot be read.
    """
    root = top(raw, "PodDisruptionBudget")
    metadata, spec, status = root.get("metadata"), root.get("spec"), root.get("status")
    if spec.get("selector").value is None:
        return None
    allowed = status.get("disruptionsAllowed")
    if allowed.integer(0) < 0:
        raise allowed.error(f"should be 0 or more, is {allowed.value}")
    seen = status.get("observedGeneration").integer(0)
    is_current = seen >= metadata.get("generation").integer(0)
    return Budget(
        key=BudgetKey(
            namespace=metadata.get("namespace").text("default"), name=metadata.get("name").text()
        ),
        allowed=allowed.integer(0) if is_current else 0,
        labels=tuple(sorted(label_selector(spec.get("selector")))),
        healthy=status.get("currentHealthy").integer(0),
        desired=status.get("desiredHealthy").integer(0),
        always=spec.get("unhealthyPodEvictionPolicy").text("") == _ALWAYS,
    )
