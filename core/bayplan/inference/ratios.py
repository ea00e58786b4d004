"""What the status says of the ratio: whether units keep it, and how far a new one is.

The condition RatioWithinBand judges each unit that runs; Progressing tells of units that run as
they did before, or with less than is asked for within the bounds, and what they wait for.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from bayplan.api.conditions import ConditionStatus
from bayplan.api.pools import Role
from bayplan.inference.deployments import Deployment
from bayplan.inference.sharing import in_vain
from bayplan.inference.tally import Finding, News, Tally, count_of, held_because, no_room
from bayplan.inference.units import Unit

_TRUE: Final = ConditionStatus.TRUE
_FALSE: Final = ConditionStatus.FALSE
_UNKNOWN: Final = ConditionStatus.UNKNOWN

#: Reasons of Progressing for units that are not as the ratio asks.
CHANGING: Final = "RatioChanging"
WAITS: Final = "RatioWaits"
GIVES: Final = "RatioGivesRoom"

_ROLES: Final = (Role.PREFILL, Role.DECODE)

#: Units that are told one by one.
_MOST_TOLD: Final = 3


def within_band(tally: Tally) -> Finding:
    """Return whether every unit that runs has as many replicas of each role as it may have."""
    kind, deployment = "RatioWithinBand", tally.deployment
    if any(pool.role is Role.AGGREGATED for pool in deployment.pools):
        return Finding.of(kind, _TRUE, "NoRatio", "Aggregated replicas have no ratio to keep")
    running = {unit: _placed(deployment, unit) for unit in tally.parts if unit.started}
    totals = {role: sum(each[role] for each in running.values()) for role in _ROLES}
    if not any(totals.values()):
        asked = f"no replica runs; the ratio asked for is {_asked(deployment)}"
        return Finding.of(kind, _UNKNOWN, "NothingScheduled", asked)
    message = (
        f"{totals[Role.PREFILL]} prefill and {totals[Role.DECODE]} decode replicas run; the ratio"
        f" asked for is {_asked(deployment)}{_band(deployment)}"
    )
    off = [unit for unit, counts in running.items() if not _may_have(deployment, counts)]
    if not off:
        return Finding.of(kind, _TRUE, "RatioKept", message)
    reason = CHANGING if all(unit.scheduled for unit in off) else "RatioOff"
    return Finding.of(kind, _FALSE, reason, f"{message}; {_told(deployment, off)}")


def giving(tally: Tally, gives: Collection[int], news: News) -> Finding | None:
    """Return which units give up what they have beyond the least, and for which they do."""
    waiting = _in_vain(tally, news)
    givers = [unit for unit in tally.parts if unit.index in gives]
    if not waiting or not givers:
        return None
    least = _ratio({role: bounds_of(tally.deployment, role)[0] for role in Role})
    message = (
        f"{_told(tally.deployment, givers)}, and what is beyond {least} is given up, because"
        f" {no_room(waiting[0], news)}"
    )
    return Finding.of("Progressing", _TRUE, GIVES, message)


def changing(tally: Tally, news: News) -> Finding | None:
    """Return what whole units wait for that are not as the ratio asks."""
    deployment = tally.deployment
    newest = [unit for unit in tally.parts if unit.newest and unit.scheduled]
    others = [unit for unit in newest if not _has_come(deployment, unit)]
    if not others:
        return None
    done = f"{len(newest) - len(others)} of {count_of(deployment.replicas, 'unit')} run"
    asked = _asked(deployment) or "as many replicas as are asked for"
    message = f"{done} {asked}; {_told(deployment, others)}"
    waits = [_hold_of(unit, news) for unit in others]
    if all(waits):
        return Finding.of("Progressing", _FALSE, WAITS, f"{message}: {waits[0]}")
    first = [unit for unit in tally.parts if unit.newest and not unit.scheduled]
    told, vain = _at(others), first == _in_vain(tally, news)
    if first and vain and not told and not tally.any_ending:
        told = f"they do not grow while {no_room(first[0], news)}"
        return Finding.of("Progressing", _FALSE, WAITS, f"{message}: {told}")
    if first and not (vain and told):
        told = f"unit {first[0].index}, which is not whole, goes first"
    return Finding.of(
        "Progressing", _TRUE, CHANGING, f"{message}: {told or 'the next step follows'}"
    )


def _in_vain(tally: Tally, news: News) -> list[Unit]:
    return in_vain(tally.parts, news.held(tally.parts))


def _has_come(deployment: Deployment, unit: Unit) -> bool:
    """Return whether a unit is as it is to be in the end."""
    have = {engine.pool: 0 for engine in unit.engines}
    for engine in unit.engines:
        have[engine.pool] += engine.begun
    wanted = all(have.get(pool.name, 0) == pool.count for pool in deployment.pools)
    return wanted and unit.shape == deployment.least


def _hold_of(unit: Unit, news: News) -> str:
    """Return why a unit finds no room for what it lacks, or ""."""
    uids = {pod.uid for pod in unit.members if pod.node is None}
    holds = [hold for hold in news.holds if hold.uid in uids]
    return f"no room for more, {held_because(holds)[1]}" if holds else ""


def _at(units: Sequence[Unit]) -> str:
    """Return what the first unit is at of which that can be told, or ""."""
    for unit in units:
        if any(pod.drains_since for pod in unit.members):
            return f"in unit {unit.index} surplus replicas finish their requests"
        if any(pod.node is None for pod in unit.members):
            return f"in unit {unit.index} further replicas wait to be placed"
        if not all(pod.ready for pod in unit.members):
            return f"in unit {unit.index} further replicas are starting"
    return ""


def _told(deployment: Deployment, units: Sequence[Unit]) -> str:
    """Return what units run that are not as the ratio asks."""
    told = [f"unit {unit.index} runs {_ratio(_placed(deployment, unit))}" for unit in units]
    more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
    return ", ".join([*told[:_MOST_TOLD], *more])


def _placed(deployment: Deployment, unit: Unit) -> dict[Role, int]:
    """Return how many replicas of each role have a node for each of their pods."""
    role_of = {pool.name: pool.role for pool in deployment.pools}
    roles = [role_of.get(engine.pool) for engine in unit.engines if engine.placed]
    return {role: roles.count(role) for role in Role}


def _may_have(deployment: Deployment, counts: Mapping[Role, int]) -> bool:
    return all(
        least <= counts[role] <= most
        for role in _ROLES
        for least, most in [bounds_of(deployment, role)]
    )


def bounds_of(deployment: Deployment, role: Role) -> tuple[int, int]:
    """Return the least and the most replicas of a role that a unit may have."""
    pools = [pool for pool in deployment.pools if pool.role is role]
    each = [pool.bounds or (pool.count, pool.count) for pool in pools]
    return sum(least for least, _ in each), sum(most for _, most in each)


def _asked(deployment: Deployment) -> str:
    counts = dict.fromkeys(Role, 0)
    for pool in deployment.pools:
        counts[pool.role] += pool.count
    return "" if counts[Role.AGGREGATED] else _ratio(counts)


def _ratio(counts: Mapping[Role, int]) -> str:
    if counts[Role.AGGREGATED]:
        return count_of(counts[Role.AGGREGATED], "replica")
    return f"{counts[Role.PREFILL]}:{counts[Role.DECODE]}"


def _band(deployment: Deployment) -> str:
    """Return the bounds in words, where there are any."""
    if not any(pool.bounds for pool in deployment.pools):
        return ""
    least, most = zip(*(bounds_of(deployment, role) for role in _ROLES), strict=True)
    return f" ({least[0]}:{least[1]} to {most[0]}:{most[1]} are allowed)"
