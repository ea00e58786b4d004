"""List, then watch: keeps a sink equal to one collection of the API server.

Objects stay raw dicts (building typed models of every pod costs more than all the rest), and the
lines of a watch are decoded here, as fast as can be: every pod comes several times.

A watch that ends or breaks off is resumed where it ended, with growing pauses: the server may be
struggling, and a whole list is the dearest thing to ask of it. Where nobody takes the connection it
is asked for each second, for then nobody struggles. The collection is listed anew after
a gap that the server cannot bridge (410 Gone), after an event that cannot be read, and once a
minute while nothing else works; a sink that honours `replace` is right again then. While nothing
works (the API server is away, or somebody took our rights from us), the sink is told since when
and why.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import orjson
import structlog
from kubernetes.client.exceptions import ApiException

from bayplan_extender.kube import FAILURES, brief, is_away

_log = structlog.get_logger()

#: Seconds after which the server ends a watch and we resume it where it ended. Bookmarks come each
#: minute too, but not of a collection in which nothing has happened since the API server began.
_WATCH_S = 60

#: Seconds to connect, and without a byte before a watch counts as dead.
_TIMEOUT_S = (5.0, _WATCH_S + 15.0)

#: Seconds before the end of a watch that ended in order up to which all has come for sure.
_LATE_S = 5.0

#: Seconds between the beginnings of two attempts at least (a server that is going down ends watches
#: as soon as they begin), and at most, however often they fail one after the other.
_RETRY_S = 1.0
_MOST_RETRY_S = 8.0

#: Objects on one page of a list: their text and what it is decoded to are in memory at a time.
_PAGE = 500

#: Seconds without a list that works after which what is known counts as stale, and is told again.
STALE_S = 60.0

_GONE = 410

Raw = dict[str, Any]


class Sink(Protocol):
    """Where a reflector puts what it sees."""

    def replace(self, objects: Iterable[Raw]) -> None:
        """Take the whole collection; whatever is not in it is gone.

        The objects come while they are read, which may fail: then nothing is to change.
        """

    def change(self, event: str, raw: Raw) -> None:
        """Take one object that was ADDED, MODIFIED or DELETED."""

    def is_current(self, at: float) -> None:
        """Know that everything up to the instant `at` (monotonic seconds) has been passed on."""

    def is_failing(self, since: float, why: str) -> None:
        """Know that nothing more is passed on since that instant (the same), and why."""


class Reflector(threading.Thread):
    """The thread that feeds one sink from one collection."""

    def __init__(self, name: str, list_objects: Callable[..., Any], sink: Sink) -> None:
        super().__init__(name=f"reflector-{name}", daemon=True)
        self._name = name
        self._list_objects = list_objects
        self._sink = sink
        self._stop_event = threading.Event()
        self._version = ""
        self._pause_s = _RETRY_S
        self._current_at = -math.inf
        self._failing_since: float | None = None
        self._told_at = -math.inf

    def stop(self) -> None:
        """Ask the thread to end; it does so with the next event or time-out."""
        self._stop_event.set()

    def run(self) -> None:
        """List and watch until stopped; after every error it is tried again."""
        while not self._stop_event.is_set():
            begun_at = time.monotonic()
            try:
                if not self._version:
                    self._list()
                self._watch()
            except (*FAILURES, ValueError) as error:
                self._fail(error)
            took_s = time.monotonic() - begun_at
            self._stop_event.wait(max(0.0, self._pause_s - took_s))

    def _fail(self, error: Exception) -> None:
        """Decide how to go on, and tell the sink, and the log: at once, and then while it lasts."""
        now = time.monotonic()
        since = now if self._failing_since is None else self._failing_since
        self._failing_since = since
        self._sink.is_failing(since, brief(error))
        is_gone = getattr(error, "status", None) == _GONE
        if is_gone or isinstance(error, ValueError) or now - since >= STALE_S:
            self._version = ""
        if is_gone:
            return
        # Replicas of all our programs lose their watches at the same moment.
        longest_s = _RETRY_S if is_away(error) else _MOST_RETRY_S
        self._pause_s = min(longest_s, 2 * self._pause_s) * random.uniform(0.75, 1.0)  # noqa: S311 - no secret
        if now - self._told_at < STALE_S:
            return
        self._told_at = now
        told = {"kind": self._name, "error": brief(error), "failing_s": round(now - since)}
        if now - since >= STALE_S:
            _log.error("watch_failed", **told, action="what is known of it counts as stale")
        else:
            _log.warning("watch_failed", **told)

    def _is_current(self, at: float) -> None:
        """Note that something has come: all is well, and up to which instant it is known."""
        self._current_at = at
        self._told_at, self._pause_s = -math.inf, _RETRY_S
        self._answers()

    def _answers(self) -> None:
        """Note that the server answers, though nothing may have come yet."""
        self._failing_since = None
        self._sink.is_current(self._current_at)

    def _list(self) -> None:
        """Pass on all there is, of one instant; the watch goes on from there.

        Raises:
            ApiException: The server refuses, or (410) can no longer look back to that instant for
                the next page: the list begins anew.
        """
        asked_at = time.monotonic()
        first = self._page("")
        version = str(first["metadata"]["resourceVersion"])
        self._sink.replace(self._objects(first))
        self._version, self._current_at, self._told_at = version, asked_at, -math.inf
        self._answers()

    def _objects(self, page: Raw) -> Iterator[Raw]:
        """Yield the objects of a list from its first page on."""
        objects, metadata = page.pop("items"), page["metadata"]
        while True:
            yield from objects
            rest = metadata.get("continue")
            if not rest:
                return
            del objects  # before the next ones come
            following = self._page(rest)
            objects, metadata = following.pop("items"), following["metadata"]

    def _page(self, rest: str) -> Raw:
        """Return a page of the list: the first one, or that where the one before ended."""
        where = {"_continue": rest} if rest else {}
        response = self._list_objects(
            limit=_PAGE, **where, _preload_content=False, _request_timeout=_TIMEOUT_S
        )
        body: Raw = orjson.loads(response.data)
        if not _is_ok(response):
            raise ApiException(status=response.status, reason=body.get("message"))
        return body

    def _watch(self) -> None:
        """Watch once.

        One that the server ends in order was no dead connection: all up to then has come, but for
        what was on its way.
        """
        begun_at = time.monotonic()
        self._pass_on_events()
        if (until := time.monotonic() - _LATE_S) > begun_at:
            self._is_current(max(until, self._current_at))

    def _pass_on_events(self) -> None:
        """Pass on events until the server ends the watch, which is resumed there.

        Raises:
            ApiException: The server cannot go on from there, or refuses for another reason.
        """
        response = self._list_objects(
            watch=True,
            resource_version=self._version,
            allow_watch_bookmarks=True,
            timeout_seconds=_WATCH_S,
            _preload_content=False,
            _request_timeout=_TIMEOUT_S,
        )
        try:
            if not _is_ok(response):
                raise ApiException(status=response.status, reason=response.reason)
            self._answers()
            for event in map(orjson.loads, _lines(response)):
                raw = event["object"]
                if event["type"] == "ERROR":
                    raise ApiException(status=raw.get("code"), reason=raw.get("message"))
                if event["type"] != "BOOKMARK":
                    self._sink.change(event["type"], raw)
                self._version = str(raw["metadata"]["resourceVersion"])
                self._is_current(time.monotonic())
                if self._stop_event.is_set():
                    break
        finally:
            response.close()
            response.release_conn()


def _lines(response: Any) -> Iterator[bytes]:  # noqa: ANN401 - the library's response
    """Yield the lines of a response as they arrive; one that is cut off is none."""
    begun: list[bytes] = []
    for piece in response.stream(amt=None, decode_content=False):
        head, *whole = piece.split(b"\n")
        begun.append(head)
        for rest in whole:
            line = b"".join(begun)
            if line:
                yield line
            begun = [rest]


def _is_ok(response: Any) -> bool:  # noqa: ANN401 - the library's response
    return bool(response.status < 300)  # noqa: PLR2004 - HTTP's boundary of success
