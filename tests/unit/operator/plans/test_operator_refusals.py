"""Carrying out plans against an API server that refuses some of it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bayplan import steps
from bayplan.cluster.keys import GangKey
from bayplan_operator.cluster.kube import pod_path
from bayplan_operator.plans import actuator
from tests.scenes import execution
from tests.scenes.execution import Scene, bind, evict, key, move, raw_pod

scene = execution.scene


@pytest.mark.parametrize(
    "status",
    [429, 500, 503],
    ids=["by its budget", "by having two budgets", "by a server that is overloaded"],
)
def test_a_refused_eviction_is_told_and_not_repeated_at_once(scene: Scene, status: int) -> None:
    """A PodDisruptionBudget is no reason to hammer the API server."""
    scene.add("a")
    scene.add("v", gpus=8, on="n1")
    path = f"{pod_path(key('v'))}/eviction"
    scene.kube.refusals[path] = (status, "Cannot evict pod: disruption budget")
    scene.publish(bind("a", "n1"), evict("v", "n1"))

    scene.look()
    scene.look()

    assert [w for w in scene.kube.writes if path in w] == [f"rehearse {path}"]
    assert scene.status("plan-00001")["steps"][0]["message"] == (
        "is asked to leave n1, but that is refused: Cannot evict pod: disruption budget"
    )
    assert not scene.told.notes


def test_a_refused_eviction_is_what_the_plan_tells_of(scene: Scene) -> None:
    """Seen: it told of the pod that gets the room, and only the victim's step said why it waits."""
    scene.add("a")
    scene.add("v", gpus=8, on="n1")
    refuse_evictions(scene, "v")
    scene.publish(bind("a", "n1"), move("v"))

    scene.look()

    assert scene.status("plan-00001")["message"] == (
        "0 of 2 steps done: ns/v is asked to leave n1, but that is refused: Cannot evict pod:"
        " disruption budget"
    )


def test_what_the_plan_before_was_refused_is_tried_at_once(scene: Scene) -> None:
    """A newer plan would stand still for what may have changed long ago."""
    scene.add("a")
    scene.add("v", gpus=8, on="n1")
    refuse_evictions(scene, "v")
    scene.publish(bind("a", "n1"), evict("v", "n1"))
    scene.look()
    scene.kube.refusals.clear()

    scene.publish(bind("a", "n1"), evict("v", "n1"), sequence=2)
    scene.look()

    assert scene.leaves("v")


def refuse_evictions(scene: Scene, *pods: str) -> None:
    """Have a PodDisruptionBudget keep pods."""
    for name in pods:
        path = f"{pod_path(key(name))}/eviction"
        scene.kube.refusals[path] = (429, "Cannot evict pod: disruption budget")


def test_a_moved_pod_that_is_not_made_again_is_no_progress_each_time_that_is_found() -> None:
    """A plan whose next victim may never leave would be at work for ever."""
    clock = [0.0]
    with ThreadPoolExecutor(2) as pool:
        scene = Scene(pool, lambda: clock[0])
        scene.add("a")
        scene.add("v", gpus=8, on="n1")
        refuse_evictions(scene, "v")
        gone = move("m")
        scene.publish(bind("a", "n1"), evict("v", "n1"), gone)
        scene.look()

        told = []
        while scene.status("plan-00001")["phase"] == "Executing" and clock[0] < 2 * steps.STALL_S:
            clock[0] += 10
            scene.look()
            told += [step["message"] for step in scene.status("plan-00001")["steps"]]

    assert "left, and nothing was made in its place" in told
    assert (scene.status("plan-00001")["phase"], clock[0]) == ("Failed", steps.STALL_S)


def test_a_plan_that_ends_for_what_is_refused_says_why() -> None:
    """Seen: it said that the pod which needs the room came too late, and nothing else."""
    clock = [0.0]
    with ThreadPoolExecutor(2) as pool:
        scene = Scene(pool, lambda: clock[0])
        scene.add("a", gpus=8)
        scene.add("v", gpus=8, on="n1")
        refuse_evictions(scene, "v")
        scene.publish(bind("a", "n1"), move("v"))
        scene.look()
        clock[0] = steps.STALL_S
        scene.look()

    assert scene.status("plan-00001")["message"] == (
        "stopped: ns/v does not leave n1, for that is refused: Cannot evict pod: disruption"
        " budget; a new plan follows"
    )


def test_who_leaves_at_the_last_moment_is_progress() -> None:
    """The plan would fail with half of a gang gone, which serves nobody."""
    clock, gang = [0.0], GangKey(namespace="ns", name="g")
    with ThreadPoolExecutor(2) as pool:
        scene = Scene(pool, lambda: clock[0])
        scene.add("a", gpus=8)
        scene.add("v", on="n1")
        scene.add("w", on="n1")
        refuse_evictions(scene, "v", "w")
        victims = [replace(evict(name, "n1"), gang=gang) for name in "vw"]
        scene.publish(bind("a", "n1"), *victims)
        scene.look()
        clock[0] = steps.STALL_S - 1
        scene.look()

        del scene.kube.objects[pod_path(key("v"))]
        clock[0] = steps.STALL_S
        scene.look()

    assert scene.status("plan-00001")["phase"] == "Executing"
    assert any(f"{pod_path(key('w'))}/eviction" in write for write in scene.kube.writes[-3:])


def test_nobody_goes_when_somebody_else_of_the_plan_may_not(scene: Scene) -> None:
    """Seen: one victim was lost although the other's budget kept the room from coming free."""
    scene.add("a")
    scene.add("v", gpus=4, on="n1")
    scene.add("w", gpus=4, on="n1")
    path = f"{pod_path(key('w'))}/eviction"
    scene.kube.refusals[path] = (429, "Cannot evict pod: disruption budget")
    scene.publish(bind("a", "n1"), evict("v", "n1"), evict("w", "n1"))

    scene.look()
    scene.look()

    assert not [write for write in scene.kube.writes if write.startswith("create")]
    assert not scene.leaves("v")


@pytest.mark.parametrize("status", [404, 409], ids=["the pod is gone", "it is another pod"])
def test_an_eviction_that_comes_too_late_is_fine(scene: Scene, status: int) -> None:
    """Somebody else was quicker."""
    scene.add("v", gpus=8, on="n1")
    scene.kube.refusals[f"{pod_path(key('v'))}/eviction"] = (status, "too late")
    scene.publish(evict("v", "n1"))

    assert scene.look()
    assert "refused" not in str(scene.status("plan-00001"))


def test_a_release_for_a_pod_that_has_changed_is_tried_with_fresh_data(scene: Scene) -> None:
    """The patch names the version that was read."""
    scene.add("a")
    path = pod_path(key("a"))
    scene.kube.refusals[path] = (409, "the object has been modified")
    scene.publish(bind("a", "n1"))
    scene.look()
    assert scene.pod("a")["spec"]["schedulingGates"]

    del scene.kube.refusals[path]
    scene.look()

    assert not scene.pod("a")["spec"]["schedulingGates"]


@pytest.mark.parametrize("status", [401, 422, 500, 503])
def test_a_release_that_is_refused_keeps_nobody_else_waiting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """An admission webhook that fails on one pod would stop the whole plan, without a word."""
    monkeypatch.setattr(actuator, "_BATCH", 1)
    for name in ("a", "b"):
        scene.add(name)
    scene.kube.refusals[pod_path(key("a"))] = (status, "failed calling webhook")
    plan = scene.publish(bind("a", "n1"), bind("b", "n1"))

    scene.look()

    assert not scene.pod("b")["spec"]["schedulingGates"]
    steps = {step["pod"]: step["message"] for step in scene.status(plan)["steps"]}
    assert steps["ns/a"].endswith("but that is refused: failed calling webhook")


def test_a_new_pod_of_the_name_of_a_refused_one_does_not_wait(scene: Scene) -> None:
    """A StatefulSet makes its pod anew under its name; why the one before was refused is over."""
    scene.kube.refusals[pod_path(key("web-0"))] = (422, "failed calling webhook")
    scene.add("web-0")
    moved = move("web-0", uid="uid-that-left")
    plan = scene.publish(moved)
    scene.look()
    assert scene.status(plan)["steps"][0]["message"].endswith("failed calling webhook")

    scene.kube.refusals.clear()
    scene.look()
    assert scene.pod("web-0")["spec"]["schedulingGates"], "it waits for a while"
    anew = raw_pod("web-0")
    anew["metadata"]["uid"] = "uid-anew"
    scene.kube.add(pod_path(key("web-0")), anew)
    scene.look()

    assert not scene.pod("web-0")["spec"]["schedulingGates"]
