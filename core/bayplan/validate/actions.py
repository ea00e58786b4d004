"""Checks of single actions: that pods and nodes exist, wait or run, and may be disturbed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress, count
from operator import attrgetter, ne
from typing import Final

import numpy as np

from bayplan.aftermath import Numbers
from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.keys import BudgetKey, PodKey
from bayplan.cluster.pods import Disruption, Pod
from bayplan.plan import Bind, Evict, Hold, Move
from bayplan.rules import filters
from bayplan.validate.evidence import Evidence
from bayplan.validate.findings import Code, Violation, wrong

#: What binds, moves, evictions and holds say of their pods beside key and uid: who carries them out
#: goes by it.
_SAID: Final = (
    ("gang", "priority"),
    ("owner", "priority"),
    ("gang", "owner", "priority"),
    ("gang",),
)


def _decided(about: Evidence) -> Iterator[tuple[Sequence[Bind | Move | Evict | Hold], Numbers]]:
    """Yield the actions of each sort, with where their pods are in the snapshot."""
    yield about.plan.binds, about.after.bound.pods
    yield about.plan.moves, about.after.moved.pods
    yield about.plan.evictions, about.after.evicted.pods
    yield about.plan.holds, about.held


def known(about: Evidence) -> Iterator[Violation]:
    """Check that every pod exists as the plan knows it, and every node."""
    pods = about.snapshot.pods
    for actions, where in _decided(about):
        for i in np.flatnonzero(where < 0).tolist():
            yield wrong(Code.UNKNOWN_POD, f"{actions[i].pod} is not in the snapshot")
        there = where >= 0
        said = list(map(attrgetter("uid"), compress(actions, there.tolist())))
        seen = list(map(pods.__getitem__, where[there].tolist()))
        differ = map(ne, said, map(attrgetter("uid"), seen))
        for pod, uid in compress(zip(seen, said, strict=True), differ):
            yield wrong(Code.UID_MISMATCH, f"{pod.key} is {pod.uid}, not {uid}")
    for sent in (about.after.bound, about.after.moved):
        for i in np.flatnonzero((sent.rows < 0) & (sent.pods >= 0)).tolist():
            action = sent.actions[i]
            node = action.node if isinstance(action, Bind) else action.target
            yield wrong(Code.UNKNOWN_NODE, f"{action.pod} goes to {node}, which does not exist")


def described(about: Evidence) -> Iterator[Violation]:
    """Check that actions say of their pods what the snapshot says."""
    pods = about.snapshot.pods
    for (actions, where), names in zip(_decided(about), _SAID, strict=True):
        there = where >= 0
        chosen = list(compress(actions, there.tolist()))
        known = list(map(pods.__getitem__, where[there].tolist()))
        for name in names:
            said, seen = (list(map(attrgetter(name), each)) for each in (chosen, known))
            for i in compress(count(), map(ne, said, seen)):
                yield wrong(
                    Code.MISDESCRIBED, f"{name} of {known[i].key} is {seen[i]}, not {said[i]}"
                )


def decided_once(about: Evidence) -> Iterator[Violation]:
    """Check that every waiting pod is bound or held, and no pod is decided twice."""
    pods = about.snapshot.pods
    unknown: Counter[PodKey] = Counter()
    times = np.zeros(len(pods), dtype=np.int64)
    for actions, where in _decided(about):
        times += np.bincount(where[where >= 0], minlength=len(pods))
        unknown.update(actions[i].pod for i in np.flatnonzero(where < 0).tolist())
    repeated = {pods[i].key: int(times[i]) for i in np.flatnonzero(times > 1).tolist()}
    repeated |= {key: n for key, n in unknown.items() if n > 1}
    for key, n in repeated.items():
        yield wrong(Code.NOT_ONCE, f"{key} is decided {n} times")
    for i in np.flatnonzero(about.waiting & (times == 0)).tolist():
        yield wrong(Code.NOT_ONCE, f"{pods[i].key} waits and is neither bound nor held")


def states(about: Evidence) -> Iterator[Violation]:
    """Check that what is bound or held waits, and what is moved or evicted is where it is said."""
    waiting = about.waiting
    for verb, where in (("bound", about.after.bound.pods), ("held", about.held)):
        there = where[where >= 0]
        for i in there[~waiting[there]].tolist():
            yield wrong(
                Code.WRONG_STATE, f"{about.snapshot.pods[i].key} is {verb} but does not wait"
            )
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
    for word, n, most in (
        ("moves", len(about.plan.moves), about.policy.max_moves),
        ("evictions", len(about.plan.evictions), about.policy.max_evictions),
    ):
        if n > most:
            yield wrong(Code.OVER_BUDGET, f"{n} {word}; the policy allows {most}")


def disruption_budgets(about: Evidence) -> Iterator[Violation]:
    """Check that no PodDisruptionBudget is asked for more than it admits.

    Who belongs to one is read from labels again; nobody can evict a pod that belongs to two. Pods
    that have not begun to run belong to none, and those that are not ready take nothing from one
    that has as many healthy pods as it needs, or that lets them go always.
    """
    if not about.snapshot.budgets:
        return
    used: Counter[BudgetKey] = Counter()
    for _, pod in chain(about.moved, about.evicted):
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
