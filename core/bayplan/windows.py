"""Windows for defragmentation: whether one is open, what may still be moved, and what is worth it.

Nothing is remembered: pods that took the place of moved ones are on record in the cluster, so a
planner that has just started knows as well as any other what the open window has already cost.
"""

import math
from typing import Final

from bayplan import slots
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Plan
from bayplan.policy import Day, Defragmentation, Window

_MINUTE_S: Final = 60
_DAY_S: Final = 86_400

#: The first day of the epoch was a Thursday.
_EPOCH_DAY: Final = 3

_WEEK: Final = tuple(Day)


def opened_at(windows: tuple[Window, ...], now: float) -> float | None:
    """Return since when a window has been open at `now` (seconds since the epoch), or None.

    Of several that are open the one that opened first counts.
    """
    openings = (at for window in windows for at in _openings(window, now))
    return min(openings, default=None)


def next_opening(windows: tuple[Window, ...], now: float) -> float:
    """Return when the next window opens after `now`, in seconds since the epoch.

    Infinite if there is none.
    """
    today = int(now // _DAY_S)
    days = range(today, today + len(_WEEK) + 1)
    starts = (_start(window, day) for window in windows for day in days if _opens_on(window, day))
    return min((at for at in starts if now < at), default=math.inf)


def moves_left(snapshot: Snapshot, settings: Defragmentation, now: float) -> int:
    """Return how many pods may be moved now for the sake of free slots; 0 outside all windows."""
    since = opened_at(settings.windows, now)
    if since is None:
        return 0
    done = sum(bool(pod.replaces) and pod.created_at >= since for pod in snapshot.pods)
    return max(0, settings.max_moves - done)


def is_worth_it(snapshot: Snapshot, plan: Plan, settings: Defragmentation) -> bool:
    """Return whether the slots that the plan wins outweigh the moves that it costs.

    A plan that places somebody is worth that.
    """
    if plan.binds:
        return True
    _, gain = slots.won(snapshot, plan)
    cost = sum(snapshot.by_key[move.pod].move_cost for move in plan.moves)
    return gain > 0 and cost <= gain * settings.moves_per_slot


def _openings(window: Window, now: float) -> list[float]:
    """Return when the window opened that is open now; it may have been yesterday."""
    today = int(now // _DAY_S)
    openings = []
    for day in (today - 1, today):
        at = _start(window, day)
        if _opens_on(window, day) and at <= now < at + window.minutes * _MINUTE_S:
            openings.append(at)
    return openings


def _start(window: Window, day: int) -> float:
    """Return when the window opens on a day since the epoch, if it does."""
    return float(day * _DAY_S + window.start_minute * _MINUTE_S)


def _opens_on(window: Window, day: int) -> bool:
    return not window.days or _WEEK[(day + _EPOCH_DAY) % len(_WEEK)] in window.days
