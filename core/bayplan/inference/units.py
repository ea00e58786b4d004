"""The units of an InferenceDeployment as they are: its pods, seen in sets that serve together.

`rollout` decides about units, `tally` counts them. `Around` is what both need to
know besides the pods.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from operator import attrgetter

from bayplan.cluster.keys import NodeName
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.pairs import Pair, pairs_of
from bayplan.inference.shapes import NO_SHAPE, Shape


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
        unpatchable: uids of pods on which the API server lets nobody write what makes their unit
            whole.
        loads: Requests in the engine of a pod, by uid: running and waiting ones; None for an
            engine that does not answer. Pods that say nothing of their metrics are not in it.
    """

    held: Collection[str] = ()
    lost: Collection[NodeName] = ()
    cordoned: Collection[NodeName] = ()
    failing: Collection[NodeName] = ()
    away: Collection[NodeName] = ()
    leaving: Collection[str] = ()
    unpatchable: Collection[str] = ()
    loads: Mapping[str, int | None] = field(default_factory=dict)

    def loses(self, pod: Child) -> bool:
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


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A replica of which there is any pod that is not being deleted.

    Attributes:
        pool: Its pool.
        index: Its number, in its pool and unit.
        pods: Its pods, those that have ended included.
    """

    pool: str
    index: int
    pods: tuple[Child, ...]

    @cached_property
    def begun(self) -> bool:
        """Whether a pod of it has a node, or is on its way to one."""
        return any(pod.node is not None or pod.pin is not None for pod in self.pods)

    @property
    def draining(self) -> bool:
        """Whether it is being taken out of service."""
        return any(pod.drains_since for pod in self.pods)

    @cached_property
    def placed(self) -> bool:
        """Whether it is there to stay, and every pod of it has a node."""
        return self.has(lambda pod: pod.node is not None)

    def has(self, state: Callable[[Child], bool]) -> bool:
        """Return whether it is there to stay as a whole, with every pod in a state."""
        if len(self.pods) == 1:
            (pod,) = self.pods
            return pod.replica_size == 1 and pod.counts and state(pod)
        fit = sum(pod.counts and state(pod) for pod in self.pods)
        return fit >= max(pod.replica_size for pod in self.pods)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit of which there is any pod.

    Attributes:
        index: Its number.
        pods: Its pods, those that are ending included, but for those that stand aside.
        pairs: Pods that are moved by starting their replacement first.
        made_from: The newest revision.
        newest: Whether it is of that.
        displaced: Whether a pod of it is to leave its node.
        shape: What makes it whole. Of the newest revision that is the least of the spec, or what
            its pods say as long as it has not come to that; of an older one what they say.
    """

    index: int
    pods: tuple[Child, ...]
    made_from: str
    newest: bool
    displaced: bool
    shape: Shape
    pairs: tuple[Pair, ...] = ()

    # Asked for again and again in one pass, over all pods.

    @cached_property
    def live(self) -> tuple[Child, ...]:
        """Its pods that are not being deleted."""
        return tuple(pod for pod in self.pods if not pod.terminating)

    @property
    def pure(self) -> bool:
        """Whether it has no pod of an older revision, not even one that is ending."""
        return all(pod.revision == self.made_from for pod in self.pods)

    @cached_property
    def members(self) -> tuple[Child, ...]:
        """Its pods that are there to stay and of its revision."""
        return tuple(pod for engine in self.engines for pod in engine.pods if pod.counts)

    @cached_property
    def engines(self) -> tuple[Engine, ...]:
        """Its replicas, by pool and number; of the newest revision only, if it is of that."""
        found: dict[tuple[str, int], list[Child]] = defaultdict(list)
        for pod in self.live:
            if not self.newest or pod.revision == self.made_from:
                found[pod.pool, pod.replica].append(pod)
        return tuple(
            Engine(pool=pool, index=index, pods=tuple(pods))
            for (pool, index), pods in sorted(found.items())
        )

    @property
    def aside(self) -> tuple[Child, ...]:
        """Its pods that do not count, because others do in their place."""
        return tuple(pair.aside for pair in self.pairs)

    def covers(self, shape: Shape, state: Callable[[Child], bool] = lambda _: True) -> bool:
        """Return whether it has all replicas of a shape, with every pod of them in a state."""
        return shape.covered_by(engine.pool for engine in self.engines if engine.has(state))

    @cached_property
    def whole(self) -> bool:
        """Whether every pod that it needs is there to stay."""
        return len({pod.revision for pod in self.members}) == 1 and self.covers(self.shape)

    @cached_property
    def started(self) -> bool:
        """Whether any pod that is not being deleted has a node."""
        return any(pod.node is not None for pod in self.live)

    @property
    def useless(self) -> bool:
        """Whether it is an older one that has lost a pod, or never ran."""
        return not self.newest and not (self.whole and self.started)

    @cached_property
    def scheduled(self) -> bool:
        """Whether every pod that it needs has a node."""
        placed = (engine.pool for engine in self.engines if engine.placed)
        return self.whole and self.shape.covered_by(placed)

    @cached_property
    def ready(self) -> bool:
        """Whether it can serve, without what is being taken out of service."""
        return self.whole and self.covers(self.shape, attrgetter("takes_requests"))

    @cached_property
    def draining(self) -> bool:
        """Whether it was taken out of service to go: what is left of it is no whole unit."""
        drains = any(pod.drains_since and not pod.yields for pod in self.pods if pod.counts)
        return drains and not self.covers(self.shape, _stays)

    def load(self, loads: Mapping[str, int | None]) -> float:
        """Return how many requests it works on; infinite where an engine does not answer."""
        known = (loads.get(pod.uid, 0) for pod in self.members)
        return sum(math.inf if n is None else n for n in known)

    def lacks_room(self, held: Collection[str]) -> bool:
        """Return whether the plan, or the default algorithm, found no node for a pod it needs."""
        if self.scheduled:
            return False
        waiting = (pod for pod in self.members if pod.node is None)
        return any(p.uid in held or (not p.gated and p.pin is None) for p in waiting)


def units_of(
    deployment: Deployment, seen: Iterable[Child], around: Around = UNKNOWN
) -> tuple[Unit, ...]:
    """Return the units that exist, by index; pods of another owner are not ours."""
    by_index: dict[int, list[Child]] = defaultdict(list)
    for child in own(deployment, seen):
        if child.unit >= 0:
            dead = around.loses(child)
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
    deployment: Deployment, index: int, there: Sequence[Child], made_from: str, around: Around
) -> Unit:
    pairs = pairs_of(there) if any(pod.serves_by for pod in there) else ()
    aside = {pair.aside.uid for pair in pairs}
    pods = [pod for pod in there if pod.uid not in aside] if aside else there
    live = [pod for pod in pods if not pod.terminating]
    unit = Unit(
        index=index,
        pods=tuple(pods),
        made_from=made_from,
        newest=any(pod.revision == made_from for pod in live or pods),
        displaced=any(around.displaces(pod) for pod in live),
        shape=deployment.least,
        pairs=pairs,
    )
    said = [pod.shape for engine in unit.engines for pod in engine.pods if pod.shape]
    if not unit.newest:
        return replace(unit, shape=min(said, default=NO_SHAPE))
    return replace(unit, shape=_shape(unit, min(said, default=unit.shape)))


def _shape(unit: Unit, said: Shape) -> Shape:
    """Return what makes a unit of the newest revision whole, given what its pods say.

    The least of the spec holds as soon as it asks for no more than before, nothing is running yet
    that would have to wait for more, or what is more serves.
    """
    least = unit.shape
    begun = any(engine.begun for engine in unit.engines)
    if least.within(said) or not begun or unit.covers(least, attrgetter("takes_requests")):
        return least
    return said


def _stays(pod: Child) -> bool:
    return not pod.drains_since or pod.yields
