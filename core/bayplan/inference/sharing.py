"""Which units may grow, and which give, so that others find the room to be whole.

    a unit runs in part, or no plan has judged it  ──▶ nobody grows: it needs the room itself
    a unit waits in vain as a whole                ──▶ nobody has more than the least from now on,
                                                       and another one may give what it has beyond
    all of them are whole                          ──▶ they grow

Between the bounds of a ratio one unit may have taken the room that another one needs to be whole.
A unit that serves with its least is worth more than replicas beyond the least of another, so for
each unit that waits in vain one unit gives, and gets nothing back while that waits.

It is bounded without anything being remembered: who has its least counts as one that has given,
and nobody begins to give while pods are leaving, whose room may be enough. So where the room that
is given does not help, no more units lose by it than wait.
"""

from collections.abc import Collection, Mapping, Sequence

from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.shapes import Shape
from bayplan.inference.targets import Growth
from bayplan.inference.units import Unit


def growths(
    deployment: Deployment,
    units: Sequence[Unit],
    stay: Sequence[Unit],
    held: Collection[str],
    *,
    missing: bool,
) -> Mapping[int, Growth]:
    """Return what each unit that stays may ask for if it is whole, by number.

    Args:
        deployment: Whose they are.
        units: Those of which there is any pod.
        stay: Those of them that are not to go.
        held: uids of pods for which the newest plan found no room.
        missing: Whether units are still to be made.
    """
    gives = _givers(deployment, units, stay, held)
    others = Growth.NOTHING if missing else _growth(stay, held)
    return {unit.index: Growth.GIVES if unit.index in gives else others for unit in stay}


def in_vain(units: Sequence[Unit], held: Collection[str]) -> list[Unit]:
    """Return the units of the newest revision of which nothing runs, nor finds room."""
    return [u for u in units if u.newest and u.live and not u.started and u.lacks_room(held)]


def _growth(stay: Sequence[Unit], held: Collection[str]) -> Growth:
    """Return what whole units may ask for.

    One that waits in vain as a whole keeps nobody from what the spec asks for at least.
    """
    lacking = sum(unit.newest and not unit.scheduled for unit in stay)
    if lacking > len(in_vain(stay, held)):
        return Growth.NOTHING
    return Growth.LEAST if lacking else Growth.ALL


def _givers(
    deployment: Deployment, units: Sequence[Unit], stay: Sequence[Unit], held: Collection[str]
) -> frozenset[int]:
    """Return the units that give up what they have beyond the least."""
    if not any(pool.bounds for pool in deployment.pools):
        return frozenset()
    # A unit that would be one more than is asked for needs no room of others.
    missing = deployment.replicas - sum(unit.scheduled for unit in stay)
    waiting = min(missing, len(in_vain(stay, held)))
    beyond = {unit.index: _beyond(deployment, unit) for unit in stay if _is_whole(deployment, unit)}
    rest = waiting - sum(not shape for shape in beyond.values())
    may = [unit for unit in stay if beyond.get(unit.index)]
    may.sort(key=lambda u: (not _drains(u), -deployment.gpus_of(beyond[u.index]), u.index))
    # Who has begun goes on. Nobody else begins while room is coming.
    busy = any(pod.drains_since or _ends(pod) for unit in units for pod in unit.pods)
    return frozenset(unit.index for unit in may[: max(0, rest)] if _drains(unit) or not busy)


def _is_whole(deployment: Deployment, unit: Unit) -> bool:
    """Return whether a unit serves, or will, with the least of the spec, and is to stay so."""
    whole = unit.newest and unit.scheduled and unit.shape == deployment.least
    return whole and not unit.displaced


def _beyond(deployment: Deployment, unit: Unit) -> Shape:
    """Return what a unit has room for beyond the least of the spec."""
    engines = (e for e in unit.engines if e.begun and any(pod.counts for pod in e.pods))
    have = Shape.count(engine.pool for engine in engines)
    least = deployment.least
    return Shape.of({pool: max(0, n - least[pool]) for pool, n in have.counts})


def _drains(unit: Unit) -> bool:
    """Return whether some of a unit was taken out of service because it is to go."""
    return any(pod.drains_since and not pod.yields for pod in unit.live)


def _ends(pod: Child) -> bool:
    return pod.terminating and pod.node is not None
