"""Gangs as the checks count them, and what decides on pods that wait."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final, NamedTuple

import numpy as np

from bayplan.aftermath import Numbers
from bayplan.cluster.columns import NONE
from bayplan.cluster.constraints import GangTopology
from bayplan.cluster.keys import GangKey
from bayplan.cluster.pods import Pod, newest_member
from bayplan.cluster.snapshot import Snapshot

#: A gang of fewer pods is no gang.
_SMALLEST_GANG: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """The pods of a gang that count: those that wait, and those on nodes that are there.

    Attributes:
        min_count: How many must run for any of them to be useful; two and more.
        topology: Where they are to be with respect to each other, if that is said.
        running: Those with a node, before the plan.
        waiting: Those without.
    """

    min_count: int
    topology: GangTopology | None
    running: tuple[Pod, ...]
    waiting: tuple[Pod, ...]

    @property
    def lacks_pods(self) -> bool:
        """Whether pods do not exist without which none of it may be placed."""
        return len(self.running) + len(self.waiting) < self.min_count


class PlacedAs(NamedTuple):
    """What decides on pods that wait, and so by which stage they are counted.

    Attributes:
        tier: Their priority, or the lowest of their gang.
        gentle: Whether nobody is made to go for them, or for one of their gang.
        needed: Whether their deployment lacks their unit.
    """

    tier: int
    gentle: bool
    needed: bool

    @property
    def stage(self) -> str:
        """The name of the stage that counts them."""
        first = " below minReplicas" if self.needed else ""
        return f"place {self.tier}{first}" + (" without preemption" if self.gentle else "")


class Placing(NamedTuple):
    """What decides on each pod that waits.

    Attributes:
        values: All that decides on some pod.
        numbers: [pod] which of them decides on it; -1 if it does not wait.
    """

    values: tuple[PlacedAs, ...]
    numbers: Numbers


def gangs_of(snapshot: Snapshot) -> Mapping[GangKey, Gang]:
    """Return the gangs of two pods and more, by key."""
    members: dict[GangKey, list[Pod]] = defaultdict(list)
    for pod in snapshot.in_gangs:
        if pod.gang and not pod.terminating and (pod.waiting or pod.node in snapshot.rows):
            members[pod.gang].append(pod)
    newest = {key: newest_member(pods) for key, pods in sorted(members.items())}
    return {
        key: Gang(
            min_count=one.gang_min_count,
            topology=one.gang_topology,
            running=tuple(pod for pod in members[key] if not pod.waiting),
            waiting=tuple(pod for pod in members[key] if pod.waiting),
        )
        for key, one in newest.items()
        if one.gang_min_count >= _SMALLEST_GANG
    }


def placing_of(
    snapshot: Snapshot, gangs: Mapping[GangKey, Gang], lacking: Collection[GangKey]
) -> Placing:
    """Return what decides on pods that wait.

    A pod is decided on at its priority; one of a gang at the gang's lowest, and like one that does
    not preempt if one of the gang does not. Whom a deployment lacks is decided on before others.
    """
    number: dict[PlacedAs, int] = defaultdict(count().__next__)
    alone = [number[PlacedAs(k.priority, not k.preempts, needed=False)] for k in snapshot.kinds]
    waits = np.frombuffer(snapshot.waits, dtype=np.bool_)
    kinds = np.asarray(snapshot.kind_of.numbers)
    numbers = np.where(waits, np.array(alone, dtype=np.int64)[kinds], NONE)
    whole = {
        key: number[_together(gang.waiting, needed=key in lacking)]
        for key, gang in gangs.items()
        if gang.waiting
    }
    for i in np.flatnonzero(waits).tolist() if whole or lacking else ():
        pod = snapshot.pods[i]
        if pod.gang in whole:
            numbers[i] = whole[pod.gang]
        elif pod.gang in lacking:
            numbers[i] = number[_together((pod,), needed=True)]
    return Placing(tuple(number), numbers)


def _together(pods: tuple[Pod, ...], *, needed: bool) -> PlacedAs:
    return PlacedAs(
        min(pod.priority for pod in pods), not all(pod.preempts for pod in pods), needed
    )
