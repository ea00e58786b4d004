"""Storages of kopf's that keep nothing.

For handlers that react to changes of fields kopf copies every object it is told of several times
and compares it with what an annotation says of its former state. Handlers of bare events have no
use for that, and it is most of what an event costs (0.36 of 0.48 ms for a pod, and much more for
a plan).
"""

import kopf


class NoDiffBase(kopf.DiffBaseStorage):
    """Knows of no former state, and takes none."""

    def build(self, **_: object) -> kopf.BodyEssence:
        """Return that nothing about the object matters."""
        return kopf.BodyEssence()

    def fetch(self, **_: object) -> kopf.BodyEssence | None:
        """Return that there was no former state."""
        return None

    def store(self, **_: object) -> None:
        """Keep nothing."""


class NoProgress(kopf.ProgressStorage):
    """Knows of no handler that has begun, and takes none."""

    def fetch(self, **_: object) -> None:
        """Return that nothing has begun."""

    def store(self, **_: object) -> None:
        """Keep nothing."""

    def purge(self, **_: object) -> None:
        """Forget nothing."""

    def touch(self, **_: object) -> None:
        """Leave the object alone."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Return the state as it is: nothing of ours is in it."""
        return essence
