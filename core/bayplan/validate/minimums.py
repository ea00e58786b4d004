"""Which waiting units their deployments cannot do without, counted again for the validator."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bayplan.cluster.keys import GangKey
from bayplan.cluster.pods import Pod, newest_member
from bayplan.cluster.snapshot import Snapshot


class _Unfinished(NamedTuple):
    """A unit not all of whose pods have nodes; sorts those first that come first.

    Attributes:
        waits_whole: Whether none of its pods has a node.
        length: Of its name: unit 9 comes before unit 10.
        key: Its gang.
    """

    waits_whole: bool
    length: int
    key: GangKey


def lacking(snapshot: Snapshot) -> frozenset[GangKey]:
    """Return the units that come before others of their tier.

    An owner that needs so many units lacks those of them that have not all their pods on nodes.
    As many of its units as it lacks count, if their pods exist: those first of which a part has
    nodes, and the lower numbers.
    """
    if not any(pod.min_units for pod in snapshot.in_gangs):
        return frozenset()
    found: set[GangKey] = set()
    for members in _units(snapshot).values():
        needs = max(pod.min_units for pods in members.values() for pod in pods)
        has = sum(map(_is_complete, members.values()))
        waiting = sorted(_unfinished(members))
        found.update(each.key for each in waiting[: max(0, needs - has)])
    return frozenset(found)


def _units(snapshot: Snapshot) -> Mapping[str, Mapping[GangKey, list[Pod]]]:
    """Return the pods that are on a node or wait, by owner and gang."""
    units: dict[str, dict[GangKey, list[Pod]]] = defaultdict(dict)
    for pod in snapshot.in_gangs:
        counts = not pod.terminating and (pod.waiting or pod.node in snapshot.rows)
        if counts and pod.owner is not None and pod.gang is not None:
            units[pod.owner.uid].setdefault(pod.gang, []).append(pod)
    return units


def _is_complete(pods: list[Pod]) -> bool:
    """Return whether as many pods have nodes as the newest label asks for."""
    return sum(not pod.waiting for pod in pods) >= newest_member(pods).gang_min_count


def _unfinished(members: Mapping[GangKey, list[Pod]]) -> Iterator[_Unfinished]:
    """Yield the units that wait and could be complete."""
    for key, pods in members.items():
        exist = len(pods) >= newest_member(pods).gang_min_count
        if exist and not _is_complete(pods):
            yield _Unfinished(all(pod.waiting for pod in pods), len(key.name), key)
