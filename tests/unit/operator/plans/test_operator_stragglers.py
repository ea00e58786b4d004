"""Pods that still leave for a plan which another one has overtaken."""

from collections.abc import Callable

import pytest
from kubernetes.client.exceptions import ApiException

from bayplan_operator.cluster.kube import POLICY, plan_path, pod_path
from tests.fake_kube import Raw
from tests.scenes import execution
from tests.scenes.execution import Scene, bind, evict, key

scene = execution.scene


def overtaken(scene: Scene, look: Callable[[], object] | None = None) -> None:
    """Have v, of three pods, leave for a plan that is overtaken by one that evicts w.

    It leaves in the first look at that plan.
    """
    look = look or scene.look
    scene.kube.add(POLICY, {"metadata": {"name": "default"}, "spec": {"maxParallelMoves": 1}})
    for name in ("v", "x", "w"):
        scene.add(name, gpus=2, on="n1" if name != "w" else "n2")
    scene.add("a", gpus=8)
    scene.add("b", gpus=8)
    scene.publish(bind("a", "n1"), evict("v", "n1"), evict("x", "n1"))
    look()
    assert leaving(scene) == ["v"]
    scene.publish(bind("b", "n2"), evict("w", "n2"), sequence=2)


def leaving(scene: Scene) -> list[str]:
    """Return who is being deleted."""
    return [n for n in ("v", "w", "x") if "deletionTimestamp" in meta(scene, n)]


def meta(scene: Scene, name: str) -> Raw:
    """Return the metadata of a pod, which may be gone."""
    found: Raw = scene.kube.objects.get(pod_path(key(name)), {"metadata": {}})["metadata"]
    return found


def gone(scene: Scene) -> None:
    """Let v be gone."""
    del scene.kube.objects[pod_path(key("v"))]


def overstays(scene: Scene) -> None:
    """Let v hang."""
    meta(scene, "v")["deletionTimestamp"] = "2026-05-01T11:58:59Z"


def made_anew(scene: Scene) -> None:
    """Let another one have its name, which is being deleted."""
    meta(scene, "v")["uid"] = "other"


@pytest.mark.parametrize("then", [gone, overstays, made_anew])
def test_who_leaves_for_an_older_plan_counts_until_it_is_gone(
    scene: Scene, then: Callable[[Scene], None]
) -> None:
    """Seen: two plans had twice as many pods leave at a time as the PackingPolicy allows."""
    overtaken(scene)

    scene.look()
    scene.look()

    assert leaving(scene) == ["v"]
    step = scene.status("plan-00002")["steps"][0]
    assert step["message"] == "waits for its turn: 1 pod is on its way"
    assert "; who leaves for older plans does so until" in scene.status("plan-00002")["message"]

    then(scene)
    scene.look()

    assert "w" in leaving(scene)


def test_who_leaves_for_a_plan_of_which_nothing_was_told_counts(scene: Scene) -> None:
    """An operator that ended between evicting and telling left pods that counted nowhere."""

    def breaks_off() -> None:
        path = f"{plan_path('plan-00001')}/status"
        scene.kube.refusals[path] = (500, "etcd has no leader")
        with pytest.raises(ApiException):
            scene.look()
        del scene.kube.refusals[path]

    overtaken(scene, breaks_off)

    scene.look()

    assert leaving(scene) == ["v"]


def test_who_was_to_leave_for_many_older_plans_is_looked_at_once(scene: Scene) -> None:
    """Plans that overtake each other name the same pods: each was read for each of them."""
    for name in ("v", "w"):
        scene.add(name, gpus=8, on="n1" if name == "v" else "n2")
    scene.add("a", gpus=8)
    scene.add("b", gpus=8)
    for sequence in range(1, 5):
        scene.publish(bind("a", "n1"), evict("v", "n1"), sequence=sequence)
    scene.publish(bind("b", "n2"), evict("w", "n2"), sequence=5)
    asked: list[str] = []
    get = scene.kube.get
    scene.kube.get = lambda path: asked.append(path) or get(path)  # type: ignore[method-assign,func-returns-value]

    scene.look()

    assert asked.count(pod_path(key("v"))) == 1


def test_who_was_not_leaving_when_its_plan_was_overtaken_is_looked_at_once(scene: Scene) -> None:
    """A plan with hundreds of victims would have each of them read a few times a second."""
    overtaken(scene)
    scene.look()
    asked: list[str] = []
    get = scene.kube.get
    scene.kube.get = lambda path: asked.append(path) or get(path)  # type: ignore[method-assign,func-returns-value]

    scene.look()

    assert pod_path(key("v")) in asked
    assert pod_path(key("x")) not in asked
