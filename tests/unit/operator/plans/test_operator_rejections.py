"""A pod of no gang that kube-scheduler or a kubelet refuses is remembered by its owner."""

from datetime import timedelta

import pytest
from kubernetes.client.exceptions import ApiException

from bayplan.cluster.keys import Owner
from bayplan_operator.cluster.kube import node_path, plan_path, pod_path
from bayplan_operator.plans.rejections import Rejections
from tests.fake_kube import FakeKube, Raw, error
from tests.scenes import execution
from tests.scenes.execution import NOW, Scene, bind, gates_of, key, raw_pod, unschedulable

scene = execution.scene

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


def told_of(scene: Scene, plan: str = "plan-00001") -> list[Raw]:
    """Return who was refused, as a plan says."""
    status: Raw = scene.kube.objects[plan_path(plan)]["status"]
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
    rejections = Rejections(FakeKube(), now=lambda: NOW)

    assert not rejections.see(failed(**status))
    assert not [*rejections.take()]


def test_an_operator_whose_clock_is_ahead_hears_of_refusals() -> None:
    """All of them looked old, and pods were made anew on the same node without a pause."""
    kube = FakeKube()
    kube.ahead_s = 120.0

    assert Rejections(kube, now=lambda: NOW + timedelta(seconds=120)).see(failed())


def test_a_node_whose_clock_is_ahead_is_heard_of() -> None:
    """It refused pods as fast as their controller made them."""
    rejections = Rejections(FakeKube(), now=lambda: NOW)

    assert rejections.see(failed(startTime="2026-05-01T12:10:00Z"))


def test_who_was_refused_is_remembered_once_the_api_server_answers_again(scene: Scene) -> None:
    """One that failed at that moment had all of them forgotten."""
    scene.publish(bind("w", "n2"))
    assert scene.plans.newest()
    gates = gates_of(scene, [NOW])
    for name in ("a", "b"):
        raw = failed(name)["object"]
        raw["metadata"]["uid"] = f"uid-{name}"
        raw["metadata"]["ownerReferences"][0] |= {"name": name, "uid": f"uid-of-{name}"}
        gates.rejections.see({"object": raw})
    get = scene.kube.get

    def fails(path: str) -> Raw | None:
        if path == node_path("n1"):
            raise error(0, "no answer")
        return get(path)

    scene.kube.get = fails  # type: ignore[method-assign]
    with pytest.raises(ApiException):
        gates.reconcile()
    scene.kube.get = get  # type: ignore[method-assign]

    gates.reconcile()

    assert [told["owner"]["name"] for told in told_of(scene)] == ["b"]


def refuse(scene: Scene, *, sequence: int = 1, **more: object) -> None:
    """Have kube-scheduler refuse the pod `a` of the ReplicaSet `web` where a plan has pinned it."""
    scene.add("a")
    scene.pod("a")["spec"] |= more
    scene.publish(bind("a", "n1"), sequence=sequence)
    scene.look()
    scene.kube.add(pod_path(key("a")), {**scene.pod("a"), "status": unschedulable("no such disk")})


def is_replaced(scene: Scene, *, after_s: float) -> bool:
    """Return whether it is after so many seconds, and not one before."""
    now = [NOW]
    gates = gates_of(scene, now)
    for seconds in (0.0, after_s - 1):
        now[0] = NOW + timedelta(seconds=seconds)
        gates.reconcile()
        assert not scene.leaves("a")
    now[0] = NOW + timedelta(seconds=after_s)
    gates.reconcile()
    return scene.leaves("a")


def test_a_pin_that_the_scheduler_refuses_is_not_tried_there_again_at_once(scene: Scene) -> None:
    """It was replaced after two and a half minutes, and pinned to the same node, for ever."""
    refuse(scene)

    assert is_replaced(scene, after_s=30)

    (told,) = told_of(scene)
    assert (told["by"], told["owner"]["uid"]) == ("kube-scheduler", "uid-web")
    assert "again from 12:01:30 UTC" in scene.told.notes[-1]


CLAIM: Raw = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}]}
APART = {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "kubernetes.io/hostname"}


@pytest.mark.parametrize(
    "asks",
    [
        pytest.param(CLAIM, id="a volume is made"),
        pytest.param(
            {
                "affinity": {
                    "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [APART]}
                }
            },
            id="a pod that is not wanted beside it leaves",
        ),
        pytest.param({"resourceClaims": [{"name": "nic"}]}, id="a device is told of"),
    ],
)
def test_what_passes_while_the_plan_waits_is_waited_for(scene: Scene, asks: Raw) -> None:
    """A pod would be made anew, and kept from its node, for what is over a minute later."""
    refuse(scene, **asks)

    assert is_replaced(scene, after_s=150)


def test_a_pod_that_is_refused_where_no_room_is_left_is_no_riddle(scene: Scene) -> None:
    """kube-scheduler refuses it, too: its owner's pods were kept from that node for a minute."""
    refuse(scene)
    scene.kube.add(pod_path(key("x")), raw_pod("x", gpus=8, on="n1"))

    assert is_replaced(scene, after_s=30)

    assert not told_of(scene)
    assert "others took its room on n1" in scene.told.notes[-1]


def test_a_pod_that_is_refused_again_waits_longer_however_late_that_is_known(
    scene: Scene,
) -> None:
    """The first refusal was forgotten before the next was known: each one counted as the first."""
    refuse(scene, **CLAIM)
    assert is_replaced(scene, after_s=150)
    del scene.kube.objects[pod_path(key("a"))]
    refuse(scene, sequence=2, **CLAIM)
    now = [NOW + timedelta(seconds=215)]
    gates = gates_of(scene, now)
    gates.reconcile()
    now[0] += timedelta(seconds=150)

    gates.reconcile()

    (told,) = told_of(scene, "plan-00002")
    assert told["times"] == 2


def leaving(name: str) -> Raw:
    """Return a pod that leaves the node n1."""
    raw = raw_pod(name, gpus=1, on="n1")
    raw["metadata"]["deletionTimestamp"] = "2026-05-01T12:02:00Z"
    return raw


def test_a_pod_that_is_refused_waits_for_who_leaves_its_node(scene: Scene) -> None:
    """What that one holds, or does not want beside it, passes: it was made anew before."""
    refuse(scene)
    scene.kube.add(pod_path(key("x")), leaving("x"))

    assert is_replaced(scene, after_s=150)


def crowded() -> Raw:
    """Return a pod that leaves no room on the node n1."""
    return raw_pod("x", gpus=8, on="n1")


@pytest.mark.parametrize(
    "other", [pytest.param(leaving("x"), id="who leaves"), pytest.param(crowded(), id="who comes")]
)
def test_a_pod_is_not_refused_for_ever_on_a_node_of_many_short_jobs(
    scene: Scene, other: Raw
) -> None:
    """With each of them its time began anew."""
    refuse(scene)
    now = [NOW]
    gates = gates_of(scene, now)
    for seconds in range(0, 151, 10):
        scene.kube.objects.pop(pod_path(key("x")), None)
        if seconds % 20 == 0:
            scene.kube.add(pod_path(key("x")), dict(other))
        assert not scene.leaves("a")
        now[0] = NOW + timedelta(seconds=seconds)
        gates.reconcile()

    assert scene.leaves("a")


@pytest.mark.parametrize("kind", ["Job", "PyTorchJob"])
def test_a_pod_whose_owner_may_count_it_as_failed_is_given_more_time(
    scene: Scene, kind: str
) -> None:
    """A Job that allows no failure was over half a minute after kube-scheduler first refused it."""
    refuse(scene)
    scene.pod("a")["metadata"]["ownerReferences"][0]["kind"] = kind

    assert is_replaced(scene, after_s=150)


def test_a_node_that_is_well_again_has_its_pods_tried_there(scene: Scene) -> None:
    """Its pod was made anew a second later, for what kube-scheduler had said of it before."""
    refuse(scene)
    shut = {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}
    node = scene.kube.objects[node_path("n1")]
    now = [NOW]
    gates = gates_of(scene, now)
    for seconds, spec in ((0, shut), (29, shut), (29, {}), (31, {})):
        scene.kube.add(node_path("n1"), {**node, "spec": spec})
        now[0] = NOW + timedelta(seconds=seconds)
        gates.reconcile()

    assert not scene.leaves("a")


def test_a_job_outlives_a_node_that_is_not_ready_for_a_minute(scene: Scene) -> None:
    """A Job that allows no failure was over when a kubelet was restarted slowly."""
    refuse(scene)
    scene.pod("a")["metadata"]["ownerReferences"][0]["kind"] = "Job"
    node = scene.kube.objects[node_path("n1")]
    ill = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    scene.kube.add(node_path("n1"), {**node, "status": {**node["status"], **ill}})

    assert is_replaced(scene, after_s=150)
