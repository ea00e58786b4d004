"""The watch of managed pods: what it says of them, and how it goes on."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import pytest
import urllib3
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan_operator.deployments import podwatch
from bayplan_operator.deployments.podwatch import Change, Gathered, PodWatch, news_of, watch_pods
from bayplan_operator.keys import DeploymentKey
from tests.fake_kube import FakeKube, Raw

Script = Sequence[Sequence[Raw] | Exception]


class Watched(FakeKube):
    """Plays watches one after the other, and then stops.

    Attributes:
        asked: The labels and the version that each watch was begun with.
    """

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []
        self.stopped = threading.Event()
        self._script = list(script)

    def watch(self, path: str, *, labels: str, version: str = "") -> Iterator[Raw]:
        """Yield the events of the next watch of the script."""
        assert path == "/api/v1/pods"
        self.asked.append((labels, version))
        if not self._script:
            self.stopped.set()
            return
        now = self._script.pop(0)
        if isinstance(now, Exception):
            raise now
        yield from now


def event(kind: str, version: str, *, name: str = "a", of: str = "", leaves: bool = False) -> Raw:
    """Return an event about a pod."""
    metadata: dict[str, Any] = {"namespace": "ns", "name": name, "resourceVersion": version}
    metadata |= {"labels": {names.LABEL_DEPLOYMENT: of}} if of else {}
    metadata |= {"deletionTimestamp": "2026-05-01T12:00:00Z"} if leaves else {}
    return {"type": kind, "object": {"metadata": metadata}}


class Nobody:
    """No kubelet refuses anybody."""

    def see(self, event: Raw) -> bool:
        """Return that."""
        return not event


class Waiting:
    """Waits for the pod of one event.

    Attributes:
        forgotten: How many events had been seen each time that some might be lost.
    """

    def __init__(self, last: str = "") -> None:
        self.forgotten: list[int] = []
        self._last = last
        self._seen = 0

    def see(self, event: Raw) -> bool:
        """Return whether that is the one."""
        self._seen += 1
        return str(event["object"]["metadata"]["resourceVersion"]) == self._last

    def forget(self) -> None:
        """Take note of it."""
        self.forgotten.append(self._seen)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podwatch, "_RETRY_S", 0.0)


def told_by(kube: Watched) -> list[tuple[DeploymentKey | None, Change]]:
    """Return what a listener is told until the script ends."""
    told: list[tuple[DeploymentKey | None, Change]] = []
    PodWatch(kube, lambda *news: told.append(news), Waiting(), Nobody(), kube.stopped).run()
    return told


@pytest.mark.parametrize(
    ("seen", "change"),
    [
        (event("ADDED", "1"), Change.CAME),
        (event("MODIFIED", "1"), Change.OTHER),
        (event("MODIFIED", "1", leaves=True), Change.WENT),
        (event("ADDED", "1", leaves=True), Change.WENT),
        (event("DELETED", "1"), Change.WENT),
    ],
    ids=["made", "bound, say", "being deleted", "being deleted at first sight", "deleted"],
)
def test_what_becomes_of_a_pod(seen: Raw, change: Change) -> None:
    """Its owner acts on one that comes or goes, and takes its time with the rest."""
    assert news_of(seen) == (None, change)


def test_whose_pod_it_is() -> None:
    """Its deployment has something to do."""
    assert news_of(event("ADDED", "1", of="chat"))[0] == DeploymentKey(namespace="ns", name="chat")


def test_the_last_one_that_the_plan_at_work_waits_for_is_told_of_as_such() -> None:
    """The plan would wait for its next look by the clock."""
    kube = Watched([[event("MODIFIED", "5"), event("MODIFIED", "6", of="chat")]])
    told: list[tuple[DeploymentKey | None, Change]] = []

    PodWatch(kube, lambda *news: told.append(news), Waiting("6"), Nobody(), kube.stopped).run()

    chat = DeploymentKey(namespace="ns", name="chat")
    assert told == [(None, Change.OTHER), (chat, Change.LAST)]


def test_a_watch_goes_on_where_the_last_one_ended() -> None:
    """With bookmarks, so that a quiet cluster's version does not grow too old."""
    kube = Watched([[event("ADDED", "5"), event("BOOKMARK", "9")]])

    told = told_by(kube)

    assert told == [(None, Change.CAME)]
    labels = f"{names.LABEL_MANAGED}=true"
    assert kube.asked == [(labels, ""), (labels, "9")]


@pytest.mark.parametrize(
    "failure",
    [
        [{"type": "ERROR", "object": {"code": 410, "message": "too old"}}],
        ValueError("no JSON"),
    ],
    ids=["gone", "garbled"],
)
def test_after_what_cannot_be_gone_on_from_every_pod_is_told_of_again(
    failure: Any,  # noqa: ANN401 - a script
) -> None:
    """What happened meanwhile is not known."""
    kube = Watched([[event("ADDED", "5")], failure, [event("ADDED", "7")]])

    told = told_by(kube)

    assert told == [(None, Change.CAME)] * 2
    assert [version for _, version in kube.asked] == ["", "5", "", "7"]


def test_who_went_before_a_watch_that_begins_anew_is_not_told_of() -> None:
    """A plan would end over what was seen of pods that are gone."""
    gone = [{"type": "ERROR", "object": {"code": 410, "message": "too old"}}]
    broken = urllib3.exceptions.ProtocolError("broken")
    kube = Watched([[event("ADDED", "5")], broken, gone, [event("ADDED", "7")]])
    waiting = Waiting()

    PodWatch(kube, lambda *_: None, waiting, Nobody(), kube.stopped).run()

    assert [version for _, version in kube.asked] == ["", "5", "5", "", "7"]
    assert waiting.forgotten == [0, 1]


@pytest.mark.parametrize(
    "failure",
    [
        ApiException(status=500, reason="down"),
        ApiException(status=429, reason="too many requests"),
        urllib3.exceptions.ProtocolError("broken"),
    ],
    ids=["refused", "overloaded", "broken off"],
)
def test_after_other_errors_the_watch_goes_on_where_it_was(failure: Exception) -> None:
    """A server that struggles was asked for every pod there is each second."""
    kube = Watched([[event("ADDED", "5")], failure, failure, [event("MODIFIED", "7")]])

    told = told_by(kube)

    assert told == [(None, Change.CAME), (None, Change.OTHER)]
    assert [version for _, version in kube.asked] == ["", "5", "5", "5", "7"]


def test_after_a_minute_of_them_it_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose data were restored cannot go on from what it has never heard of."""
    ticks = count(step=30.0)
    monkeypatch.setattr("bayplan_operator.deployments.podwatch.time.monotonic", lambda: next(ticks))
    refused = ApiException(status=504, reason="too large resource version")
    kube = Watched([[event("ADDED", "5")], *[refused] * 3, [event("ADDED", "3")]])

    told_by(kube)

    versions = [version for _, version in kube.asked]
    assert versions[:3] == ["", "5", "5"]
    assert "" in versions[3:5]


class Patient(Watched):
    """Goes on with the script once the listener has heard of what came before."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.heard = threading.Event()

    def watch(self, path: str, *, labels: str, version: str = "") -> Iterator[Raw]:
        """Yield the events of the next watch of the script, and wait."""
        yield from super().watch(path, labels=labels, version=version)
        assert self.heard.wait(30)


def test_the_listener_is_called_on_the_loop_and_a_watch_that_ends_is_an_error() -> None:
    """An operator that hears nothing any more would look alive."""
    told: list[tuple[Change, bool]] = []
    kube = Patient([[event("ADDED", "5")], KeyError("unforeseen")])

    async def listen() -> None:
        loop = asyncio.get_running_loop()

        def hear(_: DeploymentKey | None, change: Change) -> None:
            told.append((change, asyncio.get_running_loop() is loop))
            kube.heard.set()

        await watch_pods(kube, hear, Waiting(), Nobody())

    with pytest.raises(KeyError, match="unforeseen"):
        asyncio.run(listen())
    assert told == [(Change.CAME, True)]


def test_the_same_news_of_many_pods_is_told_once_until_it_comes_again() -> None:
    """The event loop wakes for a burst, not for each pod of it."""
    told: list[tuple[DeploymentKey | None, Change]] = []
    gathered = Gathered(lambda *news: told.append(news))
    chat = DeploymentKey(namespace="ns", name="chat")

    firsts = [gathered.add(n) for n in ((None, Change.CAME), (chat, Change.CAME)) * 2]
    gathered.pass_on()
    again = gathered.add((None, Change.CAME))
    gathered.pass_on()

    assert firsts == [True, False, False, False]
    assert again
    assert set(told[:2]) == {(None, Change.CAME), (chat, Change.CAME)}
    assert told[2:] == [(None, Change.CAME)]
