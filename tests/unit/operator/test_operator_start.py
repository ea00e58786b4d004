"""What the operator does before its first pass, while the API server answers badly or is away."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import urllib3
from kubernetes.client.exceptions import ApiException

from bayplan.cluster.keys import NodeName
from bayplan_operator import dispatcher as module
from bayplan_operator.cluster import connection
from bayplan_operator.cluster.kube import NODES, PLANS, node_path
from bayplan_operator.cluster.nodes import Nodes
from bayplan_operator.dispatcher import Dispatcher
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.arrivals import Arrivals
from bayplan_operator.plans.rejections import Rejections
from tests.fake_kube import FakeKube, Raw
from tests.scenes.dispatcher import dispatcher_of
from tests.scenes.execution import raw_node


class Failing(FakeKube):
    """An API server whose lists fail in turn, each with the next of some errors.

    Attributes:
        errors: The errors that are left.
        said: What the operator says of itself at each of them.
    """

    def __init__(self, *errors: Exception) -> None:
        super().__init__({node_path("n1"): raw_node("n1")})
        self.errors = [*errors]
        self.said: list[str] = []
        self.dispatcher: Dispatcher | None = None

    def pages(self, path: str, *, labels: str = "", fields: str = "") -> Iterator[Raw]:
        """Yield what there is, then fail."""
        yield from super().pages(path, labels=labels, fields=fields)
        if self.dispatcher is not None:
            self.said.append(self.dispatcher.unready())
        if self.errors:
            raise self.errors.pop(0)


def begin(kube: Failing, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """Have an operator begin; return what it knows of nodes."""
    monkeypatch.setattr(connection, "_PAUSES_S", (0.0,))
    nodes = Nodes(kube)
    with ThreadPoolExecutor(1) as threads:
        kube.dispatcher = dispatcher_of(threads, kube=kube, nodes=nodes)
        asyncio.run(kube.dispatcher._begin())  # noqa: SLF001 - what comes after it never ends
    kube.said.append(kube.dispatcher.unready())
    return nodes


def test_it_waits_for_an_api_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended each time, and Kubernetes started it again minutes after all was well."""
    away = urllib3.exceptions.MaxRetryError(cast(Any, None), NODES, OSError("refused"))
    kube = Failing(away, ApiException(status=503, reason="no endpoints"), ApiException(status=429))

    nodes = begin(kube, monkeypatch)

    assert nodes.lost([NodeName("n1"), NodeName("n2")]) == {NodeName("n2")}
    assert [said.partition(": ")[0] for said in kube.said[1:4]] == ["cannot begin"] * 3
    assert "503 no endpoints" in kube.said[2]
    assert not kube.said[-1].startswith("cannot begin")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_it_ends_where_it_may_not_read(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """It would be there for ever and do nothing, for want of a role."""
    with pytest.raises(ApiException, match=str(status)):
        begin(Failing(ApiException(status=status)), monkeypatch)


def test_a_list_of_nodes_that_breaks_off_tells_nothing() -> None:
    """Of a node that went before the next list nobody told: its pods were never buried."""
    kube = Failing(ApiException(status=500))
    nodes = Nodes(kube)
    with pytest.raises(ApiException):
        nodes.read()
    del kube.objects[node_path("n1")]

    nodes.read()

    assert nodes.lost([NodeName("n1")]) == {NodeName("n1")}


class Refusing(FakeKube):
    """An API server that lets nobody watch two collections, each for another reason."""

    def try_watch(self, path: str) -> None:
        """Refuse."""
        if path == NODES:
            raise ApiException(status=503, reason="no endpoints")
        if path == PLANS:
            raise ApiException(status=403, reason="forbidden")


def test_that_a_watch_is_forbidden_is_told_and_that_nobody_answers_is_not() -> None:
    """Passes say the latter, and end saying it as soon as it is over."""
    with ThreadPoolExecutor(1) as threads:
        dispatcher = dispatcher_of(threads, kube=Refusing())
        found = dispatcher._try_watches()  # noqa: SLF001 - asked every half minute

    assert found == {"watch of packingplans": "403 forbidden"}


class Stuck(FakeKube):
    """An API server that does not say who may watch, or answers that with nonsense."""

    def __init__(self, *, answers: bool) -> None:
        super().__init__()
        self.released = threading.Event()
        if answers:
            self.released.set()

    def try_watch(self, path: str) -> None:
        """Say so in the end."""
        self.released.wait(timeout=10.0)
        raise KeyError(path)

    def watch(self, path: str, *, labels: str, version: str = "") -> Iterator[Raw]:
        """Yield nothing, for nothing happens."""
        _ = path, labels, version
        return iter(())


class Looks:
    """Counts its passes, and ends the run after the third."""

    away_s = 0.0

    def __init__(self) -> None:
        self.arrivals = Arrivals(lambda: 0.0)
        self.rejections = Rejections(FakeKube(), now=lambda: datetime.now(UTC))
        self.enough = threading.Event()
        self._count = 0

    def reconcile(self) -> None:
        """Count."""
        self._count += 1
        if self._count == 3:
            self.enough.set()


@pytest.mark.parametrize("answers", [False, True], ids=["no answer", "no JSON of ours"])
def test_everything_is_looked_at_again_whoever_may_watch(
    monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    """That question took minutes, with nothing looked at, or the operator ended with it."""
    monkeypatch.setattr(module, "RESYNC_S", 0.01)
    kube, looks = Stuck(answers=answers), Looks()
    known = {"kube": kube, "execution": looks, "gates": looks, "nodes": Nodes(kube)}
    with ThreadPoolExecutor(4) as threads:
        dispatcher = dispatcher_of(threads, **known, metrics=Metrics())

        async def run() -> bool:
            running = asyncio.create_task(dispatcher.run())
            try:
                return await asyncio.to_thread(looks.enough.wait, 5.0)
            finally:
                kube.released.set()
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

        assert asyncio.run(run())
