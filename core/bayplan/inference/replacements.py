"""Replacements that start before the pod that they replace goes: when one may, and what follows.

    may start     ──▶ another replica of the pool, in the same unit, under a number of its own
    serves        ──▶ the old pod finishes its requests, and is evicted
    does not come to serve in time, or has failed, or crashes again and again
                  ──▶ it goes, and the old pod serves on
    the unit goes, or the old pod is not wanted   ──▶ it goes, for it never served

Everything is read from the pods (`pairs`), so that it goes on after the plan that began it, and
after any crash. At most `maxSurge` pods of a deployment are doubled, surge units included.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from typing import Final

from bayplan.api import names
from bayplan.inference.children import Child
from bayplan.inference.deployments import Deployment
from bayplan.inference.pairs import Pair
from bayplan.inference.slots import Slot
from bayplan.inference.units import Around, Unit, is_rolling, units_of

#: Seconds in which a replacement should serve, where its deployment does not say that it is slow.
START_S: Final = 600

#: Most seconds that it gets beyond its cold start; else it gets two of these.
_MOST_LATE_S: Final = 3600

#: Seconds in which it should have been bound to the node that it is made for.
BIND_S: Final = 120

#: Seconds for which one that served may be not ready, once its time is over.
_HICCUP_S: Final = 60


#: Restarts of a container after which a replacement is given up. The kubelet waits 10, 20 and 40
#: seconds before the first three, which is long enough for what comes late, a peer or a volume;
#: with those that follow it waits for minutes in which nothing is new.
CRASHES: Final = 3


class Failing(StrEnum):
    """Why a replacement was given up."""

    LATE = "Late"
    UNBOUND = "Unbound"
    ENDED = "Ended"
    CRASHES = "Crashes"

    @property
    def words(self) -> str:
        """The same in words."""
        return _WORDS[self]


_WORDS: Final = {
    Failing.LATE: "did not come to serve in time",
    Failing.UNBOUND: "was not bound to its node in time",
    Failing.ENDED: "has failed",
    Failing.CRASHES: f"crashes again and again (a container was restarted {CRASHES} times)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A pair of which the replacement goes, and why."""

    pair: Pair
    why: Failing


def serves_within_s(deployment: Deployment) -> int:
    """Return the seconds that a replacement gets to come to serve."""
    cold_start_s = deployment.cold_start_s
    return max(START_S, cold_start_s + min(cold_start_s, _MOST_LATE_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Which pods of a deployment may be doubled.

    Attributes:
        able: uids of those whose replacement may start first, as far as they are concerned.
        left: How many of them may begin now.
        doubled: How many have begun; the others wait for these, or cannot hope if there are none.
    """

    able: frozenset[str] = frozenset()
    left: int = 0
    doubled: int = 0


def outlook(deployment: Deployment, seen: Iterable[Child]) -> Outlook:
    """Return which pods may be doubled, and how many of them now."""
    units = units_of(deployment, seen)
    rolling = is_rolling(units) and not deployment.rollout.paused
    if rolling or not deployment.replicas:
        return Outlook()  # the room for more is the rollout's
    doubled = sum(len(unit.pairs) for unit in units)
    surge = max(0, sum(bool(unit.live) for unit in units) - deployment.replicas)
    able = (pod for unit in units if unit.newest for pod in _able(deployment, unit))
    most = deployment.rollout.max_surge - surge
    return Outlook(
        able=frozenset(pod.uid for pod in able) if most > 0 else frozenset(),
        left=max(0, most - doubled),
        doubled=doubled,
    )


def _able(deployment: Deployment, unit: Unit) -> Iterable[Child]:
    """Yield the pods of a unit that serve and could be doubled."""
    sizes = {pool.name: pool.size for pool in deployment.pools}
    paired = {pod.uid for pair in unit.pairs for pod in (pair.old, pair.new)}
    for pod in unit.members:
        alone = pod.replica_size == 1 == sizes.get(pod.pool)
        newest = pod.revision == unit.made_from
        if alone and newest and pod.uid not in paired and pod.takes_requests:
            yield pod


def slot_beside(deployment: Deployment, seen: Sequence[Child], uid: str) -> Slot | None:
    """Return what starts in the place of the pod with a uid; None if it may not be doubled now."""
    look = outlook(deployment, seen)
    if uid not in look.able or not look.left:
        return None
    old = next(pod for pod in seen if pod.uid == uid)
    unit = next(unit for unit in units_of(deployment, seen) if unit.index == old.unit)
    pool = next(pool for pool in deployment.pools if pool.name == old.pool)
    taken = {pod.name for pod in seen}
    name = f"{deployment.name}-{old.unit}-{old.pool}"
    index = next(number for number in count() if f"{name}-{number}" not in taken)
    return Slot(
        name=f"{name}-{index}",
        unit=old.unit,
        index=index,
        pool=pool,
        revision=old.revision,
        unit_size=old.unit_size,
        shape=unit.shape,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What is to be done about the pairs of a deployment.

    Attributes:
        starting: Replacements that go on starting.
        relieved: Pods that are to go, because their replacements serve; one after its requests.
        obsolete: The same, of units of an older revision.
        failed: Pairs of which the replacement is given up, with the reason.
        cancelled: Replacements that nobody needs any more, or that never can start.
        again_at: When the next one is to be given up, in seconds since the epoch.
    """

    starting: tuple[Child, ...] = ()
    relieved: tuple[Child, ...] = ()
    obsolete: tuple[Child, ...] = ()
    failed: tuple[GivenUp, ...] = ()
    cancelled: tuple[Child, ...] = ()
    again_at: float | None = None

    @property
    def deleted(self) -> tuple[Child, ...]:
        """The replacements that go without having served."""
        return (*self.cancelled, *(each.pair.new for each in self.failed))


def turns(  # noqa: PLR0913 - what pairs there are, and all that decides on them
    units: Iterable[Unit],
    stay: Collection[int],
    around: Around,
    *,
    surplus: Collection[str],
    within_s: float,
    now: float,
) -> Turns:
    """Return what to do about the pairs of all units.

    `stay` are the numbers of the units that are not to go, `surplus` uids of pods that are to go
    from units that stay. A replacement gets `within_s` seconds to come to serve.
    """
    pairs = [(unit, pair) for unit in units for pair in unit.pairs]
    if not pairs:
        return Turns()
    waits = [(unit, pair) for unit, pair in pairs if not pair.relieved]
    needed = [
        pair
        for unit, pair in waits
        if unit.index in stay
        and unit.newest
        and pair.old.uid not in surplus
        and not _is_trapped(pair.new, around)
    ]
    found = [(pair, _failing(pair.new, within_s, now)) for pair in needed]
    failed = [GivenUp(pair=pair, why=why) for pair, why in found if why is not None]
    starting = [pair.new for pair, why in found if why is None]
    never_served = [pair for _, pair in waits if not pair.new.drains_since]
    over = [
        (unit, pair.old)
        for unit, pair in pairs
        if pair.relieved
        and unit.index in stay
        and not (_is_trapped(pair.new, around) and pair.old.takes_requests)
    ]
    return Turns(
        starting=tuple(starting),
        relieved=tuple(old for unit, old in over if unit.newest),
        obsolete=tuple(old for unit, old in over if not unit.newest),
        failed=tuple(failed),
        cancelled=tuple(pair.new for pair in never_served if pair not in needed),
        again_at=min((_until(new, within_s) for new in starting), default=None),
    )


def _is_trapped(new: Child, around: Around) -> bool:
    """Return whether a replacement is for a node that it should not be on."""
    where = new.node or new.pin
    return around.breaks(new) or (where is not None and where in _bad(around))


def _bad(around: Around) -> frozenset[str]:
    return frozenset({*around.lost, *around.cordoned, *around.failing})


def _failing(new: Child, within_s: float, now: float) -> Failing | None:
    """Return why a replacement that does not serve is given up; None while it may yet serve."""
    if new.ended:
        return Failing.ENDED
    if new.restarts >= CRASHES:
        return Failing.CRASHES
    if now < _until(new, within_s):
        return None
    return Failing.UNBOUND if new.node is None else Failing.LATE


def _until(new: Child, within_s: float) -> float:
    """Return until when a replacement may be on its way, that gets so many seconds in all.

    When it was made is told by the clock of the operator, too, which may be ahead of the other.
    """
    if new.node is None:
        return min(max(new.created_at, new.serves_by - within_s) + BIND_S, new.serves_by)
    return max(new.serves_by, new.unready_since + _HICCUP_S)


def marks(
    pairs: Iterable[Pair], turns: Turns, *, now: float
) -> Mapping[str, Mapping[str, str | None]]:
    """Return what pods that are being replaced are to say of that, by uid."""
    gone = {new.uid for new in turns.deleted}
    said: dict[str, Mapping[str, str | None]] = {
        pair.old.uid: {names.ANNOTATION_GIVES_WAY_BY: instant(pair.new.serves_by)}
        for pair in pairs
        if pair.new.uid not in gone
    }
    for each in turns.failed:
        plan = each.pair.new.plan or "nobody"
        said[each.pair.old.uid] = {
            names.ANNOTATION_MOVE_FAILED: f"{plan} {instant(now)} {each.why}"
        }
    return said


def instant(at: float) -> str:
    """Return an instant as Kubernetes writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
