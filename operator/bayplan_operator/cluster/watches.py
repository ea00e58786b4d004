"""A watch beside kopf's: one collection's events in a thread of their own, and how it goes on.

kopf has a task and a chain of causes for each event, which is more than all that we make of those
that come by the thousand. An event that is lost costs nothing but time.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Final, Generic, Protocol, TypeVar

import structlog
import urllib3
from kubernetes.client.exceptions import ApiException

from bayplan_operator.cluster.kube import Kube, Raw, message_of

N = TypeVar("N", bound=Hashable)
N_co = TypeVar("N_co", bound=Hashable, covariant=True)

_log = structlog.get_logger()

#: Seconds between two attempts after an error, and between the beginnings of two watches.
_RETRY_S: Final = 1.0

#: Seconds of failures on end after which the watch begins anew: the server may not be able to go on
#: from where it was, and not know it (its data were restored from a backup, say).
_ANEW_S: Final = 60.0

#: Seconds for which the same news is gathered: to wake the event loop takes more than to read one.
_GATHER_S: Final = 0.02

#: HTTP's answer to a watch that would go on from where the server cannot look back to.
_GONE: Final = 410


class Follower(Protocol[N_co]):
    """Makes news of one collection's events, in the thread of the watch.

    Attributes:
        path: The collection.
        labels: A selector of the objects that matter; "" for all.
    """

    path: str
    labels: str

    def begin(self, tell: Callable[[N_co], None]) -> str:
        """Take that events may be lost; return the resourceVersion from which the rest is told.

        With "" there is an event for each object there is.

        Raises:
            ApiException: The API server does not say what there is.
        """

    def see(self, event: Raw, tell: Callable[[N_co], None]) -> None:
        """Take an event."""


async def watch(
    kube: Kube, follower: Follower[N], listener: Callable[[N], None], *, version: str = ""
) -> None:
    """Have the listener told of all news, on the event loop, until cancelled.

    The watch goes on from a resourceVersion, or begins with all there is.

    Raises:
        Exception: The watch has ended, which no error of the API server makes it do.
    """
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    stopped = threading.Event()
    gathered = Gathered(listener)

    def tell(news: N) -> None:
        if gathered.add(news) and not stopped.is_set():
            loop.call_soon_threadsafe(loop.call_later, _GATHER_S, gathered.pass_on)

    def run() -> None:
        try:
            Watch(kube, follower, tell, stopped, version=version).run()
        except Exception as error:  # noqa: BLE001 - the operator ends with it, and is started anew
            if not stopped.is_set():
                loop.call_soon_threadsafe(ended.set_exception, error)

    threading.Thread(target=run, name=_kind(follower.path), daemon=True).start()
    try:
        await ended
    finally:
        stopped.set()


class Gathered(Generic[N]):
    """News that the watch's thread adds and the event loop passes on, each once."""

    def __init__(self, listener: Callable[[N], None]) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._news: set[N] = set()

    def add(self, news: N) -> bool:
        """Take what has happened; return whether nothing had since it was last passed on."""
        with self._lock:
            first = not self._news
            self._news.add(news)
            return first

    def pass_on(self) -> None:
        """Tell the listener of it all."""
        with self._lock:
            gathered, self._news = self._news, set()
        for news in gathered:
            self._listener(news)


class Watch(Generic[N]):
    """Shows a follower what happens to a collection, until stopped."""

    def __init__(
        self,
        kube: Kube,
        follower: Follower[N],
        tell: Callable[[N], None],
        stopped: threading.Event,
        *,
        version: str = "",
    ) -> None:
        self._kube = kube
        self._follower = follower
        self._tell = tell
        self._stopped = stopped
        self._version = version
        self._fails_since: float | None = None

    def run(self) -> None:
        """Watch; after an error go on from there.

        A server that struggles is not asked for every object there is without need.
        """
        while not self._stopped.is_set():
            begun_at = time.monotonic()
            try:
                for event in self._events():
                    self._follower.see(event, self._tell)
                # A server that is going down ends watches as soon as they begin.
                self._stopped.wait(max(0.0, _RETRY_S - (time.monotonic() - begun_at)))
                self._fails_since = None
            except (ApiException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                self._fail(error)
                self._stopped.wait(_RETRY_S)

    def _fail(self, error: Exception) -> None:
        """Say why the watch has ended, and decide whether the next one begins anew."""
        now, is_gone = time.monotonic(), getattr(error, "status", None) == _GONE
        since = now if self._fails_since is None else self._fails_since
        self._fails_since = since
        if is_gone or isinstance(error, ValueError) or now - since >= _ANEW_S:
            self._version, self._fails_since = "", None
        if not is_gone:
            told = message_of(error) if isinstance(error, ApiException) else str(error)
            _log.warning("watch_failed", kind=_kind(self._follower.path), error=told[:300])

    def _events(self) -> Iterator[Raw]:
        """Yield the events of one watch, which goes on where the last one ended.

        Raises:
            ApiException: The server will not go on from there.
        """
        path, labels = self._follower.path, self._follower.labels
        if not self._version:
            self._version = self._follower.begin(self._tell)
        for event in self._kube.watch(path, labels=labels, version=self._version):
            if self._stopped.is_set():
                return
            if event["type"] == "ERROR":
                status = event["object"]
                raise ApiException(status=status.get("code"), reason=status.get("message"))
            self._version = event["object"]["metadata"]["resourceVersion"]
            self._fails_since = None
            if event["type"] != "BOOKMARK":
                yield event


def _kind(path: str) -> str:
    """Return what a collection is called: the last part of its path."""
    return path.rpartition("/")[2]
