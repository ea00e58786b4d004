"""Checks of pods with respect to each other: rules between them, whole gangs, and ranks."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bayplan import between
from bayplan.aftermath import Numbers
from bayplan.keys import GangKey
from bayplan.snapshot import Pod, newest_member
from bayplan.validate.evidence import Evidence, Mask
from bayplan.validate.findings import Code, Violation, wrong


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


def between_pods(about: Evidence) -> Iterator[Violation]:
    """Check what pods ask of each other."""
    if about.placement is None:
        return
    for message in between.broken(about.placement):
        yield wrong(Code.PEERS_BROKEN, message)
    for message in between.scattered(about.placement):
        yield wrong(Code.GANG_SCATTERED, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gang:
    """Where a gang stands, before and after."""

    key: GangKey
    min_count: int
    before: int
    after: int
    waiting: int
    placed: int
    evicted: int


def _gangs(about: Evidence) -> Iterator[_Gang]:
    members: dict[GangKey, list[Pod]] = defaultdict(list)
    for pod in about.snapshot.in_gangs:
        if pod.gang is not None and not pod.terminating:
            members[pod.gang].append(pod)
    for key, pods in sorted(members.items()):
        min_count = newest_member(pods).gang_min_count
        running = [pod for pod in pods if not pod.waiting and pod.node in about.snapshot.rows]
        waiting = [pod for pod in pods if pod.waiting]
        if key in about.gangs:
            yield _Gang(
                key=key,
                min_count=min_count,
                before=len(running),
                after=sum(map(about.has_node, running + waiting)),
                waiting=len(waiting),
                placed=sum(map(about.has_node, waiting)),
                evicted=sum(pod.key in about.gone for pod in running),
            )


def whole_gangs(about: Evidence) -> Iterator[Violation]:
    """Check that gangs are placed whole, reach their minimum, and are evicted whole."""
    for gang in _gangs(about):
        if gang.placed and gang.after < gang.min_count:
            yield wrong(
                Code.GANG_SPLIT, f"{gang.key}: {gang.after} of {gang.min_count} pods would run"
            )
        if gang.before < gang.min_count and 0 < gang.placed < gang.waiting:
            yield wrong(
                Code.GANG_SPLIT, f"{gang.key}: {gang.placed} of {gang.waiting} waiting pods placed"
            )
        if gang.evicted and gang.evicted < gang.before:
            yield wrong(
                Code.GANG_SPLIT, f"{gang.key}: {gang.evicted} of {gang.before} running pods evicted"
            )


def newcomers(about: Evidence) -> Counter[PlacedAs]:
    """Return how many waiting pods are bound, by what decides on them.

    A pod is decided on at its priority; one of a gang at the gang's lowest, and like one that does
    not preempt if one of the gang does not. Whom a deployment lacks is decided on before others.
    """
    found: Counter[PlacedAs] = Counter()
    alone = _placed(about)
    told_apart = about.gangs | about.lacking
    if told_apart:
        in_gangs = _in_gangs(about, alone, told_apart)
        found.update(_by_gang(about, [about.snapshot.pods[i] for i in alone[in_gangs].tolist()]))
        alone = alone[~in_gangs]
    for kind, n in about.kinds_at(alone).items():
        found[PlacedAs(kind.priority, not kind.preempts, needed=False)] += n
    return found


def _placed(about: Evidence) -> Numbers:
    """Return where the bound pods are in the snapshot that wait, each as often as it is bound."""
    bound = about.after.bound.pods[about.after.bound.pods >= 0]
    return np.asarray(bound[np.frombuffer(about.snapshot.waits, dtype=np.bool_)[bound]])


def _in_gangs(about: Evidence, pods: Numbers, gangs: Collection[GangKey]) -> Mask:
    of = (about.snapshot.pods[i].gang for i in pods.tolist())
    return np.fromiter((gang in gangs for gang in of), dtype=np.bool_, count=len(pods))


def _by_gang(about: Evidence, pods: Iterable[Pod]) -> Iterator[PlacedAs]:
    lowest: dict[GangKey, int] = {}
    gentle: set[GangKey] = set()
    for pod in about.snapshot.waiting():
        if pod.gang is not None and pod.gang in about.gangs and not pod.terminating:
            lowest[pod.gang] = min(pod.priority, lowest.get(pod.gang, pod.priority))
            gentle |= set() if pod.preempts else {pod.gang}
    for pod in pods:
        assert pod.gang is not None  # noqa: S101 - chosen by it
        tier = lowest.get(pod.gang, pod.priority)
        gently = pod.gang in gentle if pod.gang in about.gangs else not pod.preempts
        yield PlacedAs(tier, gently, pod.gang in about.lacking)


def ranks(about: Evidence) -> Iterator[Violation]:
    """Check that each evicted pod gives way to a newcomer that outranks it and may preempt."""
    highest = max((each.tier for each in newcomers(about) if not each.gentle), default=None)
    for _, pod in about.evicted:
        if highest is None or pod.priority >= highest:
            yield wrong(
                Code.OUTRANKED_VICTIM,
                f"{pod.key} of priority {pod.priority} is evicted; the highest newcomer that may "
                f"preempt has {'none' if highest is None else highest}",
            )
