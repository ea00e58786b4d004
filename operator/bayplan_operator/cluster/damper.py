"""Whether the same kind of news about an object is due again.

An object whose reasons take turns, or whose figures change all the time, would otherwise get an
event for each change.
"""

import threading
from collections.abc import Callable
from typing import Final

#: Seconds between two events on one object for the same kind of reason.
AGAIN_S: Final = 600.0


class Damper:
    """Remembers what was told of late; threads may ask it at the same time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told_at: dict[tuple[str, str], float] = {}  # the oldest first

    def is_news(self, uid: str, reason: str) -> bool:
        """Return whether this was not told of the object for `AGAIN_S`; then it counts as told."""
        at, about = self._clock(), (uid, reason)
        with self._lock:
            # Only who is due is looked at: thousands may be told of in one round.
            while self._told_at and at - next(iter(self._told_at.values())) >= AGAIN_S:
                del self._told_at[next(iter(self._told_at))]
            is_news = about not in self._told_at
            self._told_at.setdefault(about, at)
        return is_news
