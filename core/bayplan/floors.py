"""Units that their deployment can do without go before those that it needs.

An InferenceDeployment that says `minReplicas` can shrink to so many units. When lower priorities
have to make room, a plan that takes units beyond that is better than one that takes others. Callers
apply this to a snapshot before they plan: what is needed gets dearer to disturb.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from bayplan.api import names
from bayplan.keys import GangKey
from bayplan.snapshot import MAX_MOVE_COST, Pod, Snapshot
from bayplan.units import whole_number


def protected(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot in which to disturb a needed unit costs the most that a move may cost.

    Which of the running units are the needed ones is decided by their number, the lowest first:
    they are alike. A deployment that does not say how many it needs can do without any.
    """
    needed = {gang for owner in _by_owner(snapshot.pods).values() for gang in _needed(owner)}
    if not needed:
        return snapshot
    pods = (
        replace(pod, move_cost=MAX_MOVE_COST) if pod.gang in needed and pod.bound else pod
        for pod in snapshot.pods
    )
    return replace(snapshot, pods=tuple(pods))


def _by_owner(pods: Iterable[Pod]) -> dict[str, dict[GangKey, list[Pod]]]:
    """Return the running pods of deployments that say how many units they need, by unit."""
    found: dict[str, dict[GangKey, list[Pod]]] = defaultdict(lambda: defaultdict(list))
    for pod in pods:
        running = pod.node is not None and pod.bound and not pod.terminating
        if running and pod.gang is not None and pod.owner is not None and _floor(pod):
            found[pod.owner.uid][pod.gang].append(pod)
    return found


def _needed(units: dict[GangKey, list[Pod]]) -> Iterator[GangKey]:
    whole = [gang for gang, pods in units.items() if len(pods) >= pods[0].gang_min_count]
    floor = max(_floor(pods[0]) for pods in units.values())
    yield from sorted(whole)[:floor]


def _floor(pod: Pod) -> int:
    text = dict(pod.labels).get(names.LABEL_MIN_UNITS, "")
    return whole_number(text) or 0
