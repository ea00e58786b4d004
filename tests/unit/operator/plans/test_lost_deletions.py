"""Plans that were deleted while nobody told the operator, and others under their names."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest

from bayplan.api import names
from bayplan_operator.cluster.kube import plan_path
from bayplan_operator.plans import holds
from tests.fake_kube import Raw
from tests.scenes.execution import Scene, bind, evict, hold


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return a cluster with an operator that has read all plans there are."""
    with ThreadPoolExecutor(2) as pool:
        made = Scene(pool)
        made.plans.newest()
        yield made


def test_a_plan_is_not_overtaken_by_one_that_is_gone(scene: Scene) -> None:
    """After `kubectl delete packingplans --all` in a gap of the watch, no pod was placed again."""
    scene.add("a")
    gone = scene.publish(bind("a", "n1"), sequence=57)
    scene.look()
    del scene.kube.objects[plan_path(gone)]
    scene.add("b")

    plan = scene.publish(bind("b", "n2"), sequence=1)
    scene.look()

    assert scene.status(plan)["phase"] == "Executing"
    assert scene.pod("b")["spec"]["schedulingGates"] == []


def test_nor_by_another_one_of_that_name(scene: Scene) -> None:
    """It says nothing about the others that it was read with."""
    scene.add("a")
    gone = scene.publish(bind("a", "n1"), sequence=57)
    scene.look()
    raw = scene.kube.objects.pop(plan_path(gone))
    spec = raw["spec"] | {"sequence": 2}
    scene.kube.add(plan_path(gone), {"metadata": {"name": gone, "uid": "other"}, "spec": spec})
    scene.add("b")

    plan = scene.publish(bind("b", "n2"), sequence=3)
    scene.look()

    assert scene.status(plan)["phase"] == "Executing"


def test_a_plan_is_overtaken_by_one_that_is_there(scene: Scene) -> None:
    """Two plans at a time would give pods two nodes."""
    for name in ("a", "b"):
        scene.add(name)
    old = scene.publish(bind("a", "n1"), sequence=1)
    scene.publish(bind("b", "n2"), sequence=2)

    scene.look()

    assert scene.status(old)["phase"] == "Superseded"


def test_a_late_word_of_a_deletion_is_not_about_the_next_of_that_name(scene: Scene) -> None:
    """Kopf orders what it tells of an object, not of a name."""
    scene.add("a")
    plan = scene.publish(bind("a", "n1"), sequence=1)

    scene.plans.forget(plan, "uid-of-an-older-one")
    scene.look()

    assert scene.status(plan)["phase"] == "Executing"
    assert scene.pod("a")["spec"].get("schedulingGates") != [{"name": names.GATE}]


def test_the_next_one_of_a_name_is_news(scene: Scene) -> None:
    """It would be taken up half a minute later."""
    scene.add("a")
    raw = scene.kube.objects[plan_path(scene.publish(bind("a", "n1"), sequence=1))]

    assert not scene.plans.see(raw)
    assert scene.plans.see(raw | {"metadata": raw["metadata"] | {"uid": "the next"}})


def test_what_the_next_one_of_a_name_holds_is_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After all plans were deleted the first one was made anew, and nobody learned from it."""
    monkeypatch.setattr(holds, "_ROUND_S", 0.0)
    for name in ("a", "b"):
        scene.add(name, gpus=16)
    plan = scene.publish(hold("a"), sequence=1)
    scene.look()
    del scene.kube.objects[plan_path(plan)]
    scene.plans.forget(plan, f"uid-{plan}")
    other = deepcopy(scene.kube.objects[plan_path(scene.publish(hold("b"), sequence=2))])
    scene.plans.forget(f"{plan[:-1]}2", other["metadata"]["uid"])

    other["metadata"] |= {"name": plan, "uid": "the next"}
    scene.plans.see(scene.kube.add(plan_path(plan), other))
    scene.look()

    assert names.ANNOTATION_DECISION in scene.pod("b")["metadata"]["annotations"]


def test_a_plan_that_is_deleted_in_the_middle_of_a_pass_disturbs_nobody_any_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who deletes it sees what it is about to do, and does not want that."""
    scene.add("a", gpus=8)
    scene.add("v", gpus=8, on="n1")
    plan = scene.publish(bind("a", "n1"), evict("v", "n1"))
    get = scene.kube.get

    def deleting(path: str) -> Raw | None:
        scene.plans.forget(plan, f"uid-{plan}")
        return get(path)

    monkeypatch.setattr(scene.kube, "get", deleting)
    scene.look()

    assert not scene.leaves("v")
