"""The condition Progressing: whether waiting helps, what a rollout is at, and what it waits for."""

from typing import Final

from bayplan.api.conditions import ConditionStatus
from bayplan.inference import ratios
from bayplan.inference.children import Child
from bayplan.inference.rollout import OVERDUE_S, Changes
from bayplan.inference.tally import Finding, News, Tally, count_of, no_room
from bayplan.inference.units import Unit, is_rolling
from bayplan.plan import Reason

_TRUE: Final = ConditionStatus.TRUE
_FALSE: Final = ConditionStatus.FALSE
_KIND: Final = "Progressing"

#: Why a unit does not serve that has its places: its node is silent.
NODE_NOT_READY: Final = Reason.NODE_NOT_READY.value

#: Seconds after which a unit of the newest revision that has its places should serve.
START_S: Final = 600


def progressing(  # noqa: PLR0913 - all that bears on it
    tally: Tally, made: Changes, news: News, scheduled: Finding, *, rolled_out: str, now: float
) -> Finding:
    """Return whether waiting helps.

    `scheduled` is the condition Scheduled; `rolled_out` is the revision that every unit was last
    known to run, or "". `now` is in seconds since the epoch.
    """
    if is_rolling_out(tally, rolled_out):
        return _rollout(tally, made, news, now)
    checks = (
        _relocating(tally, news),
        _draining(tally),
        _moving(tally),
        _yielding(tally),
        _silent(tally),
        ratios.giving(tally, made.gives, news),
        ratios.changing(tally, news),
        _making(tally, made),
    )
    found = next((finding for finding in checks if finding is not None), None)
    return found or _placing(tally, news, scheduled)


def _relocating(tally: Tally, news: News) -> Finding | None:
    """Return what a unit that is to leave its nodes waits for."""
    leaving = [unit for unit in tally.parts if unit.displaced]
    if not leaving:
        return None
    first = leaving[0]
    nodes = ", ".join(sorted({pod.node for pod in first.live if pod.node is not None}))
    message = f"unit {first.index} is to leave cordoned or broken nodes (it is on {nodes})"
    held = news.held(tally.parts)
    waiting = [unit for unit in _starting(tally) if unit.lacks_room(held)]
    if first.draining:
        told = "it finishes its requests"
    else:
        told = no_room(waiting[0], news) if waiting else _at(tally)
    return Finding.of(_KIND, _TRUE, "Relocating", f"{message}; {told}")


def _draining(tally: Tally) -> Finding | None:
    numbers = [str(unit.index) for unit in tally.parts if unit.draining]
    if not numbers:
        return None
    message = (
        f"out of service until their requests are done, {tally.deployment.drain_s} s at most: "
        f"{'unit' if len(numbers) == 1 else 'units'} {', '.join(numbers)}"
    )
    return Finding.of(_KIND, _TRUE, "Draining", message)


def _moving(tally: Tally) -> Finding | None:
    """Return which pods are moved by starting their replacement first."""
    pairs = [pair for unit in tally.parts for pair in unit.pairs]
    if not pairs:
        return None
    old, new = pairs[0].old, pairs[0].new
    message = f"{old.name} serves on {old.node} until {new.name} does on {new.node or new.pin}"
    if pairs[0].relieved:
        message = f"{new.name} serves on {new.node}; {old.name} is leaving {old.node}"
    more = f"; {len(pairs) - 1} more are moved like that" if len(pairs) > 1 else ""
    return Finding.of(_KIND, _TRUE, "Moving", f"{message}{more}")


def _yielding(tally: Tally) -> Finding | None:
    pods = [p.name for u in tally.parts for p in u.live if p.yields and p.drains_since]
    if not pods:
        return None
    more = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
    message = (
        f"a plan makes {pods[0]}{more} leave, out of service until their requests are done,"
        f" {tally.deployment.drain_s} s at most"
    )
    return Finding.of(_KIND, _TRUE, "Draining", message)


def _silent(tally: Tally) -> Finding | None:
    """Return which unit does not serve because nothing is heard of its nodes, and what follows."""
    units = [unit for unit in tally.parts if not unit.ready and _silent_pods(unit, tally)]
    if not units:
        return None
    more = f"; {len(units) - 1} more units have such pods" if len(units) > 1 else ""
    return Finding.of(_KIND, _TRUE, NODE_NOT_READY, f"{_silence(units[0], tally)}{more}")


def _silence(unit: Unit, tally: Tally) -> str:
    """Return of which nodes of a unit nothing is heard, and what follows; "" if of none."""
    pods = _silent_pods(unit, tally)
    if not pods:
        return ""
    nodes = ", ".join(sorted({str(pod.node) for pod in pods}))
    who = f"nothing is heard of {nodes}, where unit {unit.index} has {count_of(len(pods), 'pod')}"
    if all(pod.terminating for pod in pods):
        return f"{who}: evicted, and made anew {OVERDUE_S} s after the time they have to end"
    return (
        f"{who}: unless it comes back, Kubernetes evicts them when their tolerationSeconds are over"
        " (300 by default), and they are made anew"
    )


def _silent_pods(unit: Unit, tally: Tally) -> list[Child]:
    """Return the pods of a unit on nodes of which nothing is heard."""
    return [pod for pod in unit.pods if pod.node is not None and pod.node in tally.away]


def _making(tally: Tally, made: Changes) -> Finding | None:
    if not made.create and not made.delete and len(tally.pods) >= tally.pods_wanted:
        return None
    message = f"{len(tally.pods)} of {count_of(tally.pods_wanted, 'pod')} made"
    return Finding.of(_KIND, _TRUE, "MakingPods", message)


def _placing(tally: Tally, news: News, scheduled: Finding) -> Finding:
    if news.holds and scheduled.status is _FALSE and not news.executing:
        return Finding.of(_KIND, _FALSE, scheduled.reason, scheduled.message)
    if not tally.all_bound:
        return Finding.of(_KIND, _TRUE, "PlacingPods", scheduled.message)
    if tally.units.ready < tally.units.desired:
        message = f"{tally.units.ready} of {count_of(tally.units.desired, 'unit')} ready"
        return Finding.of(_KIND, _TRUE, "StartingPods", message)
    message = "every unit is there and runs the newest template"
    return Finding.of(_KIND, _FALSE, "RolledOut", message)


def is_rolling_out(tally: Tally, rolled_out: str) -> bool:
    """Return whether a newer template is on its way to units that ran an older one."""
    if is_rolling(tally.parts):
        return True
    newest = tally.deployment.revision
    return rolled_out not in {"", newest} and not is_rolled_out(tally)


def is_rolled_out(tally: Tally) -> bool:
    """Return whether every unit that is asked for serves from the newest template."""
    serving = sum(unit.newest and unit.ready for unit in tally.parts)
    return serving >= tally.deployment.replicas and not is_rolling(tally.parts)


def _rollout(tally: Tally, made: Changes, news: News, now: float) -> Finding:
    deployment = tally.deployment
    serving = sum(unit.newest and unit.ready for unit in tally.parts)
    done = f"{serving} of {count_of(deployment.replicas, 'unit')} serve from the newest template"
    if deployment.rollout.paused and is_rolling(tally.parts):
        message = f"{done}; set spec.rollout.paused to false to go on"
        return Finding.of(_KIND, _FALSE, "RolloutPaused", message)
    if stuck := news.refusal or _stuck(tally, made, news, now):
        return Finding.of(_KIND, _FALSE, "RolloutStuck", f"{done}; {stuck}")
    return Finding.of(_KIND, _TRUE, "RollingOut", f"{done}; {_at(tally)}")


def _stuck(tally: Tally, made: Changes, news: News, now: float) -> str:
    """Return what the rollout waits for that does not come by itself, or ""."""
    starting = _starting(tally)
    # One on a silent node is made anew by itself, and has no log that could be read.
    heard = [u for u in starting if u.scheduled and not _silent_pods(u, tally)]
    late = [u for u in heard if _age(u, now) >= START_S]
    if late:
        pod = next(pod for pod in late[0].members if not pod.ready)
        return (
            f"unit {late[0].index} has its places but does not serve after {START_S // 60} minutes:"
            f" {pod.name} is not ready; look at its log, and apply a template that works, or the"
            " one of before to go back"
        )
    moving = made.create or made.delete or news.executing or tally.any_ending
    held = news.held(tally.parts)
    if moving or not starting or not all(unit.lacks_room(held) for unit in starting):
        return ""
    return f"{no_room(starting[0], news)}; {_no_other_goes(tally)}"


def _no_other_goes(tally: Tally) -> str:
    """Return why no older unit makes room, and what would change that."""
    deployment = tally.deployment
    if not is_rolling(tally.parts):
        return "no older unit is left that could make room: add nodes, or lower spec.replicas"
    least = max(0, deployment.replicas - deployment.rollout.max_unavailable)
    return (
        f"no older unit makes room, because {tally.units.ready} serve and {least} must: add nodes,"
        " raise spec.rollout.maxUnavailable, or lower spec.replicas to what fits"
    )


def _at(tally: Tally) -> str:
    """Return what the rollout is at."""
    ending = [unit for unit in tally.parts if not unit.live]
    starting = _starting(tally)
    if starting and starting[0].scheduled:
        return _silence(starting[0], tally) or f"unit {starting[0].index} is starting"
    if ending:
        return _silence(ending[0], tally) or f"unit {ending[0].index} is ending"
    if starting:
        return f"unit {starting[0].index} waits to be placed"
    return "the next unit follows"


def _starting(tally: Tally) -> list[Unit]:
    """Return the units of the newest revision that do not serve yet, the furthest first."""
    found = [unit for unit in tally.parts if unit.newest and unit.live and not unit.ready]
    return sorted(found, key=lambda unit: (not unit.scheduled, unit.index))


def _age(unit: Unit, now: float) -> float:
    return now - max(pod.created_at for pod in unit.members)
