"""The watch of managed pods: whose pod it is, and whether it came or went.

On its way to a node a pod changes four times and more, and a plan places hundreds: kopf has a task
and a chain of causes for each event, and took more of the operator's time than all its own work.
Nothing of a pod is remembered here either, and an event that is lost costs nothing but time.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, Protocol

import structlog
import urllib3
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan_operator.cluster.kube import PODS, Kube, Raw, message_of
from bayplan_operator.keys import DeploymentKey

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


class Change(Enum):
    """What became of a pod."""

    CAME = "came"
    WENT = "went"
    LAST = "last"  #: it is on its node, the last one that the plan at work has waited for
    REFUSED = "refused"  #: its kubelet would not start it
    OTHER = "other"


#: The deployment that a pod is of, if it is of one, and what became of the pod.
News = tuple[DeploymentKey | None, Change]

#: Takes such news, once for all pods of which it is the same.
Listener = Callable[[DeploymentKey | None, Change], None]


class Awaited(Protocol):
    """The pods that the plan at work waits for."""

    def see(self, event: Raw) -> bool:
        """Take an event; return whether its pod is the last one that is waited for."""

    def forget(self) -> None:
        """Take that events may be lost."""


class Refused(Protocol):
    """The pods that kubelets refuse."""

    def see(self, event: Raw) -> bool:
        """Take an event; return whether the kubelet of its pod has just refused it."""


async def watch_pods(kube: Kube, listener: Listener, awaited: Awaited, refused: Refused) -> None:
    """Have the listener told of every change, on the event loop, until cancelled.

    `awaited` and `refused` are told of every event at once, in the thread of the watch.

    Raises:
        Exception: The watch has ended, which no error of the API server makes it do.
    """
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    stopped = threading.Event()
    gathered = Gathered(listener)

    def tell(owner: DeploymentKey | None, change: Change) -> None:
        if gathered.add((owner, change)) and not stopped.is_set():
            loop.call_soon_threadsafe(loop.call_later, _GATHER_S, gathered.pass_on)

    def run() -> None:
        try:
            PodWatch(kube, tell, awaited, refused, stopped).run()
        except Exception as error:  # noqa: BLE001 - the operator ends with it, and is started anew
            if not stopped.is_set():
                loop.call_soon_threadsafe(ended.set_exception, error)

    threading.Thread(target=run, name="pods", daemon=True).start()
    try:
        await ended
    finally:
        stopped.set()


class Gathered:
    """News that the watch's thread adds and the event loop passes on, each once."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._news: set[News] = set()

    def add(self, news: News) -> bool:
        """Take what has happened; return whether nothing had since it was last passed on."""
        with self._lock:
            first = not self._news
            self._news.add(news)
            return first

    def pass_on(self) -> None:
        """Tell the listener of it all."""
        with self._lock:
            gathered, self._news = self._news, set()
        for owner, change in gathered:
            self._listener(owner, change)


class PodWatch:
    """Passes on what happens to managed pods, until stopped."""

    def __init__(
        self,
        kube: Kube,
        listener: Listener,
        awaited: Awaited,
        refused: Refused,
        stopped: threading.Event,
    ) -> None:
        self._kube = kube
        self._listener = listener
        self._awaited = awaited
        self._refused = refused
        self._stopped = stopped
        self._version = ""
        self._fails_since: float | None = None

    def run(self) -> None:
        """Watch; after an error go on from there.

        A server that struggles is not asked for every pod there is without need.
        """
        while not self._stopped.is_set():
            begun_at = time.monotonic()
            try:
                for event in self._events():
                    owner, change = news_of(event)
                    change = Change.REFUSED if self._refused.see(event) else change
                    self._listener(owner, Change.LAST if self._awaited.see(event) else change)
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
            _log.warning("watch_failed", kind="pods", error=told[:300])

    def _events(self) -> Iterator[Raw]:
        """Yield the events of one watch, which goes on where the last one ended.

        Raises:
            ApiException: The server will not go on from there.
        """
        if not self._version:
            self._awaited.forget()  # nobody tells of those that went meanwhile
        labels = f"{names.LABEL_MANAGED}=true"
        for event in self._kube.watch(PODS, labels=labels, version=self._version):
            if self._stopped.is_set():
                return
            if event["type"] == "ERROR":
                status = event["object"]
                raise ApiException(status=status.get("code"), reason=status.get("message"))
            self._version = event["object"]["metadata"]["resourceVersion"]
            self._fails_since = None
            if event["type"] != "BOOKMARK":
                yield event


def news_of(event: Raw) -> News:
    """Return the deployment that the event's pod is of, if it is of one, and what became of it."""
    metadata = event["object"]["metadata"]
    name = (metadata.get("labels") or {}).get(names.LABEL_DEPLOYMENT)
    owner = DeploymentKey(namespace=metadata["namespace"], name=name) if name else None
    if event["type"] == "DELETED" or "deletionTimestamp" in metadata:
        return owner, Change.WENT
    return owner, Change.CAME if event["type"] == "ADDED" else Change.OTHER
