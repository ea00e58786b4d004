"""What keeps a plan from disturbing a pod for now, though its manifest would allow it.

PodDisruptionBudgets and the cooldown after a move do not depend on the plan, so they are written on
the pods of a snapshot before anything is decided: who must stay is `FIXED`, with the reason in
words, and whoever shares what a budget still admits says which. Pods that are not ready share
nothing where the API server lets them go beside the budget: one that was taken out of service for a
plan can be in the next plan, too. Callers bring the time.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from bayplan.cluster.budgets import Budget, Health
from bayplan.cluster.pods import Disruption, Pod
from bayplan.cluster.snapshot import Snapshot
from bayplan.rules import filters

#: How it begins why a pod must stay that has one PodDisruptionBudget.
_REFUSED: Final = "has PodDisruptionBudget "

#: How the cooldowns after a move, and after one that failed, begin.
_MOVED: Final = "was moved less than"
_MOVE_FAILED: Final = "was to be moved less than"


def restrained(snapshot: Snapshot, *, now: float, cooldown_s: float) -> Snapshot:
    """Return the snapshot with pods that must stay for now fixed, and the others' budgets noted.

    Args:
        snapshot: Pods and budgets as they are.
        now: Seconds since the epoch.
        cooldown_s: Seconds from its start in which a moved pod stays.
    """
    covering = Covering(snapshot.budgets)
    namespaces = {budget.key.namespace for budget in snapshot.budgets}
    changed = {
        pod.key: _restrained(pod, covering, now=now, cooldown_s=cooldown_s)
        for pod in snapshot.pods
        if (_is_marked(pod) or pod.key.namespace in namespaces)
        and pod.node is not None
        and pod.disruption is not Disruption.FIXED
    }
    if not changed:
        return snapshot
    return replace(snapshot, pods=tuple(changed.get(pod.key, pod) for pod in snapshot.pods))


def covers(budget: Budget, pod: Pod) -> bool:
    """Return whether the budget limits the eviction of the pod."""
    return budget.key.namespace == pod.key.namespace and filters.selects(budget.labels, pod.labels)


class Covering:
    """Finds the budgets of a pod; pods with equal labels are looked at once."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        self._there: dict[str, list[Budget]] = defaultdict(list)
        for budget in budgets:
            self._there[budget.key.namespace].append(budget)
        self._known: dict[object, tuple[Budget, ...]] = {}

    def of(self, pod: Pod) -> tuple[Budget, ...]:
        """Return the budgets that cover the pod."""
        there = self._there.get(pod.key.namespace)
        if there is None:
            return ()
        look = (pod.key.namespace, pod.labels)
        if look not in self._known:
            self._known[look] = tuple(budget for budget in there if covers(budget, pod))
        return self._known[look]


def shortage(budgets: Sequence[Budget], pods: Iterable[Pod]) -> str:
    """Return in words which budget does not admit that all of these pods leave at once, or "".

    Each alone may be admitted. Who is not bound yet asks no budget.
    """
    covering = Covering(budgets)
    asked = Counter(
        budget.key
        for pod in pods
        for budget in covering.of(pod)
        if pod.bound and budget.costs(pod.health)
    )
    short = (budget for budget in budgets if asked[budget.key] > budget.allowed)
    return next((f"{b.in_words()}, and {asked[b.key]} are needed" for b in short), "")


def is_refused(why: str) -> bool:
    """Return whether that is why a pod must stay: its PodDisruptionBudget admits no eviction."""
    return why.startswith(_REFUSED)


def cools_until(pod: Pod, *, cooldown_s: float) -> float:
    """Return until when its cooldown keeps the pod, in seconds since the epoch.

    0 if that is not why it must stay, or if its start is not known.
    """
    if pod.fixed_by.startswith(_MOVE_FAILED):
        return pod.move_failed_at + cooldown_s
    if pod.fixed_by.startswith(_MOVED) and pod.started_at:
        return pod.started_at + cooldown_s
    return 0.0


def next_end(snapshot: Snapshot, *, cooldown_s: float) -> float:
    """Return when the next cooldown of a restrained pod ends, in seconds since the epoch.

    Infinite if none is known.
    """
    if not any(kind.fixed_by.startswith((_MOVED, _MOVE_FAILED)) for kind in snapshot.kinds):
        return math.inf
    ends = (cools_until(pod, cooldown_s=cooldown_s) for pod in snapshot.pods if pod.fixed_by)
    return min(filter(None, ends), default=math.inf)


def _is_marked(pod: Pod) -> bool:
    """Return whether a move of the pod, or to its place, is under way or was not long ago."""
    return bool(pod.replaces or pod.gives_way_by or pod.move_failed_at)


def _restrained(pod: Pod, covering: Covering, *, now: float, cooldown_s: float) -> Pod:
    if why := _moved(pod, now=now, cooldown_s=cooldown_s):
        return _fixed(pod, why)
    budgets = covering.of(pod) if pod.health is not Health.PENDING else ()
    if len(budgets) > 1:
        both = " and ".join(str(budget.key) for budget in budgets)
        return _fixed(
            pod, f"has more than one PodDisruptionBudget ({both}), so nobody can evict it"
        )
    if not budgets or not budgets[0].costs(pod.health):
        return pod
    if budgets[0].allowed <= 0:
        return _fixed(pod, _refusal(budgets[0], pod))
    return replace(pod, budget=budgets[0].key)


def _moved(pod: Pod, *, now: float, cooldown_s: float) -> str:
    """Return why a pod must stay that is being moved, or was not long ago; "" for others."""
    if pod.gives_way_by:
        return "is being moved: its replacement is there already"
    if pod.move_failed_at and now < pod.move_failed_at + cooldown_s:
        return f"{_MOVE_FAILED} {cooldown_s:g} seconds ago, which failed"
    if pod.serves_by and pod.health is not Health.READY:
        return "starts in the place of a pod that is moved"
    if pod.replaces and (not pod.started_at or now < pod.started_at + cooldown_s):
        return f"{_MOVED} {cooldown_s:g} seconds ago"
    return ""


def _refusal(budget: Budget, pod: Pod) -> str:
    refusal = f"{_REFUSED}{budget.key}, which admits no eviction now"
    if pod.health is Health.READY:
        return refusal
    would = "spec.unhealthyPodEvictionPolicy: AlwaysAllow would"
    return f"{refusal}, not even of a pod that is not ready ({would})"


def _fixed(pod: Pod, why: str) -> Pod:
    return replace(pod, disruption=Disruption.FIXED, fixed_by=why)
