"""What PodDisruptionBudgets admit of the victims that a plan still has, counted together.

The API server judges one eviction at a time, and a drain not at all. Two pods of a budget that
admits one could both be taken out of service, and one of them in vain. So nobody is taken out, and
nobody asked to leave, before each budget admits all of the plan's victims that it covers.

What a budget admits lags behind: who drains is off it only once it is not ready, and the budget's
controller has seen that. Until then, and while it is put back, it counts here.
"""

from collections import Counter
from collections.abc import Iterable

from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.keys import BudgetKey
from bayplan.plan import Evict, Move
from bayplan.rules.restraints import Covering
from bayplan.steps.ledger import Ledger


class Allowances:
    """Counts what is asked of each budget for the victims that have not begun to leave."""

    def __init__(self, ledger: Ledger, victims: Iterable[Move | Evict]) -> None:
        self._ledger = ledger
        self._covering = Covering(ledger.budgets)
        self._asked: Counter[BudgetKey] = Counter()
        self._ready: Counter[BudgetKey] = Counter()
        self._owed: Counter[BudgetKey] = Counter()
        self._fresh: Counter[BudgetKey] = Counter()
        for victim in victims if ledger.budgets else ():
            self._count(victim)

    def shortage(self) -> str:
        """Return in words which budget does not admit all those who are to leave, or ""."""
        short = (budget for budget in self._ledger.budgets if self._is_short(budget))
        found = next(short, None)
        if found is None:
            return ""
        return f"{found.in_words()}, and the plan needs {self._asked[found.key]}"

    def keeps_drained(self, victim: Move | Evict) -> BudgetKey | None:
        """Return the budget that would not let a victim go once it is out of service.

        Where no pod need be healthy, one that is not ready takes an eviction off the budget like
        any other. When all of its pods are out of service it has none left, and keeps them.
        """
        budget = self._keeper_of(victim)
        keeps = budget is not None and self._ready[budget.key] >= budget.allowed
        return budget.key if budget is not None and keeps else None

    def is_unsure(self, victim: Move | Evict) -> bool:
        """Return whether that is to be known when a budget has counted who is out of service."""
        budget = self._keeper_of(victim)
        if budget is None:
            return False
        ready = self._ready[budget.key]
        return ready < budget.allowed <= ready + self._owed[budget.key]

    def _keeper_of(self, victim: Move | Evict) -> Budget | None:
        """Return the budget that may keep a victim for not being ready."""
        budget = self._budget_of(victim)
        return None if budget is None or budget.always or budget.desired > 0 else budget

    def _is_short(self, budget: Budget) -> bool:
        return self._fresh[budget.key] > 0 and self._asked[budget.key] > budget.allowed

    def _count(self, victim: Move | Evict) -> None:
        budget, pod = self._budget_of(victim), self._ledger.remaining(victim)
        if budget is None or pod is None or pod.terminating:
            return
        drain = self._ledger.drain_of(victim)
        is_out, costs = pod.health is Health.UNREADY, budget.costs(pod.health)
        # Where none need be healthy, what an eviction of it takes off is soon counted back.
        is_off = is_out and not budget.desired
        is_owed = is_out and not drain.counted
        self._asked[budget.key] += (costs and not is_off) or is_owed
        self._ready[budget.key] += costs and not is_out
        self._owed[budget.key] += is_owed
        self._fresh[budget.key] += costs and not drain.begun

    def _budget_of(self, victim: Move | Evict) -> Budget | None:
        """Return the budget of a victim; nobody evicts one with two, as the rehearsal finds."""
        pod = self._ledger.remaining(victim)
        covering = self._covering.of(pod) if pod is not None else ()
        return covering[0] if len(covering) == 1 else None
