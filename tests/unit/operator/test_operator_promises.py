"""What pods are told that have a place in the plan at work and wait for it."""

from dataclasses import replace

import pytest

from bayplan.api import names
from bayplan.cluster.keys import Owner
from bayplan_operator import promises as module
from bayplan_operator.cluster.kube import pod_path
from tests.scenes import execution
from tests.scenes.execution import NOW, Scene, bind, evict, gates_of, hold, key

scene = execution.scene

LEAVES = "plan-00001 gives it n1: waits for room on n1, which ns/v leaves by 12:05:00 UTC at most"


def at_work(scene: Scene) -> None:
    """Have a pod wait for one that is on its way out, and takes its time."""
    scene.add("v", gpus=8, on="n1", gated=False)
    scene.add("a")
    scene.pod("v")["metadata"]["deletionTimestamp"] = "2026-05-01T12:05:00Z"
    owner = Owner(kind="ReplicaSet", namespace="ns", name="web", uid="uid-web")
    scene.publish(bind("a", "n1"), replace(evict("v", "n1"), owner=owner))
    scene.look()


def told(scene: Scene) -> str:
    """Return what the waiting pod says of its place."""
    return str((scene.pod("a")["metadata"].get("annotations") or {}).get(names.ANNOTATION_DECISION))


def tellings(scene: Scene) -> list[str]:
    """Return the writes by which pods were to be told."""
    return [write for write in scene.kube.writes if write.startswith("merge")]


def test_who_waits_for_others_to_leave_says_for_whom_and_until_when(scene: Scene) -> None:
    """Seen: for minutes nothing on the pod told that it had a place."""
    at_work(scene)
    gates = gates_of(scene, [NOW])

    gates.reconcile()
    early = told(scene)
    gates.reconcile()
    gates.reconcile()

    assert (early, told(scene)) == ("None", LEAVES)
    assert len(tellings(scene)) == 1


def test_who_comes_in_the_place_of_a_victim_says_that_the_plan_goes_first(scene: Scene) -> None:
    """Nobody decides on it before, and nothing on it said so."""
    at_work(scene)
    scene.add("b")
    gates = gates_of(scene, [NOW])

    gates.reconcile()
    gates.reconcile()

    assert scene.pod("b")["metadata"]["annotations"][names.ANNOTATION_DECISION] == (
        "plan-00001 evicts pods of ReplicaSet ns/web: it is planned when plan-00001 has ended"
    )


def test_what_changes_all_the_time_is_told_once_a_minute(scene: Scene) -> None:
    """Each victim that leaves would rewrite all who wait for its node."""
    at_work(scene)
    now = [NOW]
    gates = gates_of(scene, now)
    gates.reconcile()
    gates.reconcile()
    scene.pod("v")["metadata"]["deletionTimestamp"] = "2026-05-01T12:06:00Z"
    scene.look()

    now[0] = NOW.replace(second=59)
    gates.reconcile()
    assert told(scene) == LEAVES
    now[0] = NOW.replace(minute=1, second=1)
    gates.reconcile()

    assert told(scene) == LEAVES.replace("12:05", "12:06")


def test_that_a_pod_hangs_and_no_longer_is_told_at_once(scene: Scene) -> None:
    """Seen: for a minute it named a finalizer of a pod that was gone, and nobody found it."""
    at_work(scene)
    scene.add("w", gpus=8, on="n1", gated=False)
    scene.pod("w")["metadata"]["deletionTimestamp"] = "2026-05-01T12:05:00Z"
    scene.look()
    now = [NOW]
    gates = gates_of(scene, now)
    gates.reconcile()
    gates.reconcile()
    before = told(scene)
    late = {"deletionTimestamp": "2026-05-01T11:59:00Z", "finalizers": ["a.io/x"]}
    scene.pod("v")["metadata"].update(late)
    scene.look()
    now[0] = NOW.replace(second=10)
    gates.reconcile()
    hangs = told(scene)
    del scene.kube.objects[pod_path(key("v"))]
    scene.look()
    now[0] = NOW.replace(second=20)
    gates.reconcile()

    assert "by 12:05:00 UTC at most" in before
    assert "on which ns/v has hung since 11:59:00 UTC: finalizer a.io/x" in hangs
    assert told(scene) == LEAVES.replace("ns/v", "ns/w")


def test_who_is_released_meanwhile_says_where_it_goes(scene: Scene) -> None:
    """It would go on saying that it waits, on its node."""
    at_work(scene)
    gates = gates_of(scene, [NOW])
    gates.reconcile()
    seen = dict(scene.pod("a")["metadata"])
    del scene.kube.objects[pod_path(key("v"))]
    scene.look()
    released = scene.pod("a")["metadata"]

    assert released["resourceVersion"] != seen["resourceVersion"]
    gates.reconcile()

    assert told(scene) == "plan-00001 places it on n1"


@pytest.mark.parametrize("status", [403, 500])
def test_one_that_cannot_be_told_keeps_nobody_else_from_it(scene: Scene, status: int) -> None:
    """What else the pass is for comes after it."""
    at_work(scene)
    scene.kube.refusals[pod_path(key("a"))] = (status, "no")
    gates = gates_of(scene, [NOW])

    gates.reconcile()

    assert gates.reconcile() > 0


@pytest.mark.parametrize("status", [403, 409, 500])
def test_one_that_could_not_be_told_is_told_a_minute_later(scene: Scene, status: int) -> None:
    """It counted as told: nothing on the pod said a word of its place until that changed."""
    at_work(scene)
    now = [NOW]
    gates = gates_of(scene, now)
    gates.reconcile()
    scene.kube.refusals[pod_path(key("a"))] = (status, "not now")
    for second in (0, 30, 59):
        now[0] = NOW.replace(second=second)
        gates.reconcile()
    assert len(tellings(scene)) == 1, "nor is it tried in each pass"
    scene.kube.refusals = {}
    now[0] = NOW.replace(minute=1)

    gates.reconcile()

    assert told(scene) == LEAVES


def test_few_are_told_in_a_pass_and_all_in_the_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan of thousands that wait would have all of them written while others are released."""
    monkeypatch.setattr(module, "_MOST", 2)
    waiting = ["a", "b", "c", "d", "e"]
    scene.add("v", gpus=8, on="n1", gated=False)
    for name in waiting:
        scene.add(name, gpus=1)
    scene.publish(*(bind(name, "n1") for name in waiting), evict("v", "n1"))
    scene.look()
    gates = gates_of(scene, [NOW])
    gates.reconcile()

    written = []
    for _ in range(4):
        gates.reconcile()
        written.append(len(tellings(scene)))

    assert written == [2, 4, 5, 5]
    assert len({*tellings(scene)}) == 5


def test_the_next_plan_has_the_last_word(scene: Scene) -> None:
    """A place that was promised by a plan that failed is no place."""
    at_work(scene)
    gates = gates_of(scene, [NOW])
    gates.reconcile()
    gates.reconcile()
    scene.publish(hold("a"), sequence=2)
    scene.look()
    gates.reconcile()

    assert told(scene).startswith("NodeTooSmall: ")
