"""What the webhook remembers of pods: of so many of them only, for they come for weeks."""

from typing import Final, Generic, TypeVar

V = TypeVar("V")

#: Pods of which something is remembered; the oldest are forgotten.
MOST: Final = 5000


class Recent(Generic[V]):
    """Something of each of the last pods that were asked about, by uid."""

    def __init__(self) -> None:
        self._known: dict[str, V] = {}  # the oldest first

    def get(self, uid: str) -> V | None:
        """Return what is remembered of a pod."""
        return self._known.get(uid)

    def put(self, uid: str, value: V) -> None:
        """Remember it of a pod, which counts as the last one from now on."""
        self._known.pop(uid, None)
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[uid] = value
