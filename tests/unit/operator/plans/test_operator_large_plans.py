"""Carrying out plans that are in several objects."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.codec import parts, pod_of
from bayplan.steps import Report, State
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.kube import plan_path, pod_path
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.execution import Execution
from bayplan_operator.plans.memory import Plans
from bayplan_operator.plans.statuses import told_of
from tests.scenes import execution
from tests.scenes.execution import NOW, Scene, bind, evict, hold, key

scene = execution.scene


@pytest.fixture
def small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an object take two actions."""
    monkeypatch.setattr(parts, "MAX_ACTIONS", 2)


@pytest.mark.usefixtures("small_objects")
def test_a_plan_in_several_objects_is_carried_out_as_one(scene: Scene) -> None:
    """Pods of a later part would wait for the first, or take the room it makes for others."""
    for name in ("a", "b", "c"):
        scene.add(name)
    scene.add("v", gpus=8, on="n1")
    plan = scene.publish(evict("v", "n1"), bind("a", "n1"), bind("b", "n1"), bind("c", "n2"))

    scene.look()

    assert not scene.pod("c")["spec"]["schedulingGates"]
    assert [scene.pod(name)["spec"]["schedulingGates"] != [] for name in "ab"] == [True, True]
    first, second = scene.status(plan), scene.status(f"{plan}-part-2")
    assert (first["message"], first["done"], first["total"]) == (
        "0 of 4 steps done: ns/v is asked to leave n1",
        0,
        2,
    )
    assert [step["pod"] for step in first["steps"]] == ["ns/v", "ns/a"]
    assert (second["phase"], second["message"], second["total"]) == (
        "Executing",
        "plan-00001 tells how far the plan is",
        2,
    )
    assert [step["pod"] for step in second["steps"]] == ["ns/b", "ns/c"]


@pytest.mark.usefixtures("small_objects")
def test_a_part_whose_steps_stand_still_is_not_written(scene: Scene) -> None:
    """Each write of a large object is a megabyte that everybody reads."""
    for name in ("a", "b", "c"):
        scene.add(name)
    scene.add("v", gpus=8, on="n2")
    plan = scene.publish(bind("a", "n1"), bind("b", "n1"), bind("c", "n2"), evict("v", "n2"))
    scene.look()
    scene.look()
    scene.kube.writes.clear()
    raw = scene.pod("b")
    scene.kube.add(pod_path(key("b")), {**raw, "spec": {**raw["spec"], "nodeName": "n1"}})

    scene.look()

    written = [write for write in scene.kube.writes if "packingplans" in write]
    assert written == [
        f"apply as {names.MANAGER_STEPS} {plan_path(f'{plan}-part-2')}/status",
        f"apply as {names.MANAGER_STEPS} {plan_path(plan)}/status",
    ]


@pytest.mark.usefixtures("small_objects")
def test_an_operator_that_dies_between_two_objects_goes_on_with_the_plan(scene: Scene) -> None:
    """The plan would stay at work for ever, with its room held."""
    for name in ("a", "b", "c"):
        scene.add(name, on="n1", gpus=1)
    plan = scene.publish(bind("a", "n1"), bind("b", "n1"), bind("c", "n1"))
    scene.kube.refusals[f"{plan_path(plan)}/status"] = (503, "unavailable")
    with pytest.raises(ApiException):
        scene.look()
    assert scene.status(f"{plan}-part-2")["phase"] == "Completed"
    assert scene.plans.newest().open  # type: ignore[union-attr]
    scene.kube.refusals.clear()

    with ThreadPoolExecutor(2) as pool:
        plans = Plans(scene.kube)
        other = Execution(
            *(scene.kube, plans, scene.told, Metrics()),
            claims=Claims(),
            pool=pool,
            now=lambda: NOW,
        )
        other.reconcile()

    assert scene.status(plan)["phase"] == "Completed"


@pytest.mark.usefixtures("small_objects")
def test_a_newer_plan_replaces_all_parts_of_the_older_and_only_when_it_is_whole(
    scene: Scene,
) -> None:
    """Two plans would be carried out at once, or none while the newer one is being written."""
    for name in ("a", "b", "c"):
        scene.add(name, gpus=1)
    older = scene.publish(bind("a", "n1"), bind("b", "n1"), bind("c", "n1"), sequence=1)
    newer = scene.publish(bind("a", "n2"), bind("b", "n2"), bind("c", "n2"), sequence=2)
    last = scene.kube.objects.pop(plan_path(f"{newer}-part-2"))
    scene.plans.forget(f"{newer}-part-2", f"uid-{newer}-part-2")
    assert scene.plans.newest().published.name == older  # type: ignore[union-attr]
    assert scene.plans.overtaken() == ()

    scene.plans.see(scene.kube.add(plan_path(f"{newer}-part-2"), last))
    scene.look()

    phases = [scene.status(name)["phase"] for name in (older, f"{older}-part-2", newer)]
    assert phases == ["Superseded", "Superseded", "Executing"]
    pinned = [pod_of(scene.pod(name)) for name in ("a", "b", "c")]
    assert [each.node for each in pinned if each is not None] == ["n2", "n2", "n2"]


@pytest.mark.usefixtures("small_objects")
def test_every_held_pod_of_a_large_plan_is_told_why(scene: Scene) -> None:
    """Nobody would learn why it waits beyond the first object."""
    for name in "abcde":
        scene.add(name, gpus=16)
    scene.publish(*(hold(name) for name in "abcde"))

    scene.look()
    scene.look()

    told = [scene.pod(name)["metadata"]["annotations"] for name in "abcde"]
    assert all("needs 16 GPUs" in each[names.ANNOTATION_DECISION] for each in told)


@pytest.mark.usefixtures("small_objects")
def test_only_whole_plans_keep_gates_from_being_lifted(scene: Scene) -> None:
    """After a planner died while it wrote a plan, its pods would wait for ever."""
    plan = scene.publish(bind("a", "n1"), bind("b", "n1"), bind("c", "n1"))
    assert scene.plans.bound_by_open() == {"uid-a", "uid-b", "uid-c"}

    scene.plans.forget(f"{plan}-part-2", f"uid-{plan}-part-2")

    assert scene.plans.bound_by_open() == frozenset()
    assert scene.plans.newest() is None


@pytest.mark.parametrize(("steps", "most"), [(10, 1000), (500, 500), (2000, 200)])
def test_many_steps_say_less_each(steps: int, most: int) -> None:
    """A plan of which all pods are refused at length never ended: its status was too large."""
    report = Report(pod=key("a"), type="Bind", state=State.REFUSED, message="\u20ac" * 1000)

    told = told_of([report] * steps)

    lengths = {len(step["message"].encode()) for step in told}
    assert lengths == {most // 3 * 3}
