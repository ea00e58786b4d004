"""What the API server would not do, and when each is tried again: with growing pauses."""

from collections.abc import Callable, Container, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from bayplan_operator.cluster.kube import Denial

K = TypeVar("K", bound=Hashable)

#: Seconds before something refused is tried again; doubled with each refusal up to the most.
_FIRST_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0

#: The most for something that others depend on which cannot be undone; and the seconds on end for
#: which it is refused before that counts for good: they are in vain as long.
_AWAITED_RETRY_S: Final = 4.0
_MAX_AWAITED_S: Final = 15.0

#: Times that something is denied before that counts for good: who corrects a policy may be at it.
_MOST_DENIALS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Something that the API server would not do: why, and when it is tried again.

    `denials` is how many times on end it was denied (`kube.Denial`), `awaited_since` since when it
    is refused while others depend on it.
    """

    message: str
    retry_s: float
    again_at: float
    denials: int = 0
    awaited_since: float | None = None

    @property
    def is_for_good(self) -> bool:
        """Whether asking again is of no use, or has been for too long."""
        since, last_at = self.awaited_since, self.again_at - self.retry_s
        too_long = since is not None and last_at - since >= _MAX_AWAITED_S
        return too_long or self.denials >= _MOST_DENIALS


class Refusals(Generic[K]):
    """Refusals by what was asked for; each is forgotten when it is done after all.

    `clock` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[K, Refusal] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._known

    def of(self, key: K) -> Refusal | None:
        """Return the last refusal, if it was one."""
        return self._known.get(key)

    def is_due(self, key: K) -> bool:
        """Return whether something may be asked for now."""
        known = self._known.get(key)
        return known is None or known.again_at <= self._clock()

    def note(self, key: K, refused: str, *, awaited: bool = False) -> None:
        """Take why something was refused; "" if it was done.

        `awaited` says that others depend on it which cannot be undone.
        """
        known = self._known.get(key)
        if not refused:
            self._known.pop(key, None)
            return
        now, most_s = self._clock(), _AWAITED_RETRY_S if awaited else _MAX_RETRY_S
        retry_s = min(most_s, 2 * known.retry_s) if known else _FIRST_RETRY_S
        since = known.awaited_since if known and known.awaited_since is not None else now
        self._known[key] = Refusal(
            message=refused,
            retry_s=retry_s,
            again_at=now + retry_s,
            denials=1 + (known.denials if known else 0) if isinstance(refused, Denial) else 0,
            awaited_since=since if awaited else None,
        )

    def told(self) -> Mapping[K, str]:
        """Return why each was refused the last time."""
        return {key: each.message for key, each in self._known.items()}

    def denied(self) -> Mapping[K, str]:
        """Return why things are refused for good."""
        return {key: each.message for key, each in self._known.items() if each.is_for_good}

    def wait_s(self) -> float | None:
        """Return the seconds until the first of them may be asked for again; None without any."""
        first = min((known.again_at for known in self._known.values()), default=None)
        return None if first is None else max(0.0, first - self._clock())

    def keep(self, wanted: Container[K]) -> None:
        """Forget what nobody wants any more."""
        self._known = {key: known for key, known in self._known.items() if key in wanted}

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
