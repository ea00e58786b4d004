"""Which pods of an InferenceDeployment to make and to delete next, unit by unit.

    older unit, lost a pod or never ran ──▶ goes at once
    older unit, not ready               ──▶ goes first
    older unit, ready                   ──▶ goes when the floor allows it
    newest unit, a pod is missing       ──▶ the pod is made; after failures with back-off
    more units than asked for           ──▶ whole units go, those that do not serve first

A unit is of one revision: no pod is made in it while a pod of another one is there. A unit that is
to be made takes an index that is free, so that it need not wait until an old one has ended. Up to
`max_surge` units more than asked for are made while older ones are there; only when the plan holds
them for want of room does a ready unit go before its successor serves, and never so many that
fewer than `replicas - max_unavailable` serve.

Everything is compared level by level: what is decided depends on the spec, on the pods as they
are, and on how often they have failed, not on how things came to be so. Asking again after the
changes were made, with every pod ready, yields none.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Final

from bayplan.children import Child, Deployment, Slot, unit_slots
from bayplan.replicas import Replicas
from bayplan.snapshot import NodeName

#: Least seconds from the making of a pod to the making of the next under its name: a node that
#: fails every pod at once must not be fed with plans and pods in a hot loop. Doubled with each
#: further failure in a row, up to the most.
LEAST_LIFE_S: Final = 20
MOST_BACK_OFF_S: Final = 640

#: Seconds for which a pod must have lived, and be ready, for its failures to be forgotten.
HEALTHY_S: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit of which there is any pod.

    Attributes:
        index: Its number.
        pods: Its pods, those that are ending included.
        made_from: The newest revision.
        newest: Whether it is of that.
        slots: The pods that it should have.
    """

    index: int
    pods: tuple[Child, ...]
    made_from: str
    newest: bool
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
        """Whether it can serve."""
        return self.whole and all(pod.ready for pod in self.members)

    def lacks_room(self, held: Collection[str]) -> bool:
        """Return whether a pod waits that the plan, or the default algorithm, found no node for."""
        waiting = (pod for pod in self.members if pod.node is None)
        return any(p.uid in held or (not p.gated and p.pin is None) for p in waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What to do about the pods now.

    Attributes:
        create: Missing pods, by unit; none while another pod has the name.
        delete: Pods to delete, whole units first.
        strangers: Names that pods of another owner keep from us.
        failures: How many times in a row the pod of a name has failed.
        back_off: Pods that have failed and are kept until they may be made anew.
        retry_at: When the first of these may be, in seconds since the epoch.
    """

    create: tuple[Slot, ...] = ()
    delete: tuple[Child, ...] = ()
    strangers: tuple[str, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)
    back_off: tuple[Child, ...] = ()
    retry_at: float | None = None


def changes(  # noqa: PLR0913 - what is known beside the pods, each by name
    deployment: Deployment,
    seen: Iterable[Child],
    *,
    failures: Mapping[str, int] | None = None,
    held: Collection[str] = (),
    lost: Collection[NodeName] = (),
    now: float = math.inf,
) -> Changes:
    """Return what to create and delete so that the seen pods become the desired ones.

    `failures` are those of the changes before. `held` are uids of pods for which the newest plan
    found no room. `lost` are nodes that no longer exist: a pod pinned there that was never bound
    is replaced. `now` is in seconds since the epoch.
    """
    pods = tuple(seen)
    strangers = {child.name for child in pods if child.owner_uid != deployment.uid}
    # 1. Whole units: which go, which stay, which are made.
    units = units_of(deployment, pods)
    going = _going(deployment, units, held)
    gone = {unit.index for unit in going}
    stay = [unit for unit in units if unit.live and unit.index not in gone]
    # 2. Within units of the newest revision: which pods must go, which are missing.
    target = [unit for unit in stay if unit.newest]
    slots = _slots(deployment, [*(u.index for u in target), *_fresh(deployment, units, stay)])
    replicas = Replicas.of(slots, _own(deployment, pods))
    repairs = _Repairs(deployment, slots, replicas, failures or {}, lost, now)
    replaced = [pod for unit in target for pod in unit.live if repairs.must_go(pod)]
    names = {child.name for child in pods}
    mixed = {unit.index for unit in units if not unit.pure}
    stray = [child for child in _own(deployment, pods) if child.unit < 0 and not child.terminating]
    return Changes(
        create=tuple(
            slot
            for slot in slots.values()
            if slot.name not in names
            and slot.unit not in mixed
            and slot.leader not in replicas.closed
        ),
        delete=(*stray, *(pod for unit in going for pod in unit.live), *replaced),
        strangers=tuple(sorted(strangers & slots.keys())),
        failures=repairs.failures,
        back_off=tuple(repairs.back_off),
        retry_at=repairs.retry_at,
    )


def units_of(deployment: Deployment, seen: Iterable[Child]) -> tuple[Unit, ...]:
    """Return the units that exist, by index; pods of another owner are not ours."""
    by_index: dict[int, list[Child]] = defaultdict(list)
    for child in _own(deployment, seen):
        if child.unit >= 0:
            by_index[child.unit].append(child)
    made_from = deployment.revision
    return tuple(
        _unit(deployment, index, sorted(pods, key=lambda pod: pod.name), made_from)
        for index, pods in sorted(by_index.items())
    )


def is_rolling(units: Iterable[Unit]) -> bool:
    """Return whether a unit of an older revision is there."""
    return any(unit.live and not unit.newest for unit in units)


def _unit(deployment: Deployment, index: int, pods: Sequence[Child], made_from: str) -> Unit:
    live = [pod for pod in pods if not pod.terminating]
    return Unit(
        index=index,
        pods=tuple(pods),
        made_from=made_from,
        newest=any(pod.revision == made_from for pod in live or pods),
        slots=unit_slots(deployment, index, made_from),
    )


def _going(deployment: Deployment, units: Sequence[Unit], held: Collection[str]) -> list[Unit]:
    """Return the units of which every pod is to be deleted now."""
    there = [unit for unit in units if unit.live]
    # 1. Older units that can never serve: their template is gone, so they cannot be repaired.
    useless = [unit for unit in there if unit.useless]
    rest = sorted((unit for unit in there if not unit.useless), key=_least_useful_first)
    # 2. More than may be.
    surplus = []
    while len(rest) > deployment.replicas + _surge(deployment, rest):
        surplus.append(rest.pop(0))
    # 3. Older units whose turn it is.
    ending = any(unit.pods and not unit.live for unit in units)
    return [*useless, *surplus, *_turn(deployment, rest, held, ending=ending)]


def _least_useful_first(unit: Unit) -> tuple[bool, bool, bool, int]:
    return unit.ready, unit.newest, unit.started, -unit.index


def _turn(
    deployment: Deployment, rest: Sequence[Unit], held: Collection[str], *, ending: bool
) -> list[Unit]:
    """Return the units that make way for newer ones now, the highest first."""
    older = sorted((u for u in rest if not u.newest), key=lambda u: -u.index)
    if deployment.rollout.paused or not older:
        return []
    starting = sorted((u for u in rest if u.newest and not u.ready), key=lambda unit: unit.index)
    surge, due = _surge(deployment, rest), _due(deployment, rest)
    no_room = bool(starting) and not due and all(u.lacks_room(held) for u in starting)
    # Those that do not serve go first, but not all at once: they may yet come to serve, and
    # nobody knows whether the newest revision does. One at a time where room is all that it lacks.
    missing = max(0, deployment.replicas - len(rest))
    n_unready = deployment.rollout.max_unavailable + surge - len(starting) - missing
    if no_room and not ending:
        n_unready = max(n_unready, 1)
    unready = [unit for unit in older if not unit.ready][: max(0, n_unready)]
    # Of those that serve as many as the newer ones make up for; where these cannot come before,
    # as many as may be missing.
    ahead = surge > 0 and not no_room
    floor = deployment.replicas - (0 if ahead else deployment.rollout.max_unavailable)
    n_ready = sum(unit.ready for unit in rest) - max(0, floor)
    turn = [*unready, *[unit for unit in older if unit.ready][: max(0, n_ready)]]
    if turn or not no_room or ending or len(rest) <= deployment.replicas:
        return turn
    # Nobody finds room, and there are more units than asked for: one that runs in part gives its.
    return [unit for unit in reversed(starting) if unit.started][:1]


def _surge(deployment: Deployment, rest: Iterable[Unit]) -> int:
    """Return how many units there may be beyond those asked for."""
    rolling = any(not unit.newest for unit in rest)
    allowed = rolling and deployment.replicas > 0 and not deployment.rollout.paused
    return deployment.rollout.max_surge if allowed else 0


def _due(deployment: Deployment, rest: Sequence[Unit]) -> int:
    """Return how many units of the newest revision are to be made beside those that stay."""
    newest = sum(unit.newest for unit in rest)
    allowed = deployment.replicas + _surge(deployment, rest) - len(rest)
    return max(0, min(allowed, deployment.replicas - newest))


def _fresh(deployment: Deployment, units: Sequence[Unit], stay: Sequence[Unit]) -> list[int]:
    """Return the indices of the units to be made.

    A unit whose pods are all being deleted, by somebody else or because they were moved, is made
    again under its names, and so is one that never ran, for its names are free at once. Any other
    index is one that nobody has.
    """
    kept = {unit.index for unit in stay}
    gone = [unit for unit in units if unit.index not in kept]
    again = [u.index for u in gone if (u.newest and not u.live) or not _ever_ran(u)]
    known = {unit.index for unit in units}
    free = (index for index in count() if index not in known)
    due = _due(deployment, stay)
    chosen = again[:due]
    return sorted([*chosen, *islice(free, due - len(chosen))])


def _ever_ran(unit: Unit) -> bool:
    return any(pod.node is not None for pod in unit.pods)


def _slots(deployment: Deployment, indices: Iterable[int]) -> dict[str, Slot]:
    """Return the pods of units of the newest revision, by name."""
    made_from = deployment.revision
    return {
        slot.name: slot
        for index in sorted(set(indices))
        for slot in unit_slots(deployment, index, made_from)
    }


class _Repairs:
    """Which pods of the newest revision must go so that fresh ones can take their names."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that bears on it
        self,
        deployment: Deployment,
        slots: Mapping[str, Slot],
        replicas: Replicas,
        failures: Mapping[str, int],
        lost: Collection[NodeName],
        now: float,
    ) -> None:
        self.failures = {name: n for name, n in failures.items() if name in slots}
        self._before = dict(self.failures)
        self.back_off: list[Child] = []
        self.retry_at: float | None = None
        self._unit_size = deployment.unit_size
        self._slots = slots
        self._torn = replicas.torn
        self._lost = lost
        self._now = now

    def must_go(self, pod: Child) -> bool:
        """Return whether to delete a pod now; remember how often it has failed."""
        slot = self._slots.get(pod.name)
        if slot is None or pod.revision != slot.revision:
            return True
        if pod.ended or slot.leader in self._torn:
            return self._may_fail_again(pod, slot.leader)
        if pod.node is None:
            # It does not run yet, so replacing it disturbs nobody.
            return pod.unit_size != self._unit_size or (
                pod.pin is not None and pod.pin in self._lost
            )
        if pod.ready and self._now >= pod.created_at + HEALTHY_S:
            self.failures.pop(pod.name, None)
        return False

    def _may_fail_again(self, pod: Child, replica: str) -> bool:
        """Count a failure of a replica, once for all its pods, when its time has come."""
        n = self._before.get(replica, 0)
        due_at = self._torn.get(replica, pod.created_at) + back_off_s(n)
        if self._now >= due_at:
            self.failures[replica] = n + 1
            return True
        self.back_off.append(pod)
        self.retry_at = min(due_at, self.retry_at or math.inf)
        return False


def back_off_s(failures: int) -> float:
    """Return the least seconds between the making of two pods of a name after some failures."""
    return min(MOST_BACK_OFF_S, LEAST_LIFE_S * 2.0 ** min(failures, 10))


def _own(deployment: Deployment, seen: Iterable[Child]) -> Iterable[Child]:
    """Leave out pods that only look like ours, of a deleted namesake say."""
    return (child for child in seen if child.owner_uid == deployment.uid)
