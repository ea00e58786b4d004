"""Checks of pods with respect to each other: rules between them, whole gangs, and ranks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bayplan.aftermath import Numbers
from bayplan.cluster.keys import GangKey
from bayplan.rules import between
from bayplan.validate.evidence import Evidence
from bayplan.validate.findings import Code, Violation, wrong
from bayplan.validate.placing import PlacedAs


def between_pods(about: Evidence) -> Iterator[Violation]:
    """Check what pods ask of each other."""
    if about.placement is None:
        return
    for message in between.broken(about.placement):
        yield wrong(Code.PEERS_BROKEN, message)
    for message in between.scattered(about.placement):
        yield wrong(Code.GANG_SCATTERED, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fate:
    """Where a gang stands, before and after."""

    key: GangKey
    min_count: int
    before: int
    after: int
    waiting: int
    placed: int
    evicted: int


def _fates(about: Evidence) -> Iterator[_Fate]:
    for key, gang in about.gangs.items():
        yield _Fate(
            key=key,
            min_count=gang.min_count,
            before=len(gang.running),
            after=sum(map(about.has_node, gang.running + gang.waiting)),
            waiting=len(gang.waiting),
            placed=sum(map(about.has_node, gang.waiting)),
            evicted=sum(pod.key in about.gone for pod in gang.running),
        )


def whole_gangs(about: Evidence) -> Iterator[Violation]:
    """Check that gangs are placed whole, reach their minimum, and are evicted whole."""
    for gang in _fates(about):
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
    """Return how many waiting pods are bound, by what decides on them."""
    bound = about.after.bound.pods[about.after.bound.pods >= 0]
    waits = np.frombuffer(about.snapshot.waits, dtype=np.bool_)
    return _placed_as(about, bound[waits[bound]])


def placeable_counts(about: Evidence) -> Counter[PlacedAs]:
    """Return how many waiting pods may be placed, by what decides on them."""
    return _placed_as(about, placeable(about))


def placeable(about: Evidence) -> Numbers:
    """Return where the pods are that may be placed: who waits, but in no gang that lacks pods."""
    waiting = np.flatnonzero(about.waiting)
    if not any(gang.lacks_pods for gang in about.gangs.values()):
        return waiting
    of = (about.gang_of(about.snapshot.pods[i]) for i in waiting.tolist())
    return waiting[np.array([gang is None or not gang.lacks_pods for gang in of], dtype=np.bool_)]


def _placed_as(about: Evidence, pods: Numbers) -> Counter[PlacedAs]:
    values, numbers = about.placing
    counts = np.bincount(numbers[pods], minlength=len(values))
    return Counter({values[k]: int(counts[k]) for k in np.flatnonzero(counts)})


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
