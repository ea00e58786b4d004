"""The PodDisruptionBudgets over the pods that are to leave, read afresh before each look.

For a plan they are read before the pods: who has become unready in between is known to be so, and
not yet counted in its budget, which is the safe way round.
"""

from collections.abc import Collection, Iterator
from typing import Final

import structlog

from bayplan.cluster.budgets import Budget
from bayplan.codec import DecodeError, budget_of
from bayplan.plan import Plan
from bayplan_operator.cluster.kube import Kube

_log = structlog.get_logger()

_API: Final = "/apis/policy/v1"


def budgets_over(kube: Kube, plan: Plan) -> tuple[Budget, ...]:
    """Return the budgets in the namespaces of a plan's victims."""
    return budgets_in(kube, {victim.pod.namespace for victim in plan.victims})


def budgets_in(kube: Kube, namespaces: Collection[str]) -> tuple[Budget, ...]:
    """Return the budgets in these namespaces, and of others if there are several."""
    if not namespaces:
        return ()
    inside = f"/namespaces/{min(namespaces)}" if len(namespaces) == 1 else ""
    return tuple(_read(kube, f"{_API}{inside}/poddisruptionbudgets"))


def _read(kube: Kube, path: str) -> Iterator[Budget]:
    """Yield the budgets that can be read; of one that cannot, evictions tell what it admits."""
    for raw in kube.items(path):
        try:
            budget = budget_of(raw)
        except DecodeError as error:
            _log.warning("budget_unreadable", error=str(error))
            continue
        if budget is not None:
            yield budget
