"""Breaking off a pass whose input has become useless.

The planner asks its clock between all its steps. The clock handed to it looks at the cluster as
well, and raises once the plan would have to be made again at once (`bayplan.triggers`). In a
cluster that never rests no pass would ever end so; therefore one that began long after the first
that was broken off is left to end. A pass may make several plans, and has ended with the last one.
"""

import time
from typing import Final

from bayplan.cluster.snapshot import Snapshot
from bayplan.triggers import is_useless
from bayplan_extender.view import View

#: Seconds between two looks at the cluster; each costs a snapshot.
_LOOK_EVERY_S: Final = 0.5

#: Time limits of a pass for which passes may be broken off one after the other.
_MOST_LIMITS: Final = 2.0


class BrokenOff(Exception):  # noqa: N818 - not an error: a better pass follows
    """The pass is not worth finishing."""


class Relevance:
    """Knows whether what is being planned is still worth it, over passes."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._first_broken_at: float | None = None

    def clock(self, solved: Snapshot, *, limit_s: float) -> "RelevanceClock":
        """Return the clock for a pass over `solved` that may take `limit_s` seconds."""
        return RelevanceClock(self, solved, patience_s=_MOST_LIMITS * limit_s)

    def seen(self) -> Snapshot:
        """Return the cluster as it is now."""
        with self._view.lock:
            return self._view.snapshot(time.time())

    def changed(self) -> bool:
        """Return whether anything has happened since the pass began."""
        return self._view.changed.is_set()

    def break_off(self, now: float, patience_s: float) -> None:
        """Break off the pass, unless too many before it were.

        Raises:
            BrokenOff: The pass ends here.
        """
        first = now if self._first_broken_at is None else self._first_broken_at
        if now - first <= patience_s:
            self._first_broken_at = first
            raise BrokenOff

    def finished(self) -> None:
        """Note that a pass came to its end, with a plan or without one."""
        self._first_broken_at = None


class RelevanceClock:
    """A monotonic clock that raises when the pass it times has become useless."""

    def __init__(self, relevance: Relevance, solved: Snapshot, *, patience_s: float) -> None:
        self._relevance = relevance
        self._solved = solved
        self._patience_s = patience_s
        self._looked_at = time.monotonic()

    def __call__(self) -> float:
        """Return the time in seconds.

        Raises:
            BrokenOff: The pass is useless.
        """
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._look(now)
        return now

    def check(self) -> None:
        """Look once more, when a plan is made.

        Raises:
            BrokenOff: The plan is useless.
        """
        self._look(time.monotonic())

    def _look(self, now: float) -> None:
        self._looked_at = now
        if self._relevance.changed() and is_useless(self._solved, self._relevance.seen()):
            self._relevance.break_off(now, self._patience_s)
