"""InferenceDeployments against an API server that refuses, or fails."""

from datetime import timedelta

import pytest
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan.codec import plan_manifest
from bayplan.plan import Certificate, Hold, Plan, Reason, Rejection, Result, Verdict
from bayplan.policy import Order
from bayplan_operator.cluster.kube import plan_path, pod_path
from tests.scenes import deployments
from tests.scenes.deployments import Scene, asked, run

scene = deployments.scene


def test_a_quota_is_told_and_tried_again(scene: Scene) -> None:
    """The rest of the pods is made all the same."""
    full = "pods is forbidden: exceeded quota: team"
    path = pod_path(PodKey(namespace="ns", name="chat-1-aggregated-0"))
    scene.kube.refusals[path] = (403, full)

    again_s = scene.look()

    assert again_s is not None
    assert scene.pods() == ["chat-0-aggregated-0"]
    degraded = next(c for c in scene.status()["conditions"] if c["type"] == "Degraded")
    assert degraded["message"] == (
        f"the API server refuses chat-1-aggregated-0: {full}; correct the template of pool"
        " aggregated, or what forbids it"
    )


def test_a_missing_priority_class_is_not_blamed_on_the_template(scene: Scene) -> None:
    """Seen: somebody would look for it in a template that does not name it."""
    missing = 'pods "a" is forbidden: no PriorityClass with name missing was found'
    path = pod_path(PodKey(namespace="ns", name="chat-1-aggregated-0"))
    scene.kube.refusals[path] = (403, missing)

    scene.look()

    degraded = next(c for c in scene.status()["conditions"] if c["type"] == "Degraded")
    assert degraded["message"] == (
        f"the API server refuses chat-1-aggregated-0: {missing}; create that PriorityClass, or"
        " correct spec.priorityClassName"
    )


DOWN = "Internal error occurred: failed calling webhook: connection refused"


def aggregated(unit: int) -> str:
    """Return the path of a unit's pod."""
    return pod_path(PodKey(namespace="ns", name=f"chat-{unit}-aggregated-0"))


def test_a_pod_that_the_server_fails_to_make_holds_up_no_other_and_is_tried_less_and_less(
    scene: Scene,
) -> None:
    """A webhook that is down for one pod would end every pass, and the status would say nothing."""
    scene.apply(replicas=3)
    scene.kube.refusals[aggregated(1)] = (500, DOWN)

    waits = []
    for _ in range(6):
        wait_s = scene.look()
        assert wait_s is not None
        waits.append(wait_s)
        tries = sum(aggregated(1) in write for write in scene.kube.writes)
        scene.look()
        assert tries == sum(aggregated(1) in write for write in scene.kube.writes)
        scene.clock += timedelta(seconds=wait_s)

    assert waits == [1, 2, 4, 8, 16, 30]
    assert scene.pods() == ["chat-0-aggregated-0", "chat-2-aggregated-0"]
    degraded = next(c for c in scene.status()["conditions"] if c["type"] == "Degraded")
    assert degraded["message"] == (
        f"the API server fails to make pod chat-1-aggregated-0: {DOWN}; it is tried again"
    )
    scene.kube.refusals.clear()
    assert scene.look() is None
    assert len(scene.pods()) == 3
    assert scene.status()["reason"] != "PodsRefused"


def test_a_failure_that_is_over_soon_is_not_told(scene: Scene) -> None:
    """The condition would come and go with every hiccup of the API server."""
    scene.kube.refusals[aggregated(1)] = (503, "apiserver is shutting down")

    scene.look()

    assert scene.status()["reason"] != "PodsRefused"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_pod_that_the_server_fails_to_change_holds_up_no_other(scene: Scene, status: int) -> None:
    """Put into service, told, and deleted: each is for itself."""
    scene.look()
    run(scene)
    scene.kube.refusals[f"{aggregated(0)}/status"] = (status, DOWN)

    scene.look()

    run(scene)
    assert scene.status()["observedGeneration"] == 1
    assert scene.pod("chat-1-aggregated-0")["status"]["conditions"][0]["status"] == "True"
    scene.kube.refusals = {aggregated(0): (status, DOWN)}
    scene.apply(replicas=0, disruption={"drainTimeoutSeconds": 0})
    assert scene.look() == 1
    assert scene.pods() == ["chat-0-aggregated-0"]
    scene.kube.refusals.clear()
    scene.clock += timedelta(seconds=1)
    scene.look()
    assert scene.pods() == []


def test_without_any_answer_the_pass_ends(scene: Scene) -> None:
    """Every further call would wait for its time-out, and hold up the other deployments."""
    scene.kube.refusals[aggregated(0)] = (0, "connection refused")

    with pytest.raises(ApiException):
        scene.look()


def test_what_failed_and_is_wanted_no_more_is_forgotten(scene: Scene) -> None:
    """The condition would speak of it for ever."""
    scene.kube.refusals[aggregated(1)] = (500, DOWN)
    for _ in range(5):
        scene.clock += timedelta(seconds=30)
        scene.look()
    assert scene.status()["reason"] == "PodsRefused"

    scene.apply(replicas=1)
    scene.look()

    assert scene.status()["reason"] != "PodsRefused"
    assert scene.look() is None


def full_for_a_new_ratio(scene: Scene) -> None:
    """Have a unit of 1:4 serve that is to be 2:2, for which the plan finds no room beside it."""
    scene.apply(**asked(1, 4))
    new = "chat-0-prefill-1"
    rejection = Rejection(reason=Reason.NO_NODES, message="there are no nodes")
    hold = Hold(pod=PodKey(namespace="ns", name=new), uid=f"uid-{new}", rejection=rejection)
    certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
    made = Result(plan=Plan(certificate=certificate, holds=(hold,)), digest="d", engine="hand")
    scene.kube.add(plan_path("plan-00001"), plan_manifest(made, sequence=1))
    scene.look()
    run(scene)
    scene.look()
    run(scene)
    scene.apply(**asked(2, 2))
    scene.look()


def test_a_unit_of_which_a_pod_cannot_be_told_its_new_shape_serves_on(scene: Scene) -> None:
    """It would give up replicas and take them back again, for ever, out of service each time."""
    full_for_a_new_ratio(scene)
    stubborn = pod_path(PodKey(namespace="ns", name="chat-0-decode-1"))
    scene.kube.refusals[stubborn] = (403, "admission webhook denied: annotations are frozen")
    for _ in range(4):
        scene.clock += timedelta(seconds=10)
        scene.look()

    services = [service for service in _services(scene) if service != "Serves"]
    assert services == ["None"], "only the pod without a node is not in service"
    degraded = next(c for c in scene.status()["conditions"] if c["type"] == "Degraded")
    assert degraded["reason"] == "PodsRefused"
    assert degraded["message"] == (
        "the API server refuses changes of the annotations of pod chat-0-decode-1: admission"
        " webhook denied: annotations are frozen; let the operator change them, or delete the pod."
        " Until then unit 0 keeps its former ratio"
    )
    before = list(scene.kube.writes)
    scene.clock += timedelta(seconds=10)
    scene.look()
    done = scene.kube.writes[len(before) :]
    assert {write.partition(" ")[0] for write in done} <= {"rehearse"}

    scene.kube.refusals.clear()
    scene.clock += timedelta(seconds=10)
    scene.look()
    assert _services(scene).count("Drains") == 2
    assert scene.status()["reason"] != "PodsRefused"


def _services(scene: Scene) -> list[str]:
    """Return why each pod is in service or out of it."""
    found = []
    for name in scene.pods():
        said = scene.pod(name).get("status", {}).get("conditions", ())
        ours = [c["reason"] for c in said if c["type"] == names.CONDITION_IN_SERVICE]
        found += ours or ["None"]
    return found
