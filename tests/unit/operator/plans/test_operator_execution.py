"""Carrying out plans against an API server in memory: what is written, and what is told."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.codec import pod_of
from bayplan_operator.cluster.kube import plan_path, pod_path
from bayplan_operator.plans import actuator
from tests.fake_kube import Raw, error
from tests.scenes import execution
from tests.scenes.execution import Scene, bind, evict, key, move

scene = execution.scene


def test_a_pod_that_changed_before_its_release_is_looked_at_again_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for as long as one that the scheduler is about to bind."""
    scene.add("w")
    scene.publish(bind("w", "n1"))

    def patch(*_: object, **__: object) -> Raw:
        raise ApiException(status=409)

    with monkeypatch.context() as patched:
        patched.setattr(scene.kube, "patch", patch)
        soon_s = scene.look()
    later_s = scene.look()

    assert soon_s is not None
    assert later_s is not None
    assert soon_s < later_s


def test_a_release_is_one_patch_with_gate_pin_and_annotations(scene: Scene) -> None:
    """Two patches would leave a moment in which the pod may go anywhere."""
    scene.add("a")
    plan = scene.publish(bind("a", "n1"))

    assert scene.look()

    metadata, spec = scene.pod("a")["metadata"], scene.pod("a")["spec"]
    assert spec["schedulingGates"] == []
    assert "nodeAffinity" in spec["affinity"]
    assert metadata["annotations"] == {
        names.ANNOTATION_PLAN: plan,
        names.ANNOTATION_DECISION: "plan-00001 places it on n1",
    }
    patches = [write for write in scene.kube.writes if write.startswith("patch")]
    assert patches == [f"patch as {names.MANAGER_PODS} {pod_path(key('a'))}"]
    assert scene.told.notes == []  # the annotation says it, and the scheduler's own event


def test_the_echo_of_our_own_report_is_no_news(scene: Scene) -> None:
    """Each report would be answered with another look at every node of the plan."""
    scene.add("a")
    name = scene.publish(bind("a", "n1"))
    scene.look()
    assert scene.status(name)["phase"] == "Executing"
    assert not scene.plans.see(scene.kube.objects[plan_path(name)])

    scene.pod("a")["spec"]["nodeName"] = "n1"
    scene.look()

    assert scene.status(name)["phase"] == "Completed"
    assert scene.plans.see(scene.kube.objects[plan_path(name)])  # deployments say it, too


def test_the_echo_of_a_phase_may_come_before_the_answer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each plan would be looked at once more, for nothing, as soon as it is begun."""
    scene.add("a")
    scene.publish(bind("a", "n1"))
    news: list[bool] = []
    apply = scene.kube.apply

    def echo(path: str, body: Raw, **how: Any) -> int:  # noqa: ANN401 - as in FakeKube
        version = apply(path, body, **how)
        news.append(scene.plans.see(scene.kube.objects[path.removesuffix("/status")]))
        return version

    monkeypatch.setattr(scene.kube, "apply", echo)
    scene.look()

    assert news == [False]


def test_a_plan_that_only_waits_for_the_scheduler_is_looked_at_seldom(scene: Scene) -> None:
    """A look reads every node; room that others leave free is seen in no other way."""
    scene.add("a")
    scene.publish(bind("a", "n1"))
    binding_s = scene.look()
    scene.add("v", gpus=8, on="n2")
    scene.add("b")
    scene.publish(bind("b", "n2"), evict("v", "n2"), sequence=2)

    evicting_s = scene.look()

    assert binding_s is not None
    assert evicting_s is not None
    assert evicting_s < binding_s


def test_a_release_says_which_gpu_a_share_gets(scene: Scene) -> None:
    """Whoever gives pods their GPUs reads it there, and the next plan as well."""
    scene.add("a", gpus=0)
    annotated = scene.pod("a")
    annotated["metadata"]["annotations"] = {names.ANNOTATION_GPU_SHARE: "0.5"}
    scene.publish(replace(bind("a", "n1"), device=3))

    scene.look()

    released = pod_of(scene.pod("a"))
    assert released is not None
    assert (released.node, released.requests.device) == ("n1", 3)


def test_the_whole_status_of_a_plan_at_work(scene: Scene) -> None:
    """What `kubectl get pplan -o yaml` shows."""
    scene.add("a")
    scene.add("v", gpus=8, on="n1")
    scene.publish(bind("a", "n1"), evict("v", "n1"))

    scene.look()

    assert scene.status("plan-00001") == {
        "phase": "Executing",
        "message": "0 of 2 steps done: ns/v is asked to leave n1",
        "done": 0,
        "total": 2,
        "startedAt": "2026-05-01T12:00:00Z",
        "steps": [
            {
                "pod": "ns/v",
                "type": "Evict",
                "state": "Waiting",
                "message": "is asked to leave n1",
            },
            {
                "pod": "ns/a",
                "type": "Bind",
                "state": "Waiting",
                "message": "waits for room on n1, which ns/v is to leave first",
            },
        ],
    }
    assert scene.told.notes == ["Pod v Evicted: plan-00001: it makes room for ns/a"]


def test_a_move_leads_to_its_own_event(scene: Scene) -> None:
    """Moved is not lost."""
    scene.add("v", on="n1")
    made = move("v")
    scene.publish(made)

    scene.look()

    assert scene.told.notes == [
        (
            "Pod v Moved: plan-00001: it makes room for a better packing, and its replacement is"
            " planned on n2"
        )
    ]


def test_a_status_that_has_not_changed_is_not_written(scene: Scene) -> None:
    """Each write wakes every watcher of plans."""
    scene.add("a")
    scene.add("v", gpus=8, on="n1")
    scene.publish(bind("a", "n1"), evict("v", "n1"))
    scene.look()
    scene.look()
    before = list(scene.kube.writes)

    scene.look()

    assert scene.kube.writes == before


def test_older_plans_that_are_not_finished_are_superseded(scene: Scene) -> None:
    """Even those of a time when no operator ran."""
    scene.add("a")
    scene.publish(bind("a", "n1"), sequence=1)
    scene.publish(sequence=2)

    scene.look()

    assert scene.status("plan-00001") == {
        "phase": "Superseded",
        "message": "plan-00002 took over",
        "finishedAt": "2026-05-01T12:00:00Z",
    }
    assert scene.status("plan-00002")["phase"] == "Completed"
    assert scene.pod("a")["spec"]["schedulingGates"]


def test_a_plan_that_is_superseded_says_what_of_it_goes_on(scene: Scene) -> None:
    """Seen: plans with "done: 0" by which every pod had got its node."""
    scene.add("a")
    plan = scene.publish(bind("a", "n1"), sequence=1)
    scene.look()
    scene.publish(sequence=2)

    scene.look()

    told = scene.status(plan)["message"]
    assert told == "plan-00002 took over; released to their nodes and not seen there yet: 1"


def test_a_finished_plan_needs_no_look(scene: Scene) -> None:
    """Nothing polls once everything is done."""
    scene.publish()

    assert scene.look()
    assert scene.look() is None


def test_a_plan_that_is_overtaken_while_it_is_carried_out_gives_nothing_more_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last pods would take the room that the newer plan has given to others."""
    monkeypatch.setattr(actuator, "_BATCH", 1)
    for name in ("a", "b"):
        scene.add(name)
    scene.publish(bind("a", "n1"), bind("b", "n2"), sequence=1)
    patch = scene.kube.patch

    def overtake(path: str, body: Raw, *, manager: str, rehearse: bool) -> None:
        scene.publish(bind("b", "n1"), sequence=2)
        patch(path, body, manager=manager, rehearse=rehearse)

    monkeypatch.setattr(scene.kube, "patch", overtake)
    scene.look()

    assert not scene.pod("a")["spec"]["schedulingGates"]
    assert scene.pod("b")["spec"]["schedulingGates"]


def test_nobody_leaves_for_a_plan_that_is_overtaken_while_it_is_carried_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer plan may want the victim where it is."""
    scene.add("a", gpus=8)
    scene.add("v", gpus=8, on="n1")
    scene.publish(bind("a", "n1"), evict("v", "n1"), sequence=1)
    patch = scene.kube.patch

    def overtake(path: str, body: Raw, *, manager: str, rehearse: bool) -> None:
        assert rehearse, "whether the newcomer may come is asked first"
        scene.publish(bind("a", "n2"), sequence=2)
        patch(path, body, manager=manager, rehearse=rehearse)

    monkeypatch.setattr(scene.kube, "patch", overtake)
    scene.look()

    assert not [write for write in scene.kube.writes if "eviction" in write]


def test_when_a_plan_ended_is_told_once(scene: Scene) -> None:
    """Who was refused is left out of plans for a while from then on."""
    scene.add("a", on="n1")
    name = scene.publish(bind("a", "n1"))

    scene.look()

    status = scene.status(name)
    assert (status["phase"], status["finishedAt"]) == ("Completed", "2026-05-01T12:00:00Z")


def test_what_is_done_is_counted(scene: Scene) -> None:
    """Whoever watches a fleet sees by figures that pods are sent away, and plans given up."""
    scene.add("a")
    scene.add("v", gpus=8, on="n1")
    scene.publish(bind("a", "n1"), evict("v", "n1"), sequence=1)
    scene.look()
    scene.publish(bind("a", "n2"), sequence=2)
    scene.look()
    scene.pod("a")["spec"]["nodeName"] = "n2"
    scene.look()

    figure = scene.metrics.registry.get_sample_value
    assert figure("bayplan_plan_steps_total", {"type": "evict", "result": "done"}) == 1
    assert figure("bayplan_plan_steps_total", {"type": "release", "result": "done"}) == 1
    assert figure("bayplan_victims_total", {"fate": "evicted"}) == 1
    assert figure("bayplan_plans_ended_total", {"phase": "Superseded"}) == 1
    assert figure("bayplan_plans_ended_total", {"phase": "Completed"}) == 1
    assert figure("bayplan_plans_ended_total", {"phase": "Executing"}) is None
    assert figure("bayplan_plan_execution_seconds_count") == 1


def test_a_step_that_meets_a_pod_that_has_changed_is_not_counted_as_done(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures would tell of releases and victims that never were."""
    scene.add("a")
    scene.publish(bind("a", "n1"))

    def overtake(*_: object, **__: object) -> None:
        raise error(409, "the object has been modified")

    with monkeypatch.context() as patched:
        patched.setattr(scene.kube, "patch", overtake)
        scene.look()
    scene.look()

    figure = scene.metrics.registry.get_sample_value
    assert figure("bayplan_plan_steps_total", {"type": "release", "result": "changed"}) == 1
    assert figure("bayplan_plan_steps_total", {"type": "release", "result": "done"}) == 1


def test_nobody_is_released_beside_a_running_pod_that_cannot_be_read(scene: Scene) -> None:
    """Its room would look free, and the newcomer be refused by the kubelet."""
    scene.add("a")
    scene.add("odd", gpus="9E", on="n1")
    scene.publish(bind("a", "n1"))

    scene.look()

    assert scene.pod("a")["spec"]["schedulingGates"]


def test_a_plan_that_cannot_be_read_is_left_alone(scene: Scene) -> None:
    """A later version may have written it."""
    spec = {"sequence": 9, "order": "FunFirst", "verdict": "Splendid"}
    scene.kube.add(plan_path("odd"), {"metadata": {"name": "odd"}, "spec": spec})
    scene.publish()

    assert scene.look()
    assert scene.status("plan-00001")["phase"] == "Completed"


def test_a_restart_goes_on_where_it_stopped(scene: Scene) -> None:
    """Everything needed is in the plan and on the pods."""
    scene.add("a")
    scene.add("b")
    scene.publish(bind("a", "n1"), bind("b", "n1"))
    scene.look()
    with ThreadPoolExecutor(2) as pool:
        again = Scene(pool)
        again.kube.objects = scene.kube.objects
        scene.pod("a")["spec"]["nodeName"] = "n1"
        scene.pod("b")["spec"]["nodeName"] = "n1"

        again.look()

    assert again.status("plan-00001")["phase"] == "Completed"
    assert again.status("plan-00001")["startedAt"] == "2026-05-01T12:00:00Z"


def test_the_newest_plan_is_never_overtaken(scene: Scene) -> None:
    """It would be marked as superseded by itself, and nobody would carry it out."""
    scene.publish(bind("a", "n1"))
    scene.publish(bind("a", "n1"), sequence=2)

    assert [entry.published.name for entry in scene.plans.overtaken()] == ["plan-00001"]
