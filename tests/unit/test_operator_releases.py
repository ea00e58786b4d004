"""How pods are let go: over how many connections, and who is told of."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from bayplan.cluster.keys import NodeName
from bayplan.steps import ReleasePod
from bayplan_operator.cluster.kube import pod_path
from bayplan_operator.plans.releases import Releases
from tests.execution_scene import key, raw_pod
from tests.fake_kube import FakeKube


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


def test_few_pods_are_released_over_few_connections(pool: Counted) -> None:
    """The API server closes idle connections: one each would cost more than the patches."""
    names = [f"p{number}" for number in range(10)]
    kube = FakeKube()
    for name in names:
        kube.add(pod_path(key(name)), raw_pod(name))
    raws = {name: kube.objects[pod_path(key(name))] for name in names}
    steps = [
        ReleasePod(pod=key(n), uid=raws[n]["metadata"]["uid"], node=NodeName("n1")) for n in names
    ]
    kube.refusals[pod_path(key("p6"))] = (403, "not this one")

    told = list(
        Releases(kube, pool).release(steps, "plan-00001", {s.uid: raws[s.pod.name] for s in steps})
    )

    assert pool.given == 3
    assert [step.pod.name for step, _ in told] == names
    assert [step.pod.name for step, refused in told if refused] == ["p6"]
