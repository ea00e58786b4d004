"""InferenceDeployments against an API server in memory: what is written, and what is told."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from bayplan.api import names
from bayplan.cluster.keys import PodKey
from bayplan.codec import plan_manifest
from bayplan.plan import Certificate, Hold, Plan, Reason, Rejection, Result, Verdict
from bayplan.policy import Order
from bayplan_operator.cluster.kube import node_path, plan_path, pod_path
from tests.fake_kube import Raw
from tests.scenes import deployments
from tests.scenes.deployments import PATH, Scene, run

scene = deployments.scene


def test_pods_are_made_once_and_a_third_pass_writes_nothing(scene: Scene) -> None:
    """The first pass makes pods, the second sees them, the third finds nothing to say."""
    scene.look()
    scene.look()
    before = list(scene.kube.writes)

    scene.clock += timedelta(minutes=5)
    assert scene.look() is None

    assert scene.pods() == ["chat-0-aggregated-0", "chat-1-aggregated-0"]
    assert scene.kube.writes == before
    assert scene.status()["reason"] == "WaitingForPlan"


def test_writers_are_told_apart_by_field_manager(scene: Scene) -> None:
    """Each status field has one writer."""
    scene.look()

    run(scene)
    scene.look()

    managers = {write.split()[2] for write in scene.kube.writes}
    assert managers == {names.MANAGER_PODS, names.MANAGER_STATUS, names.MANAGER_SERVICE}


def test_an_unreadable_spec_leaves_the_pods_alone(scene: Scene) -> None:
    """A typing error must not stop what serves."""
    scene.look()
    scene.apply(replicas="many")

    assert scene.look() is None

    assert len(scene.pods()) == 2
    assert scene.status()["reason"] == "InvalidSpec"


def test_a_deployment_that_is_gone_or_going_needs_nothing(scene: Scene) -> None:
    """The garbage collector takes the pods."""
    scene.kube.objects[PATH]["metadata"]["deletionTimestamp"] = "2026-05-01T12:00:00Z"
    assert scene.look() is None

    del scene.kube.objects[PATH]
    assert scene.look() is None

    assert not scene.kube.writes


def test_a_pod_pinned_to_a_lost_node_is_made_again(scene: Scene) -> None:
    """Ours need no eviction: they are replaced by name."""
    scene.kube.add(node_path("n1"), {"metadata": {"name": "n1"}})
    scene.look()
    for name, node in (("chat-0-aggregated-0", "n1"), ("chat-1-aggregated-0", "n2")):
        pod = scene.pod(name)
        del pod["spec"]["schedulingGates"]
        pin = {"key": "metadata.name", "operator": "In", "values": [node]}
        terms = {"nodeSelectorTerms": [{"matchFields": [pin]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        pod["spec"]["affinity"] = {"nodeAffinity": required}
        pod["metadata"]["annotations"] = {names.ANNOTATION_PLAN: "plan-1"}

    scene.look()

    assert scene.pods() == ["chat-0-aggregated-0"]
    scene.look()
    assert scene.pod("chat-1-aggregated-0")["spec"]["schedulingGates"]
    assert scene.told.notes[-1] == "InferenceDeployment chat PodsCreated: made 1 pod, gated"


def after_the_look(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]
) -> None:
    """Let something happen as soon as the next pass has read the pods."""

    def items(path: str, **selectors: str) -> list[Raw]:
        monkeypatch.undo()
        found = scene.kube.items(path, **selectors)
        happens()
        return found

    monkeypatch.setattr(scene.kube, "items", items)


def test_who_comes_to_serve_in_the_last_moment_is_drained(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not ready when it was seen, and gets requests by the time it would be deleted."""
    scene.look()
    run(scene, starting=True)
    scene.look()
    scene.apply(replicas=1)

    after_the_look(scene, monkeypatch, lambda: run(scene))
    scene.look()

    assert scene.pods() == ["chat-0-aggregated-0", "chat-1-aggregated-0"]
    scene.look()
    conditions = scene.pod("chat-1-aggregated-0")["status"]["conditions"]
    drains = next(c for c in conditions if c["type"] == names.CONDITION_IN_SERVICE)
    assert drains["status"] == "False"


def test_a_kubelet_that_writes_meanwhile_keeps_no_pod(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided upon is so, and another pass would only repeat it."""
    scene.look()
    run(scene, starting=True)
    scene.look()
    scene.apply(replicas=1)

    after_the_look(scene, monkeypatch, lambda: run(scene, starting=True))
    scene.look()

    assert scene.pods() == ["chat-0-aggregated-0"]


def test_events_tell_what_has_changed(scene: Scene) -> None:
    """Each once, when it happens."""
    scene.kube.add(node_path("n1"), {"metadata": {"name": "n1"}})
    scene.look()
    scene.look()
    for name in scene.pods():
        scene.pod(name)["spec"]["nodeName"] = "n1"
    scene.look()
    scene.look()

    assert scene.told.notes == [
        "InferenceDeployment chat PodsCreated: made 2 pods, gated",
        "InferenceDeployment chat UnitScheduled: every pod of 2 of 2 units has a node",
    ]


def test_units_that_wait_for_hours_bring_no_flood_of_events(scene: Scene) -> None:
    """Each plan that had room for some of them, and then none, brought one more."""
    scene.look()
    pods = scene.pods()

    def look(number: int, *, held: bool) -> None:
        why = Rejection(reason=Reason.OUTRANKED, message=f"{number} GPUs short")
        holds = [
            Hold(pod=PodKey(namespace="ns", name=name), uid=f"uid-{name}", rejection=why)
            for name in pods
        ]
        plan = Plan(
            certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL),
            holds=tuple(holds) if held else (),
        )
        manifest = plan_manifest(Result(plan=plan, digest="d", engine="hand"), sequence=number)
        scene.kube.add(plan_path(f"plan-{number:05}"), manifest)
        scene.worker._plans.see(scene.kube.objects[plan_path(f"plan-{number:05}")])  # noqa: SLF001 - as the watch would
        scene.clock += timedelta(minutes=1)
        scene.look()

    for number in range(1, 9):
        look(number, held=bool(number % 2))
    assert [note for note in scene.told.notes if "UnitHeld" in note] == [
        (
            "InferenceDeployment chat UnitHeld: chat-0-aggregated-0: 1 GPUs short (1 more pod for"
            " the same reason)"
        )
    ]

    scene.clock += timedelta(minutes=10)
    look(9, held=True)
    assert sum("UnitHeld" in note for note in scene.told.notes) == 2

    for number in (10, 11):
        scene.clock += timedelta(minutes=5)
        look(number, held=True)
    last = [note for note in scene.told.notes if "UnitHeld" in note][2:]
    assert [note.split(": ")[2].split(" (")[0] for note in last] == ["11 GPUs short"]


def test_lifted_gates_are_told_in_event_and_condition(scene: Scene) -> None:
    """Fail open is visible."""
    scene.look()
    scene.gates.away_s = 60.0
    for name in scene.pods():
        del scene.pod(name)["spec"]["schedulingGates"]

    scene.look()

    assert scene.status()["reason"] == "PlannerAway"
    assert scene.told.notes[-1] == (
        "InferenceDeployment chat GatesLifted: no planner has worked for 60 s: gates were lifted"
        " and the default algorithm places the pods"
    )


def test_what_a_planner_held_that_is_gone_deletes_nothing(scene: Scene) -> None:
    """Half a unit gives its room back when a plan has none for the rest, and not without one."""
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 2}}}
    template = {"spec": {"containers": [container]}}
    pools = [{"role": role, "template": template} for role in ("Prefill", "Decode")]
    scene.apply(replicas=1, pools=pools)
    held, runs = "chat-0-decode-0", "chat-0-prefill-0"
    plan = Plan(
        certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL),
        holds=(
            Hold(
                pod=PodKey(namespace="ns", name=held),
                uid=f"uid-{held}",
                rejection=Rejection(reason=Reason.NO_NODES, message="there are no nodes"),
            ),
        ),
    )
    manifest = plan_manifest(Result(plan=plan, digest="d", engine="hand"), sequence=1)
    scene.kube.add(plan_path("plan-00001"), manifest)
    scene.kube.add(node_path("n1"), {"metadata": {"name": "n1"}})
    scene.look()
    scene.pod(runs)["spec"] |= {"nodeName": "n1", "schedulingGates": []}

    scene.gates.away_s = 60.0
    scene.look()
    assert scene.pods() == [held, runs]
    scene.gates.away_s = 0.0
    scene.look()
    assert not {held, runs} & {*scene.pods()}


def test_a_pod_that_is_refused_is_not_said_to_be_made(scene: Scene) -> None:
    """Seen: every quarter of a minute the log told of two pods that nobody ever found."""
    for name in ("chat-0-aggregated-0", "chat-1-aggregated-0"):
        path = pod_path(PodKey(namespace="ns", name=name))
        scene.kube.refusals[path] = (403, "quota exceeded")

    with capture_logs() as first:
        scene.look()
    with capture_logs() as second:
        scene.look()

    (passed,) = (entry for entry in first if entry["event"] == "deployment_reconciled")
    assert (passed["created"], passed["reason"]) == (0, "PodsRefused")
    assert [entry["event"] for entry in second] == ["pod_refused", "pod_refused"]
    assert {entry["infd"] for entry in second} == {"ns/chat"}


def test_a_deployment_that_vanishes_during_the_pass_is_no_error(scene: Scene) -> None:
    """Its status has nowhere to go."""
    scene.kube.refusals[f"{PATH}/status"] = (404, "not found")

    assert scene.look() is None
