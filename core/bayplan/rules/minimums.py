"""Which units their deployments need: they come before others of their tier, and go after them.

An InferenceDeployment that says `minReplicas` can do with so many units. Those that it needs are
as many, the ones first that are nearest to serving: running ones, then those that are on their way,
then those of which part runs, then those that wait; among equals the lowest numbers. Of these,
who runs is dearer to disturb than others when lower priorities have to make room, and who waits
is placed before others of the tier.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter

from bayplan.cluster.keys import GangKey
from bayplan.cluster.pods import MAX_MOVE_COST, Pod, newest_member
from bayplan.cluster.snapshot import Snapshot


def protected(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot in which to disturb a needed unit costs the most that a move may cost.

    Callers apply this before they plan. A deployment that does not say how many units it needs can
    do without any.
    """
    dear = {unit.key for unit in _needed(snapshot) if unit.is_whole}
    if not dear:
        return snapshot
    pods = (
        replace(pod, move_cost=MAX_MOVE_COST) if pod.gang in dear and pod.bound else pod
        for pod in snapshot.pods
    )
    return replace(snapshot, pods=tuple(pods))


def missing(snapshot: Snapshot) -> frozenset[GangKey]:
    """Return the needed units that wait, whole or for a part of them.

    Which they are depends on the snapshot alone, not on what a plan makes of it. A unit that waits
    for pods to be made is none of them: it could not be placed.
    """
    return frozenset(unit.key for unit in _needed(snapshot) if not unit.is_whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """A unit of a deployment.

    Attributes:
        key: Its gang.
        size: How many pods make it whole.
        bound: How many are bound to a node.
        placed: How many have a node, those included that are on their way.
        waiting: How many wait for a plan.
    """

    key: GangKey
    size: int
    bound: int
    placed: int
    waiting: int

    @property
    def is_whole(self) -> bool:
        """Whether as many pods have a node as make it whole."""
        return self.placed >= self.size

    @property
    def can_be_whole(self) -> bool:
        """Whether all its pods exist."""
        return self.placed + self.waiting >= self.size

    def order(self) -> tuple[object, ...]:
        """Sort the nearest to serving first, then by number: of equal names the shortest first."""
        runs = self.bound >= self.size
        return (not runs, not self.is_whole, not self.placed, len(self.key.name), self.key)


def _needed(snapshot: Snapshot) -> Iterator[_Unit]:
    """Yield the units that deployments need."""
    if not any(map(attrgetter("min_units"), snapshot.in_gangs)):
        return
    for gangs in _by_owner(snapshot).values():
        min_units = max(pod.min_units for pods in gangs.values() for pod in pods)
        units = [_unit(key, pods) for key, pods in gangs.items()]
        able = [unit for unit in units if unit.can_be_whole]
        yield from sorted(able, key=_Unit.order)[:min_units]


def _by_owner(snapshot: Snapshot) -> dict[str, dict[GangKey, list[Pod]]]:
    """Return the pods of each owner's gangs that have a node, or wait for one."""
    found: dict[str, dict[GangKey, list[Pod]]] = defaultdict(lambda: defaultdict(list))
    for pod in snapshot.in_gangs:
        here = pod.waiting or pod.node in snapshot.rows
        if here and not pod.terminating and pod.gang is not None and pod.owner is not None:
            found[pod.owner.uid][pod.gang].append(pod)
    return found


def _unit(key: GangKey, pods: Iterable[Pod]) -> _Unit:
    members = list(pods)
    placed = [pod for pod in members if not pod.waiting]
    return _Unit(
        key=key,
        size=newest_member(members).gang_min_count,
        bound=sum(pod.bound for pod in placed),
        placed=len(placed),
        waiting=len(members) - len(placed),
    )
