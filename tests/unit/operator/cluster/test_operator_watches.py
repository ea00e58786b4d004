"""A watch beside kopf's: how it goes on, and who hears of what."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from itertools import count

import pytest
import urllib3
from kubernetes.client.exceptions import ApiException

from bayplan_operator.cluster import watches
from bayplan_operator.cluster.watches import Gathered, Watch, watch
from tests.fake_kube import Raw
from tests.scenes.watch import Script, Watched, event, too_old

GARBLED = ValueError("no JSON")


class Follower:
    """Tells the version of each event, and of each beginning."""

    path = "/api/v1/pods"
    labels = "a=b"

    def __init__(self, *, begins_at: str = "") -> None:
        self._begins_at = begins_at

    def begin(self, tell: Callable[[str], None]) -> str:
        """Say so."""
        tell("begins")
        return self._begins_at

    def see(self, event: Raw, tell: Callable[[str], None]) -> None:
        """Say of which version it is."""
        tell(event["object"]["metadata"]["resourceVersion"])


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "_RETRY_S", 0.0)


def told_by(kube: Watched, follower: Follower | None = None, *, version: str = "") -> list[str]:
    """Return what is told until the script ends."""
    told: list[str] = []
    Watch(kube, follower or Follower(), told.append, kube.stopped, version=version).run()
    return told


def test_a_watch_goes_on_where_the_last_one_ended() -> None:
    """With bookmarks, so that a quiet cluster's version does not grow too old."""
    kube = Watched([[event("ADDED", "5"), event("BOOKMARK", "9")]])

    told = told_by(kube)

    assert told == ["begins", "5"]
    assert kube.asked == [("/api/v1/pods", "a=b", ""), ("/api/v1/pods", "a=b", "9")]


@pytest.mark.parametrize("failure", [too_old(), GARBLED], ids=["gone", "garbled"])
def test_after_what_cannot_be_gone_on_from_it_begins_anew(failure: list[Raw] | Exception) -> None:
    """What happened meanwhile is not known."""
    kube = Watched([[event("ADDED", "5")], failure, [event("ADDED", "7")]])

    told = told_by(kube)

    assert told == ["begins", "5", "begins", "7"]
    assert kube.versions() == ["", "5", "", "7"]


def test_it_goes_on_from_what_was_read() -> None:
    """Before the first watch, and each time that it begins anew: both would be read twice."""
    kube = Watched([too_old(), [event("ADDED", "8")]])

    told = told_by(kube, Follower(begins_at="7"), version="3")

    assert told == ["begins", "8"]
    assert kube.versions() == ["3", "7", "8"]


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

    assert told == ["begins", "5", "7"]
    assert kube.versions() == ["", "5", "5", "5", "7"]


def test_after_a_minute_of_them_it_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose data were restored cannot go on from what it has never heard of."""
    ticks = count(step=30.0)
    monkeypatch.setattr("bayplan_operator.cluster.watches.time.monotonic", lambda: next(ticks))
    refused = ApiException(status=504, reason="too large resource version")
    kube = Watched([[event("ADDED", "5")], *[refused] * 3, [event("ADDED", "3")]])

    told_by(kube)

    versions = kube.versions()
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
    told: set[tuple[str, bool]] = set()
    kube = Patient([[event("ADDED", "5")], KeyError("unforeseen")])

    async def listen() -> None:
        loop = asyncio.get_running_loop()

        def hear(news: str) -> None:
            told.add((news, asyncio.get_running_loop() is loop))
            if ("5", True) in told:
                kube.heard.set()

        await watch(kube, Follower(), hear)

    with pytest.raises(KeyError, match="unforeseen"):
        asyncio.run(listen())
    assert told == {("begins", True), ("5", True)}


def test_the_same_news_of_many_is_told_once_until_it_comes_again() -> None:
    """The event loop wakes for a burst, not for each pod of it."""
    told: list[str] = []
    gathered = Gathered(told.append)

    firsts = [gathered.add(news) for news in ("came", "went") * 2]
    gathered.pass_on()
    again = gathered.add("came")
    gathered.pass_on()

    assert firsts == [True, False, False, False]
    assert again
    assert set(told[:2]) == {"came", "went"}
    assert told[2:] == ["came"]
