"""How pods are let go: over how many connections, and who is told of."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from bayplan.cluster.keys import NodeName
from bayplan.steps import ReleasePod
from bayplan_operator.cluster.kube import pod_path
from bayplan_operator.plans.releases import Releases
from tests.fake_kube import FakeKube, Raw
from tests.scenes.execution import key, raw_pod


class Counted(ThreadPoolExecutor):
    """Counts what it is given to do: each may take a thread of its own, and a connection."""

    def __init__(self) -> None:
        super().__init__(8)
        self.given = 0

    def submit(self, *arguments: Any, **others: Any) -> Future[Any]:  # noqa: ANN401 - as it is
        """Count it, and do it."""
        self.given += 1
        return super().submit(*arguments, **others)


@pytest.fixture
def pool() -> Iterator[Counted]:
    """Return workers, and end them after the test."""
    with Counted() as workers:
        yield workers


def release(
    kube: FakeKube, pool: Counted, names: Sequence[str]
) -> list[tuple[ReleasePod, str | None]]:
    """Release pods with these names; return what is told of each."""
    for name in names:
        kube.add(pod_path(key(name)), raw_pod(name))
    raws = {name: kube.objects[pod_path(key(name))] for name in names}
    steps = [
        ReleasePod(pod=key(n), uid=raws[n]["metadata"]["uid"], node=NodeName("n1")) for n in names
    ]
    seen = {step.uid: raws[step.pod.name] for step in steps}
    return list(Releases(kube, pool).release(steps, "plan-00001", seen))


def test_few_pods_are_released_over_few_connections(pool: Counted) -> None:
    """The API server closes idle connections: one each would cost more than the patches."""
    names = [f"p{number}" for number in range(10)]
    kube = FakeKube()
    kube.refusals[pod_path(key("p6"))] = (403, "not this one")

    told = release(kube, pool, names)

    assert pool.given == 3
    assert [step.pod.name for step, _ in told] == names
    assert [step.pod.name for step, refused in told if refused] == ["p6"]


class Hanging(FakeKube):
    """An API server that answers for the first pod when it has answered for all others.

    Attributes:
        others: How many others there are.
        waited: Whether the first one's answer had to be given before that.
    """

    def __init__(self, others: int) -> None:
        super().__init__()
        self.waited = False
        self._missing = others
        self._all = threading.Event()

    def patch(self, path: str, body: Raw, *, manager: str, rehearse: bool = False) -> None:
        """Answer, in that order."""
        if path.endswith("/p0"):
            self.waited = not self._all.wait(timeout=10.0)
        super().patch(path, body, manager=manager, rehearse=rehearse)
        self._missing -= not path.endswith("/p0")
        if not self._missing:
            self._all.set()


@pytest.mark.parametrize("others", [1, 3, 9])
def test_nobody_waits_for_the_answer_about_another(pool: Counted, others: int) -> None:
    """Three of a gang stood behind the first one, for as long as a webhook took over that."""
    kube = Hanging(others)

    told = release(kube, pool, [f"p{number}" for number in range(1 + others)])

    assert not kube.waited
    assert [refused for _, refused in told] == [""] * (1 + others)
