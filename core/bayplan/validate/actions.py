"""Checks of single actions: that pods and nodes exist, wait or run, and may be disturbed."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from bayplan import filters
from bayplan.budgets import Budget, Health
from bayplan.keys import BudgetKey
from bayplan.plan import Bind, Evict, Hold, Move, Plan
from bayplan.snapshot import Disruption, Pod
from bayplan.validate.evidence import Evidence
from bayplan.validate.findings import Code, Violation, wrong


def _actions(plan: Plan) -> tuple[Bind | Move | Evict | Hold, ...]:
    return (*plan.binds, *plan.moves, *plan.evictions, *plan.holds)


def known(about: Evidence) -> Iterator[Violation]:
    """Check that every pod exists as the plan knows it, and every node."""
    decided: list[tuple[Bind | Move | Evict | Hold, Pod]] = []
    for group in (about.bound, about.moved, about.evicted, about.held):
        decided += group
    if len(decided) < len(_actions(about.plan)):
        for action in _actions(about.plan):
            if action.pod not in about.pods:
                yield wrong(Code.UNKNOWN_POD, f"{action.pod} is not in the snapshot")
    for known, pod in decided:
        if pod.uid != known.uid:
            yield wrong(Code.UID_MISMATCH, f"{pod.key} is {pod.uid}, not {known.uid}")
    for node in (name for name in about.comers if name not in about.nodes):
        for pod in about.comers[node]:
            yield wrong(Code.UNKNOWN_NODE, f"{pod.key} goes to {node}, which does not exist")


def decided_once(about: Evidence) -> Iterator[Violation]:
    """Check that every waiting pod is bound or held, and no pod is decided twice."""
    keys = [action.pod for action in _actions(about.plan)]
    decided = set(keys)
    if len(decided) < len(keys):
        for key, count in Counter(keys).items():
            if count > 1:
                yield wrong(Code.NOT_ONCE, f"{key} is decided {count} times")
    for pod in about.waiting:
        if pod.key not in decided and not pod.terminating:
            yield wrong(Code.NOT_ONCE, f"{pod.key} waits and is neither bound nor held")


def states(about: Evidence) -> Iterator[Violation]:
    """Check that what is bound or held waits, and what is moved or evicted is where it is said."""
    to_wait: Iterable[tuple[Bind | Hold, Pod]] = chain(about.bound, about.held)
    for waiting, pod in to_wait:
        if not pod.waiting or pod.terminating:
            verb = "held" if isinstance(waiting, Hold) else "bound"
            yield wrong(Code.WRONG_STATE, f"{pod.key} is {verb} but does not wait")
    to_leave: Iterable[tuple[Move | Evict, Pod]] = chain(about.moved, about.evicted)
    for leaving, pod in to_leave:
        source = leaving.source if isinstance(leaving, Move) else leaving.node
        if pod.node != source:
            yield wrong(Code.WRONG_STATE, f"{pod.key} is not on {source}")
    for move in about.plan.moves:
        if move.source == move.target:
            yield wrong(Code.WRONG_STATE, f"{move.pod} moves to where it is")


def disruptable(about: Evidence) -> Iterator[Violation]:
    """Check that nothing is done to a pod that it does not allow."""
    leaving: Iterable[tuple[Move | Evict, Pod]] = chain(about.moved, about.evicted)
    for action, pod in leaving:
        if pod.terminating or pod.disruption is Disruption.FIXED:
            yield wrong(Code.NOT_DISRUPTABLE, f"{pod.key} must stay on {pod.node}")
        elif isinstance(action, Move) and pod.disruption is not Disruption.MOVABLE:
            yield wrong(Code.NOT_DISRUPTABLE, f"{pod.key} can be evicted but not moved")


def budgets(about: Evidence) -> Iterator[Violation]:
    """Check that no more is moved and evicted than allowed."""
    for word, count, most in (
        ("moves", len(about.plan.moves), about.policy.max_moves),
        ("evictions", len(about.plan.evictions), about.policy.max_evictions),
    ):
        if count > most:
            yield wrong(Code.OVER_BUDGET, f"{count} {word}; the policy allows {most}")


def disruption_budgets(about: Evidence) -> Iterator[Violation]:
    """Check that no PodDisruptionBudget is asked for more than it admits.

    Who belongs to one is read from labels again; nobody can evict a pod that belongs to two. Pods
    that have not begun to run belong to none, and those that are not ready take nothing from one
    that has as many healthy pods as it needs, or that lets them go always.
    """
    leaving = [move.pod for move in about.plan.moves]
    leaving += [evict.pod for evict in about.plan.evictions]
    used: Counter[BudgetKey] = Counter()
    for pod in (about.pods[key] for key in leaving if key in about.pods):
        if pod.health is Health.PENDING:
            continue
        covering = [budget for budget in about.snapshot.budgets if _is_covered(pod, budget)]
        own = [budget.key for budget in covering]
        used.update(budget.key for budget in covering if not _is_unguarded(pod, budget))
        if len(own) > 1:
            yield wrong(
                Code.NOT_DISRUPTABLE, f"{pod.key} has PodDisruptionBudgets {own[0]} and {own[1]}"
            )
    for budget in about.snapshot.budgets:
        if used[budget.key] > budget.allowed:
            yield wrong(
                Code.OVER_BUDGET,
                f"{used[budget.key]} pods of PodDisruptionBudget {budget.key} lose their node; "
                f"it admits {budget.allowed}",
            )


def _is_unguarded(pod: Pod, budget: Budget) -> bool:
    """Return whether the pod is not ready, and the budget leaves such pods alone."""
    enough = budget.desired > 0 and budget.healthy >= budget.desired
    return pod.health is Health.UNREADY and (budget.always or enough)


def _is_covered(pod: Pod, budget: Budget) -> bool:
    here = pod.key.namespace == budget.key.namespace
    return here and filters.selects(budget.labels, pod.labels)
