"""Whether the same kind of news about an object is due again, for reasons that take turns.

An object whose reasons change to and fro would otherwise get an event for each change.
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
        self._told_at: dict[tuple[str, str], float] = {}

    def is_news(self, uid: str, reason: str) -> bool:
        """Return whether this was not told of the object for `AGAIN_S`; then it counts as told."""
        at = self._clock()
        with self._lock:
            kept = {about: told for about, told in self._told_at.items() if at - told < AGAIN_S}
            is_news = (uid, reason) not in kept
            self._told_at = kept | {(uid, reason): at} if is_news else kept
        return is_news
