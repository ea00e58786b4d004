"""The units of an InferenceDeployment as they are: its pods, seen in sets that serve together.

`rollout` decides about units, `tally` counts them. `Around` is what both need to
know besides the pods.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from bayplan.inference.children import Child, Deployment, Slot, unit_slots
from bayplan.snapshot import NodeName


class Trouble(StrEnum):
    """What is wrong with a node that exists."""

    NONE = "None"
    CORDONED = "Cordoned"  #: whoever runs there is to leave it, once a replacement serves
    FAILING = "Failing"  #: its GPUs are reported broken
    AWAY = "Away"  #: nothing is heard of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What is known around the pods of a deployment.

    Attributes:
        held: uids of pods for which the newest plan found no room.
        lost: Nodes that no longer exist.
        cordoned: Nodes that are to be left once the pods there have a replacement.
        failing: Nodes whose GPUs are reported broken.
        away: Nodes of which nothing is heard.
        leaving: uids of pods that the plan at work moves or evicts; who carries it out takes them
            out of service when their turn has come.
        loads: Requests in the engine of a pod, by uid: running and waiting ones; None for an
            engine that does not answer. Pods that say nothing of their metrics are not in it.
    """

    held: Collection[str] = ()
    lost: Collection[NodeName] = ()
    cordoned: Collection[NodeName] = ()
    failing: Collection[NodeName] = ()
    away: Collection[NodeName] = ()
    leaving: Collection[str] = ()
    loads: Mapping[str, int | None] = field(default_factory=dict)

    def buries(self, pod: Child) -> bool:
        """Return whether the node of a pod is gone: nobody is left to say that it has ended."""
        return pod.node is not None and pod.node in self.lost

    def breaks(self, pod: Child) -> bool:
        """Return whether the hardware under a pod is reported broken."""
        return pod.broken or (pod.node is not None and pod.node in self.failing)

    def displaces(self, pod: Child) -> bool:
        """Return whether a pod is to leave its node."""
        return self.breaks(pod) or (pod.node is not None and pod.node in self.cordoned)


#: Nothing is known around the pods.
UNKNOWN = Around()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit of which there is any pod.

    Attributes:
        index: Its number.
        pods: Its pods, those that are ending included.
        made_from: The newest revision.
        newest: Whether it is of that.
        displaced: Whether a pod of it is to leave its node.
        slots: The pods that it should have.
    """

    index: int
    pods: tuple[Child, ...]
    made_from: str
    newest: bool
    displaced: bool
    slots: tuple[Slot, ...] = field(repr=False)

    @property
    def live(self) -> tuple[Child, ...]:
        """Its pods that are not being deleted."""
        return tuple(pod for pod in self.pods if not pod.terminating)

    @property
    def pure(self) -> bool:
        """Whether it has no pod of an older revision, not even one that is ending."""
        return all(pod.revision == self.made_from for pod in self.pods)

    @property
    def members(self) -> tuple[Child, ...]:
        """Its pods that are there to stay and of its revision."""
        if not self.newest:
            return tuple(pod for pod in self.pods if pod.counts)
        wanted = {slot.name: slot.revision for slot in self.slots}
        return tuple(p for p in self.pods if p.counts and wanted.get(p.name) == p.revision)

    @property
    def whole(self) -> bool:
        """Whether every pod that it needs is there to stay.

        What an older unit needs is what its pods were told when they were made; the least of it,
        for a unit that was made smaller since.
        """
        if self.newest:
            return len(self.members) == len(self.slots)
        same = len({pod.revision for pod in self.members}) == 1
        return same and len(self.members) >= min(pod.unit_size for pod in self.members)

    @property
    def started(self) -> bool:
        """Whether any pod that is not being deleted has a node."""
        return any(pod.node is not None for pod in self.live)

    @property
    def useless(self) -> bool:
        """Whether it is an older one that has lost a pod, or never ran."""
        return not self.newest and not (self.whole and self.started)

    @property
    def scheduled(self) -> bool:
        """Whether every pod that it needs has a node."""
        return self.whole and all(pod.node is not None for pod in self.members)

    @property
    def ready(self) -> bool:
        """Whether it can serve, and no pod of it was taken out of service."""
        in_service = not self.draining and not self.yielding
        return self.whole and in_service and all(pod.ready for pod in self.members)

    @property
    def draining(self) -> bool:
        """Whether it was taken out of service to go as a whole."""
        return any(pod.drains_since and not pod.yields for pod in self.pods if pod.counts)

    @property
    def yielding(self) -> bool:
        """Whether a pod of it was taken out of service because a plan makes it leave."""
        return any(pod.drains_since and pod.yields for pod in self.pods if pod.counts)

    def load(self, loads: Mapping[str, int | None]) -> float:
        """Return how many requests it works on; infinite where an engine does not answer."""
        known = (loads.get(pod.uid, 0) for pod in self.members)
        return sum(math.inf if n is None else n for n in known)

    def lacks_room(self, held: Collection[str]) -> bool:
        """Return whether a pod waits that the plan, or the default algorithm, found no node for."""
        waiting = (pod for pod in self.members if pod.node is None)
        return any(p.uid in held or (not p.gated and p.pin is None) for p in waiting)


def units_of(
    deployment: Deployment, seen: Iterable[Child], around: Around = UNKNOWN
) -> tuple[Unit, ...]:
    """Return the units that exist, by index; pods of another owner are not ours."""
    by_index: dict[int, list[Child]] = defaultdict(list)
    for child in own(deployment, seen):
        if child.unit >= 0:
            dead = around.buries(child)
            seen_as = replace(child, terminating=True, ready=False) if dead else child
            by_index[child.unit].append(seen_as)
    made_from = deployment.revision
    return tuple(
        _unit(deployment, index, sorted(pods, key=lambda pod: pod.name), made_from, around)
        for index, pods in sorted(by_index.items())
    )


def is_rolling(units: Iterable[Unit]) -> bool:
    """Return whether a unit of an older revision is there."""
    return any(unit.live and not unit.newest for unit in units)


def own(deployment: Deployment, seen: Iterable[Child]) -> Iterable[Child]:
    """Leave out pods that only look like ours, of a deleted namesake say."""
    return (child for child in seen if child.owner_uid == deployment.uid)


def _unit(
    deployment: Deployment, index: int, pods: Sequence[Child], made_from: str, around: Around
) -> Unit:
    live = [pod for pod in pods if not pod.terminating]
    return Unit(
        index=index,
        pods=tuple(pods),
        made_from=made_from,
        newest=any(pod.revision == made_from for pod in live or pods),
        displaced=any(around.displaces(pod) for pod in live),
        slots=unit_slots(deployment, index, made_from),
    )
