"""Which keys need a look: each at most once at a time, again after changes, later after errors.

Handlers add keys as events come in; workers take the one that has been due longest. A key that is
added while it is being worked on is due again afterwards, so no change is ever missed; after a
pass it rests for as long as the pass took, so that a burst of events cannot keep a slow one busy,
unless there is something new for it to do.
Everything here runs on the event loop; the work itself goes to threads.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from heapq import heappop, heappush
from itertools import count
from typing import Final, Generic, TypeVar

import structlog
from kubernetes.client.exceptions import ApiException

from bayplan_operator.cluster.kube import message_of

K = TypeVar("K", bound=Hashable)

_log = structlog.get_logger()

#: Seconds before the first retry; doubled with each further failure up to the most.
FIRST_RETRY_S: Final = 0.5
MAX_RETRY_S: Final = 60.0

#: Doublings after which the retry time is beyond any most; more would overflow in the end.
_MOST_DOUBLINGS: Final = 20

#: Most seconds for which a key rests after a pass.
MAX_REST_S: Final = 5.0


class WorkQueue(Generic[K]):
    """Keys and when they are due.

    `work` returns the seconds after which it wants to see its key again, or None.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[float | None]],
        *,
        max_parallel: int = 8,
        first_retry_s: float = FIRST_RETRY_S,
    ) -> None:
        self._work = work
        self._max_parallel = max_parallel
        self._first_retry_s = first_retry_s
        self._due: dict[K, float] = {}
        self._first: list[tuple[float, int, K]] = []  # a heap; some are due at another time by now
        self._pushed = count()
        self._running: set[K] = set()
        self._rests_until: dict[K, float] = {}
        self._rested: set[K] = set()
        self._failures: Counter[K] = Counter()
        self._changed = asyncio.Event()

    def add(self, key: K, *, after_s: float = 0.0, rests: bool = True) -> None:
        """Have `key` looked at in `after_s` seconds, or earlier if that was said before.

        With `rests` false it is not to rest before that pass: what is new will not come again soon.
        """
        if not rests:
            self._rested.add(key)
        at = asyncio.get_running_loop().time() + after_s
        known = self._due.get(key)
        soonest = 0.0 if key in self._rested else self._rests_until.get(key, 0.0)
        due = max(soonest, at if known is None else min(at, known))
        if due != known:
            self._set_due(key, due)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                key = await self._next()
                self._running.add(key)
                group.create_task(self._do(key))

    async def _next(self) -> K:
        """Return the key that has been due longest, once there is a free worker for it."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            self._drop_idle()
            if not self._first or len(self._running) >= self._max_parallel:
                await self._changed.wait()
                continue
            at, _, key = self._first[0]
            wait_s = at - loop.time()
            if wait_s <= 0:
                heappop(self._first)
                del self._due[key]
                self._rests_until.pop(key, None)
                self._rested.discard(key)
                return key
            await self._changed_within(wait_s)

    def _set_due(self, key: K, at: float) -> None:
        self._due[key] = at
        if key not in self._running:  # else once it is not
            heappush(self._first, (at, next(self._pushed), key))
            self._changed.set()

    def _drop_idle(self) -> None:
        """Have the heap begin with a key that may be taken when it is due."""
        while self._first:
            at, _, key = self._first[0]
            if self._due.get(key) == at and key not in self._running:
                return
            heappop(self._first)

    async def _changed_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _do(self, key: K) -> None:
        started_at = asyncio.get_running_loop().time()
        try:
            again_s = await self._work(key)
        except Exception as error:  # noqa: BLE001 - one bad object must not stop all the others
            self._failures[key] += 1
            doublings = min(self._failures[key] - 1, _MOST_DOUBLINGS)
            again_s = min(MAX_RETRY_S, self._first_retry_s * 2.0**doublings)
            _log.warning("pass_failed", key=str(key), error=in_words(error), retry_s=again_s)
        else:
            del self._failures[key]
        finally:
            self._running.discard(key)
            self._changed.set()
        self._rest(key, started_at)
        if again_s is not None:
            self.add(key, after_s=again_s)

    def _rest(self, key: K, started_at: float) -> None:
        now = asyncio.get_running_loop().time()
        until = now + min(MAX_REST_S, now - started_at)
        # Those of objects that are gone are never looked at again.
        resting = {each: at for each, at in self._rests_until.items() if at > now}
        self._rests_until = resting | {key: until}
        if key in self._due:
            due = self._due[key]
            self._set_due(key, due if key in self._rested else max(until, due))


def in_words(error: Exception) -> str:
    """Return an error in one line that says enough to act on."""
    if isinstance(error, ApiException):
        return message_of(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
