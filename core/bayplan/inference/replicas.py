"""Replicas of several pods: they start together, and when one pod is lost all are made anew.

The pods of such a replica hold one engine, spread over nodes. One that is gone, has ended or was
started again by its kubelet leaves the others waiting for a peer that does not know them, so what
is left of the replica goes, and its pods are made only when none of the old ones is there. The
replica goes by the name of its leader.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bayplan.inference.children import Child
from bayplan.inference.slots import Slot
from bayplan.inference.units import Around


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Replicas of several pods that are not as they should be.

    Attributes:
        torn: Those that run in part, or do not serve on hardware that is broken under a part, with
            when the youngest of their pods was made, in seconds since the epoch.
        breaking: Those that serve although the hardware is broken under a part.
        closed: Those in which no pod may be made now, because pods of before are still there.
    """

    torn: Mapping[str, int]
    breaking: frozenset[str]
    closed: frozenset[str]

    @classmethod
    def of(cls, slots: Mapping[str, Slot], pods: Iterable[Child], around: Around) -> "Replicas":
        """Return those among the pods that should exist, by name, given those that do."""
        sizes: dict[str, int] = {s.leader: s.pool.size for s in slots.values() if s.pool.size > 1}
        there: dict[str, list[Child]] = defaultdict(list)
        for pod in pods:
            slot = slots.get(pod.name)
            if slot is not None and slot.leader in sizes and slot.revision == pod.revision:
                there[slot.leader].append(pod)
        broken = {name for name, members in there.items() if any(map(around.breaks, members))}
        serving = {
            name
            for name, members in there.items()
            if sum(pod.counts and pod.serves for pod in members) == sizes[name]
        }
        return cls(
            torn={
                name: max(pod.created_at for pod in members)
                for name, members in there.items()
                if _runs(members)
                and (sum(pod.counts for pod in members) < sizes[name] or name in broken - serving)
            },
            breaking=frozenset(broken & serving),
            closed=frozenset(
                name
                for name, members in there.items()
                if any(pod.node is not None or not pod.counts for pod in members)
            ),
        )


def _runs(members: Iterable[Child]) -> bool:
    """Return whether any of the pods has a node and is not being deleted."""
    return any(pod.node is not None and not pod.terminating for pod in members)
