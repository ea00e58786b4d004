"""Pods that can never be bound where they are pinned: told, or replaced as they were seen."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bayplan_operator.cluster.kube import node_path, pod_path
from tests.fake_kube import Raw
from tests.scenes.execution import NOW, Scene, bind, gates_of, key


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return a cluster in which the pod `a` is pinned to a node that is gone."""
    with ThreadPoolExecutor(2) as pool:
        made = Scene(pool)
        made.add("a")
        made.publish(bind("a", "n1"))
        made.look()
        del made.kube.objects[node_path("n1")]
        yield made


def test_a_bare_pod_is_told_and_left(scene: Scene) -> None:
    """Nobody makes it again; it stayed there without a word."""
    scene.pod("a")["metadata"].pop("ownerReferences")
    now = [NOW]
    gates = gates_of(scene, now)

    for minute in range(3):
        now[0] = NOW.replace(minute=minute)
        gates.reconcile()

    (note,) = scene.told.notes
    assert not scene.leaves("a")
    assert note == (
        "Pod a Stranded: it cannot be bound where it is pinned: n1 is gone; nobody makes it again,"
        " so it is left there: delete it and make it anew"
    )


def test_a_pod_that_changes_as_it_is_replaced_stays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been bound, and run: that is no pod that never ran."""
    now = [NOW]
    gates = gates_of(scene, now)
    gates.reconcile()
    evict = scene.kube.create

    def bound_first(path: str, body: Raw, **how: str) -> Raw:
        scene.pod("a")["spec"]["nodeName"] = "n2"
        scene.kube.add(pod_path(key("a")), scene.pod("a"))
        return evict(path, body, **how)

    monkeypatch.setattr(scene.kube, "create", bound_first)
    now[0] = NOW.replace(second=31)
    gates.reconcile()

    assert not scene.leaves("a")
    assert scene.told.notes == []
