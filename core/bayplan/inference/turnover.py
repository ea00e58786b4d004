"""Which whole units of an InferenceDeployment go, which stay and which are made.

    older unit, lost a pod or never ran ──▶ goes at once
    older unit, not ready               ──▶ goes first
    older unit, ready                   ──▶ goes when the floor allows it
    newest unit on a node to be left    ──▶ goes when a replacement serves
    newest unit, a pod finds no room    ──▶ the unit gives back what it has, to wait as a whole
    more units than asked for           ──▶ whole units go: those that do not serve first, then
                                            those with the fewest requests

A unit that is to be made takes an index that is free, so that it need not wait until an old one
has ended. Up to `max_surge` units more than asked for are made while units are to be replaced; only
when the plan holds them for want of room does a ready unit go before its successor serves, and
never so many that fewer than `replicas - max_unavailable` serve.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Final

from bayplan.inference import drains
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.drains import Drains
from bayplan.inference.targets import Growth, target_of
from bayplan.inference.units import Around, Unit

#: Seconds after which a partial unit, of which a pod finds no room, gives back what it has.
#: Another ten may have passed until it was known that the pod before could not be bound.
_PARTIAL_S: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnover:
    """What becomes of whole units.

    Attributes:
        at_once: Pods of units of which nothing can come any more.
        stay: Units that go on, or are on their way to serve.
        drained: How far the others are, which go when they have finished their requests.
        fresh: The indices of units to be made.
        missing: Whether units are missing, those included whose room a unit that drains has.
        spare: Units of which pods on broken hardware may go although they serve.
        gives_back_at: When the first partial unit is to give its room back, in seconds since the
            epoch.
    """

    at_once: tuple[Child, ...]
    stay: Sequence[Unit]
    drained: Drains
    fresh: Sequence[int]
    missing: bool
    spare: frozenset[int]
    gives_back_at: float | None


def turnover(deployment: Deployment, units: Sequence[Unit], around: Around, now: float) -> Turnover:
    """Return which of the units go and stay, and which are made, at `now`."""
    lost = [unit for unit in units if unit.live and unit.useless]
    partial = _partial(deployment, units, around, now)
    going = [*partial, *_going(deployment, units, [*lost, *partial], around)]
    gone = {unit.index for unit in (*lost, *going)}
    stay = [unit for unit in units if unit.live and unit.index not in gone]
    drained = drains.drained(deployment, [_served(unit) for unit in going], around.loads, now=now)
    deleted = {pod.unit for pod in drained.delete}
    there = [*stay, *(unit for unit in going if unit.index not in deleted)]
    fresh = _fresh(deployment, units, there)
    return Turnover(
        at_once=tuple(pod for unit in lost for pod in _served(unit)),
        stay=stay,
        drained=drained,
        fresh=fresh,
        missing=bool(fresh) or len(stay) < deployment.replicas,
        spare=_spare(deployment, stay, around),
        gives_back_at=_gives_back_at(deployment, stay, around, now),
    )


def _served(unit: Unit) -> tuple[Child, ...]:
    """Return the pods of a unit that go with it; a replacement that never served goes before."""
    aside = (p.old if p.relieved else p.new for p in unit.pairs if p.relieved or p.new.serves)
    return (*unit.live, *aside)


def _partial(
    deployment: Deployment, units: Sequence[Unit], around: Around, now: float
) -> list[Unit]:
    """Return the partial units that give back the room that they keep in vain.

    One at a time, so that its room may help others.
    """
    until = {unit.index: _keeps_until(deployment, unit, around) for unit in units}
    over = [unit for unit in units if math.inf > until[unit.index] <= now]
    draining = [unit for unit in over if unit.draining]
    busy = any(unit.useless or not unit.live for unit in units)
    return draining or ([] if busy else over[-1:])


def _keeps_until(deployment: Deployment, unit: Unit, around: Around) -> float:
    """Return until when a unit keeps its room: for ever, unless the plan has none for its rest.

    A pod without a gate is on its way: kube-scheduler binds one after the other.
    """
    if not unit.newest or not unit.started or unit.scheduled:
        return math.inf
    needed = {
        slot.name for slot in target_of(deployment, unit, around, growth=Growth.NOTHING).slots
    }
    waiting = [pod for pod in unit.members if pod.gated and pod.name in needed]
    if not any(pod.uid in around.held for pod in waiting):
        return math.inf
    return _PARTIAL_S + max(pod.created_at for pod in waiting)


def _going(
    deployment: Deployment, units: Sequence[Unit], lost: Sequence[Unit], around: Around
) -> list[Unit]:
    """Return the units that serve, or may come to serve, of which every pod is to go now."""
    there = (unit for unit in units if unit.live and unit not in lost)
    rest = sorted(there, key=lambda unit: _use(unit, around))
    # 1. More than may be.
    surplus = []
    while len(rest) > deployment.replicas + _surge(deployment, rest):
        surplus.append(rest.pop(0))
    # 2. Those whose turn it is to be replaced.
    ending = any(unit.pods and not unit.live for unit in units)
    return [*surplus, *_turn(deployment, rest, around, ending=ending)]


def _use(unit: Unit, around: Around) -> tuple[bool, bool, bool, bool, bool, float, int]:
    """Return a key by which those come first that are missed the least."""
    return (
        *(not unit.draining, unit.ready, unit.newest, not unit.displaced, unit.started),
        *(unit.load(around.loads), -unit.index),
    )


def _turn(
    deployment: Deployment, rest: Sequence[Unit], around: Around, *, ending: bool
) -> list[Unit]:
    """Return the units that make way for others now, the least missed first."""
    outdated = [unit for unit in rest if _is_outdated(deployment, unit)]
    if not outdated:
        return []
    outdated.sort(key=lambda u: (not u.draining, u.load(around.loads), -u.index))
    starting, no_room = _starting(deployment, rest, around)
    serving = sum(unit.ready for unit in rest)
    # 1. Those on nodes that are to be left go only for others that serve: room there is no use.
    displaced = [unit for unit in outdated if unit.newest]
    turn = [u for u in displaced if not u.ready and serving >= deployment.replicas]
    # 2. Older ones that do not serve go before, but not all at once: they may yet come to serve,
    # and nobody knows whether the newest revision does. One at a time where room is all that it
    # lacks. What drains goes on.
    older = [unit for unit in outdated if not unit.newest]
    turn += _unready(deployment, rest, older, no_room=no_room and not ending, n=len(starting))
    # 3. Of those that serve as many as the newer ones make up for; where these cannot come before,
    # as many older ones as may be missing.
    ahead = _surge(deployment, rest) > 0 and not no_room
    floor = deployment.replicas - (0 if ahead else deployment.rollout.max_unavailable)
    ready = [unit for unit in (outdated if ahead else older) if unit.ready]
    going = ready[: max(0, serving - max(0, floor))]
    turn += going
    if not ahead:
        # Others that serve already are enough, whether yet another finds room or not.
        leaving = [unit for unit in displaced if unit.ready]
        turn += leaving[: max(0, serving - len(going) - deployment.replicas)]
    if turn or not no_room or ending or len(rest) <= deployment.replicas:
        return turn
    # 4. Nobody finds room, and there are more units than asked for: one that runs in part gives
    # its.
    return [unit for unit in reversed(starting) if unit.started][:1]


def _unready(
    deployment: Deployment, rest: Sequence[Unit], older: Sequence[Unit], *, no_room: bool, n: int
) -> list[Unit]:
    """Return the older units that go although they do not serve; `n` newer ones are starting."""
    missing = max(0, deployment.replicas - len(rest))
    most = deployment.rollout.max_unavailable + _surge(deployment, rest) - n - missing
    if no_room:
        most = max(most, 1)
    draining = [unit for unit in older if unit.draining]
    unready = [unit for unit in older if not unit.ready and not unit.draining]
    return [*draining, *unready[: max(0, most - len(draining))]]


def _is_outdated(deployment: Deployment, unit: Unit) -> bool:
    """Return whether another unit is to take its place."""
    return unit.displaced or not (unit.newest or deployment.rollout.paused)


def _starting(
    deployment: Deployment, rest: Sequence[Unit], around: Around
) -> tuple[list[Unit], bool]:
    """Return the units that are to come to serve, and whether none of them finds room."""
    starting = sorted(
        (u for u in rest if u.newest and not u.ready and not u.displaced),
        key=lambda unit: unit.index,
    )
    due = _due(deployment, rest)
    return starting, bool(starting) and not due and all(u.lacks_room(around.held) for u in starting)


def _spare(deployment: Deployment, stay: Sequence[Unit], around: Around) -> frozenset[int]:
    """Return the units of which pods on broken hardware may go although they serve.

    A whole unit beside them is tried first; where it finds no room, as many as may be missing.
    """
    broken = [u for u in stay if u.newest and u.ready and any(map(around.breaks, u.live))]
    if not broken or (_surge(deployment, stay) > 0 and not _starting(deployment, stay, around)[1]):
        return frozenset()
    serving = sum(unit.ready for unit in stay)
    n = serving - max(0, deployment.replicas - deployment.rollout.max_unavailable)
    return frozenset(unit.index for unit in broken[: max(0, n)])


def _surge(deployment: Deployment, rest: Iterable[Unit]) -> int:
    """Return how many units there may be beyond those asked for."""
    wanted = any(_is_outdated(deployment, unit) for unit in rest)
    return deployment.rollout.max_surge if wanted and deployment.replicas > 0 else 0


def _due(deployment: Deployment, rest: Sequence[Unit]) -> int:
    """Return how many units of the newest revision are to be made beside those that stay.

    Pods that are doubled while they are moved take of what may be there beyond.
    """
    current = sum(not _is_outdated(deployment, unit) for unit in rest)
    doubled = sum(len(unit.pairs) for unit in rest)
    allowed = deployment.replicas + max(0, _surge(deployment, rest) - doubled) - len(rest)
    return max(0, min(allowed, deployment.replicas - current))


def _fresh(deployment: Deployment, units: Sequence[Unit], there: Sequence[Unit]) -> list[int]:
    """Return the indices of the units to be made.

    A unit whose pods are all being deleted, by somebody else or because they were moved, is made
    again under its names, and so is one that never ran, for its names are free at once. Any other
    index is one that nobody has.
    """
    kept = {unit.index for unit in there}
    gone = [unit for unit in units if unit.index not in kept]
    again = [u.index for u in gone if (u.newest and not u.live) or not _ever_ran(u)]
    known = {unit.index for unit in units}
    free = (index for index in count() if index not in known)
    due = _due(deployment, there)
    chosen = again[:due]
    return sorted([*chosen, *islice(free, due - len(chosen))])


def _ever_ran(unit: Unit) -> bool:
    return any(pod.node is not None for pod in unit.pods)


def _gives_back_at(
    deployment: Deployment, stay: Iterable[Unit], around: Around, now: float
) -> float | None:
    """Return when the first partial unit is to give its room back."""
    until = (_keeps_until(deployment, unit, around) for unit in stay)
    return min((at for at in until if now < at < math.inf), default=None)
