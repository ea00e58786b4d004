"""A pod of no gang that kube-scheduler or a kubelet refuses is remembered by its owner."""

from datetime import timedelta

import pytest

from bayplan.cluster.keys import Owner
from bayplan_operator.cluster.kube import plan_path, pod_path
from bayplan_operator.plans.rejections import Rejections
from tests import execution_scene
from tests.execution_scene import NOW, Scene, bind, gates_of, key, raw_pod
from tests.fake_kube import Raw

scene = execution_scene.scene

#: A pod that its kubelet would not start.
REFUSED: Raw = {
    "phase": "Failed",
    "reason": "UnexpectedAdmissionError",
    "message": "no device",
    "startTime": "2026-05-01T12:00:00Z",
}


def failed(name: str = "a", **status: object) -> Raw:
    """Return the event of a pod of the ReplicaSet `web` that its kubelet has refused."""
    return {"type": "MODIFIED", "object": {**raw_pod(name, on="n1"), "status": REFUSED | status}}


def told_of(scene: Scene) -> list[Raw]:
    """Return who was refused, as the plan says."""
    status: Raw = scene.kube.objects[plan_path("plan-00001")]["status"]
    told: list[Raw] = status.get("recalled", [])
    return told


def test_a_pod_that_a_kubelet_refuses_is_remembered_by_its_owner(scene: Scene) -> None:
    """Its owner made another one at once, for which the next plan chose the same node."""
    scene.add("w")
    scene.publish(bind("w", "n2"))
    scene.look()
    gates = gates_of(scene, [NOW])

    assert gates.rejections.see(failed())
    gates.reconcile()

    (told,) = told_of(scene)
    assert told["owner"]["name"] == "web"
    assert (told["by"], told["pod"], told["times"]) == ("kubelet", "a", 1)
    assert told["message"] == "UnexpectedAdmissionError: no device"
    assert [node["name"] for node in told["nodes"]] == ["n1"]
    (group,) = scene.plans.recalled(now=NOW.timestamp())
    assert isinstance(group, Owner)

    gates.rejections.see(failed("b"))
    gates.reconcile()
    assert told_of(scene) == [told]


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"phase": "Running"}, id="it runs"),
        pytest.param({"reason": ""}, id="it ended by itself"),
        pytest.param({"startTime": "2026-05-01T11:00:00Z"}, id="long ago"),
        pytest.param({"containerStatuses": [{"containerID": "c"}]}, id="it was evicted"),
    ],
)
def test_who_failed_otherwise_is_no_matter_of_the_node(status: Raw) -> None:
    """A program with a mistake in it would keep its node from others."""
    rejections = Rejections(now=lambda: NOW)

    assert not rejections.see(failed(**status))
    assert not rejections.take()


def test_a_pin_that_the_scheduler_refused_is_not_tried_there_again_at_once(scene: Scene) -> None:
    """It was replaced, pinned to the same node, and replaced two minutes later, for ever."""
    scene.add("a")
    scene.publish(bind("a", "n1"))
    scene.look()
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    status = {"conditions": [{**refused, "message": "no such volume"}]}
    scene.kube.add(pod_path(key("a")), {**scene.pod("a"), "status": status})
    now = [NOW]
    gates = gates_of(scene, now)
    gates.reconcile()
    assert not told_of(scene)
    now[0] = NOW + timedelta(seconds=150)

    gates.reconcile()

    assert "deletionTimestamp" in scene.pod("a")["metadata"]
    (told,) = told_of(scene)
    assert (told["by"], told["owner"]["uid"]) == ("kube-scheduler", "uid-web")
    assert "again from 12:03:30 UTC" in scene.told.notes[-1]
