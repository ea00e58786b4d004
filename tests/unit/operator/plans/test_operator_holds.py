"""What is told on pods that wait."""

from copy import deepcopy
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from bayplan.api import names
from bayplan.plan import Hold, Reason, Rejection
from bayplan_operator.cluster import damper
from bayplan_operator.cluster.kube import POLICY, pod_path
from bayplan_operator.cluster.observation import Observation, observe
from bayplan_operator.plans import holds
from tests.scenes import execution
from tests.scenes.execution import NOW, Scene, gates_of, hold, key

scene = execution.scene


def test_held_pods_are_told_why_once(scene: Scene) -> None:
    """`kubectl describe pod` answers; the annotation is written when it is news."""
    scene.add("a", gpus=16)
    scene.publish(hold("a"), sequence=1)
    scene.look()
    scene.publish(hold("a"), sequence=2)
    scene.look()

    assert scene.pod("a")["metadata"]["annotations"] == {
        names.ANNOTATION_DECISION: (
            "NodeTooSmall: needs 16 GPUs; n1 has 8 in all; what would help: add a larger node"
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


LIFTED = "no planner has worked for 60 s: the default algorithm places it"


def lift(scene: Scene) -> None:
    """Have the gates lifted, as no planner shows itself."""
    now = [NOW]
    gates = gates_of(scene, now)
    now[0] = NOW.replace(minute=1)
    gates.reconcile()
    assert decision(scene) == LIFTED


def decision(scene: Scene) -> str:
    """Return what the held pod is told."""
    return str(scene.pod("a")["metadata"]["annotations"][names.ANNOTATION_DECISION])


def test_a_pod_whose_gate_was_lifted_is_not_told_any_more_what_holds_it(scene: Scene) -> None:
    """Seen: an operator that had just started told the last plan again, long after."""
    scene.add("a", gpus=16)
    lift(scene)
    scene.publish(hold("a"))

    scene.look()

    assert decision(scene) == LIFTED


def test_a_gate_that_is_lifted_while_a_plan_is_told_has_the_last_word(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would say for good what held it, while it runs where the scheduler put it."""
    monkeypatch.setattr(holds, "_ROUND_S", 0.0)
    scene.add("a", gpus=16)
    scene.publish(hold("a"))

    def meanwhile(*args: object) -> Observation:
        seen = observe(*args)  # type: ignore[arg-type]
        seen = replace(seen, raws=deepcopy(seen.raws))
        if scene.pod("a")["spec"]["schedulingGates"]:
            lift(scene)
        return seen

    monkeypatch.setattr(holds, "observe", meanwhile)
    scene.look()
    scene.look()

    assert decision(scene) == LIFTED


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
    """It would wait for ever, and only a log would know why; once, for each pass sees it again."""
    scene.add("a")
    scene.pod("a")["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "many"}}
    gates = gates_of(scene, [NOW])

    with capture_logs() as logged:
        gates.reconcile()
        gates.reconcile()

    (note,) = scene.told.notes
    assert note.startswith("Pod a Unreadable: cannot be planned, correct it: spec.containers[0]")
    (entry,) = logged
    assert (entry["event"], entry["pod"]) == ("pod_unreadable", str(key("a")))
    assert "spec.containers[0]" in entry["problem"]


def test_a_held_pod_gets_one_event_for_each_kind_of_reason(scene: Scene) -> None:
    """`kubectl describe` shows events; one for every plan would bury all others."""
    scene.add("a")
    for sequence in (1, 2):
        scene.publish(hold("a"), sequence=sequence)
        scene.look()

    assert len([note for note in scene.told.notes if note.startswith("Pod a")]) == 1


def test_a_long_reason_is_cut_before_what_would_help(scene: Scene) -> None:
    """Seen: `kubectl describe pod` showed what is short, and of what to do not one word."""
    scene.add("a", gpus=16)
    why = Rejection(reason=Reason.TOO_SMALL, message="n1 has 8 GPUs in all, " * 60)
    remedy = "add a larger node, " * 20 + "or ask for less"
    scene.publish(replace(hold("a"), rejection=why, remedy=remedy))
    scene.look()

    (note,) = scene.told.notes
    told = scene.pod("a")["metadata"]["annotations"][names.ANNOTATION_DECISION]
    assert told.endswith(f" ...; what would help: {remedy}")
    assert note == f"Pod a {told}"
    assert len(told.removeprefix("NodeTooSmall: ")) == 1000


def test_a_gang_that_is_still_being_made_is_no_warning(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: each InferenceDeployment began with warnings to create pods that were on their way."""
    monkeypatch.setattr(holds, "_ROUND_S", 0.0)
    rejection = Rejection(reason=Reason.GANG_INCOMPLETE, message="1 of 2 pods exist")
    incomplete = replace(hold("a"), rejection=rejection, remedy="create the 1 missing pod")
    scene.add("a")
    scene.publish(incomplete)

    scene.look()
    early = list(scene.told.notes)
    scene.look()

    assert early == []
    assert scene.told.notes == [
        "Pod a GangIncomplete: 1 of 2 pods exist; what would help: create the 1 missing pod"
    ]


def changing(number: int, reason: Reason = Reason.TOO_SMALL) -> Hold:
    """Return a hold whose numbers are others in each plan."""
    return replace(hold("a"), rejection=Rejection(reason=reason, message=f"{number} GPUs short"))


@pytest.mark.parametrize(
    ("reasons", "refusal"),
    [
        pytest.param((Reason.TOO_SMALL, Reason.OUTRANKED), None, id="two reasons take turns"),
        pytest.param((Reason.TOO_SMALL,), None, id="its figures change"),
        pytest.param((Reason.TOO_SMALL,), (422, "Too long"), id="it takes no annotation"),
    ],
)
def test_a_pod_that_waits_for_hours_is_not_flooded_with_events(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    reasons: tuple[Reason, ...],
    refusal: tuple[int, str] | None,
) -> None:
    """Each plan, of which there may be one every few seconds, brought one for each waiting pod."""
    monkeypatch.setattr(holds, "_ROUND_S", 0.0)
    scene.add("a")
    if refusal is not None:
        scene.kube.refusals[pod_path(key("a"))] = refusal
    for number in range(10):
        scene.publish(changing(number, reasons[number % len(reasons)]), sequence=number + 1)
        scene.look()
    assert len(scene.told.notes) == len(reasons)

    monkeypatch.setattr(damper, "AGAIN_S", 0.0)
    scene.publish(changing(10, reasons[0]), sequence=11)
    scene.look()

    assert len(scene.told.notes) == len(reasons) + 1, "nor do the first figures stand for ever"
    assert "10 GPUs short" in scene.told.notes[-1]
