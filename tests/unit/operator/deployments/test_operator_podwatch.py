"""The watch of managed pods: what it says of them."""

import asyncio
from contextlib import suppress

import pytest
import urllib3

from bayplan.api import names
from bayplan_operator.cluster import watches
from bayplan_operator.cluster.watches import Watch
from bayplan_operator.deployments.podwatch import Change, ManagedPods, News, news_of, watch_pods
from bayplan_operator.keys import DeploymentKey
from tests.fake_kube import Raw
from tests.scenes.watch import Watched, event, too_old

CHAT = DeploymentKey(namespace="ns", name="chat")


class Refusing:
    """A kubelet that refuses the pod of one event."""

    def __init__(self, refused: str = "") -> None:
        self._refused = refused

    def see(self, event: Raw) -> bool:
        """Return whether that is the one."""
        return str(event["object"]["metadata"]["resourceVersion"]) == self._refused


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
    monkeypatch.setattr(watches, "_RETRY_S", 0.0)


def told_by(kube: Watched, waiting: Waiting, refusing: Refusing | None = None) -> list[News]:
    """Return what is told until the script ends."""
    told: list[News] = []
    Watch(kube, ManagedPods(waiting, refusing or Refusing()), told.append, kube.stopped).run()
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
    assert news_of(event("ADDED", "1", of="chat"))[0] == CHAT


def test_the_last_one_that_the_plan_at_work_waits_for_is_told_of_as_such() -> None:
    """The plan would wait for its next look by the clock."""
    kube = Watched([[event("MODIFIED", "5"), event("MODIFIED", "6", of="chat")]])

    assert told_by(kube, Waiting("6")) == [(None, Change.OTHER), (CHAT, Change.LAST)]


def test_one_that_its_kubelet_refuses_is_told_of_as_such() -> None:
    """It would be planned on the same node again, before anybody remembers that."""
    kube = Watched([[event("MODIFIED", "5", of="chat"), event("MODIFIED", "6", of="chat")]])

    assert told_by(kube, Waiting(), Refusing("5")) == [(CHAT, Change.REFUSED), (CHAT, Change.OTHER)]


def test_who_went_before_a_watch_that_begins_anew_is_not_told_of() -> None:
    """A plan would end over what was seen of pods that are gone."""
    broken = urllib3.exceptions.ProtocolError("broken")
    kube = Watched([[event("ADDED", "5")], broken, too_old(), [event("ADDED", "7")]])
    waiting = Waiting()

    told = told_by(kube, waiting)

    assert told == [(None, Change.CAME)] * 2
    assert kube.versions() == ["", "5", "5", "", "7"]
    assert waiting.forgotten == [0, 1]


def test_the_listener_hears_of_managed_pods_alone() -> None:
    """Nobody else's pods are of a deployment, or wait for a plan."""
    kube = Watched([[event("ADDED", "5", of="chat")]])
    told: list[News] = []

    async def listen() -> None:
        heard = asyncio.Event()

        def hear(owner: DeploymentKey | None, change: Change) -> None:
            told.append((owner, change))
            heard.set()

        watching = asyncio.create_task(watch_pods(kube, hear, Waiting(), Refusing()))
        await asyncio.wait_for(heard.wait(), 30)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    asyncio.run(listen())

    assert told == [(CHAT, Change.CAME)]
    assert kube.asked[0] == ("/api/v1/pods", f"{names.LABEL_MANAGED}=true", "")
