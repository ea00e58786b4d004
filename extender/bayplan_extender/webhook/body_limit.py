"""The limit of bodies: how much of calls may be in memory that are still arriving.

A call may be large where a scheduler sends whole nodes, but it makes one after the other. Whoever
opens many connections and finishes none of them would have our memory, and so our end, otherwise.
"""

from typing import Final

#: Largest body that is read. 5,000 whole nodes are 33 MB; their names alone are 0.06 MB.
MAX_BODY: Final = 64 * 2**20

#: The most bytes of all bodies that arrive at a time: a few of 5,000 whole nodes. What is made of
#: one takes several times as much, for a moment, and one at a time.
MAX_ARRIVING: Final = 2 * MAX_BODY

#: Why a body is not read to its end.
TOO_LARGE: Final = f"the request is larger than {MAX_BODY} bytes"
TOO_MANY: Final = f"more than {MAX_ARRIVING} bytes of requests are arriving at a time; try again"


class Arriving:
    """Counts the bytes of bodies that are not whole yet, of all connections together."""

    def __init__(self, most: int = MAX_ARRIVING) -> None:
        self.held = 0
        self._most = most

    def take(self, size: int) -> bool:
        """Count some more bytes; return whether there was room for them, else they do not count."""
        if self.held + size > self._most:
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        """Take bytes for gone: they were answered, or their connection is lost."""
        self.held -= size


class Body:
    """One body as it comes, up to a limit of its own and one of all that arrive."""

    def __init__(self, arriving: Arriving) -> None:
        self._arriving = arriving
        self._parts: list[bytes] = []
        self._held = 0

    def add(self, part: bytes) -> str:
        """Take a part; return why it is not taken, or ""."""
        size = len(part)
        if self._held + size > MAX_BODY:
            return TOO_LARGE
        if not self._arriving.take(size):
            return TOO_MANY
        self._held += size
        self._parts.append(part)
        return ""

    def whole(self) -> bytes:
        """Return what has come."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def drop(self) -> None:
        """Let go of what has come."""
        self._arriving.give(self._held)
        self._parts, self._held = [], 0
