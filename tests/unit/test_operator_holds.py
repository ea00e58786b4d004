"""What is told on pods that wait."""

import pytest

from bayplan.api import names
from bayplan_operator.cluster.kube import POLICY, pod_path
from bayplan_operator.plans import holds
from tests import execution_scene
from tests.execution_scene import NOW, Scene, gates_of, hold, key

scene = execution_scene.scene


def test_held_pods_are_told_why_once(scene: Scene) -> None:
    """`kubectl describe pod` answers; the annotation is written when it is news."""
    scene.add("a", gpus=16)
    scene.publish(hold("a"), sequence=1)
    scene.look()
    scene.publish(hold("a"), sequence=2)
    scene.look()

    assert scene.pod("a")["metadata"]["annotations"] == {
        names.ANNOTATION_DECISION: (
            "NodeTooSmall: needs 16 GPUs; n1 has 8 in all; add a larger node"
        )
    }
    merges = [write for write in scene.kube.writes if write.startswith("merge")]
    assert len(merges) == 1


@pytest.mark.parametrize(
    ("status", "tries"),
    [
        pytest.param(422, 1, id="its annotations are full"),
        pytest.param(403, 1, id="an admission policy says no"),
        pytest.param(500, 2, id="an admission webhook does not answer"),
    ],
)
def test_a_pod_that_cannot_be_told_keeps_nobody_else_from_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, status: int, tries: int
) -> None:
    """Seen: every pass over the plan ended in an error."""
    monkeypatch.setattr(holds, "_ROUND_S", 0.0)
    scene.add("a", gpus=16)
    scene.add("b", gpus=16)
    scene.kube.refusals[pod_path(key("a"))] = (status, "no")
    scene.publish(hold("a"), hold("b"))

    scene.look()
    scene.look()

    assert names.ANNOTATION_DECISION in scene.pod("b")["metadata"]["annotations"]
    written = [write for write in scene.kube.writes if write.startswith("merge")]
    assert len([write for write in written if pod_path(key("a")) in write]) == tries
    assert len([write for write in written if pod_path(key("b")) in write]) == 1


def test_a_pod_that_does_not_fit_is_shown_to_autoscalers_where_the_policy_says_so(
    scene: Scene,
) -> None:
    """They overlook pods behind gates, so no node would ever be bought."""
    scene.kube.add(
        POLICY, {"metadata": {"name": "default"}, "spec": {"nodeProvisioning": "WhenInfeasible"}}
    )
    scene.add("a")
    scene.publish(hold("a"), sequence=1)
    scene.look()

    pod = scene.pod("a")
    assert pod["spec"]["schedulingGates"] == []
    assert pod["metadata"]["annotations"][names.ANNOTATION_HOME] == ""
    assert any("Offered" in note for note in scene.told.notes)


def test_a_pod_that_cannot_be_read_is_told_so(scene: Scene) -> None:
    """It would wait for ever, and only a log would know why."""
    scene.add("a")
    scene.pod("a")["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "many"}}
    gates = gates_of(scene, [NOW])

    gates.reconcile()
    gates.reconcile()

    (note,) = scene.told.notes
    assert note.startswith("Pod a Unreadable: cannot be planned, correct it: spec.containers[0]")


def test_a_held_pod_gets_one_event_for_each_kind_of_reason(scene: Scene) -> None:
    """`kubectl describe` shows events; one for every plan would bury all others."""
    scene.add("a")
    for sequence in (1, 2):
        scene.publish(hold("a"), sequence=sequence)
        scene.look()

    assert len([note for note in scene.told.notes if note.startswith("Pod a")]) == 1
