"""A list of all pods is taken in while the scheduler goes on asking."""

from typing import Any

import pytest

from bayplan.cluster.keys import NodeName
from bayplan_extender.sinks import _Nodes, _Pods
from bayplan_extender.view import View


class Watching:
    """A lock that lets somebody look whenever it is free again."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.seen: list[tuple[int, int]] = []

    def __enter__(self) -> None:
        """Nobody else has it."""

    def __exit__(self, *_: object) -> None:
        """Look: at how many pods there are, and what is free."""
        cache = self._view.cache
        free = cache.free(NodeName("n"))["nvidia.com/gpu"]
        self.seen.append((len(cache.pods()), free))


def raw_pod(name: str) -> dict[str, Any]:
    """Return a running pod with one GPU."""
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    metadata = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"}
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n", "containers": [container]},
        "status": {"phase": "Running"},
    }


def relist(*, planning: bool) -> Watching:
    """Return what is seen while 250 pods take the place of 250 others."""
    view = View(planning=planning)
    status = {"allocatable": {"nvidia.com/gpu": "250"}}
    _Nodes(view).replace([{"metadata": {"name": "n"}, "status": status}])
    _Pods(view).replace(raw_pod(f"old-{i}") for i in range(250))
    lock = Watching(view)
    view.lock = lock  # type: ignore[assignment]  # all that is needed of one
    _Pods(view).replace(raw_pod(f"new-{i}") for i in range(250))
    return lock


def test_the_scheduler_gets_in_between() -> None:
    """It waited for a second, with everything that it schedules."""
    seen = relist(planning=False).seen
    pods = [count for count, _ in seen]

    assert max(abs(b - a) for a, b in zip([250, *pods], pods, strict=False)) <= 100
    assert pods[-1] == 250


def test_nothing_looks_free_that_is_taken() -> None:
    """Room of pods that have gone would be given away before that of others is known."""
    assert max(free for _, free in relist(planning=False).seen) == 0


def test_who_plans_sees_a_list_as_a_whole() -> None:
    """Half a list is a cluster that never was."""
    assert relist(planning=True).seen == [(250, 0)]


@pytest.mark.parametrize("planning", [False, True])
def test_what_is_left_is_the_list(*, planning: bool) -> None:
    """Pods that have gone would take room for ever."""
    view = View(planning=planning)
    _Pods(view).replace([raw_pod("a"), raw_pod("b")])

    _Pods(view).replace([raw_pod("b"), raw_pod("c")])

    assert {key.name for key in view.cache.pods()} == {"b", "c"}
    assert "pods" not in view.missing
