"""Plans whose pods only have to be bound: what the watch shows of them saves looks, and no care."""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from bayplan.cluster.keys import NodeName, PodKey
from bayplan_operator.cluster.kube import plan_path, pod_path
from bayplan_operator.plans.arrivals import Arrivals
from tests.fake_kube import FakeKube, Raw
from tests.scenes.execution import Scene, bind, key


class Reads(list[str]):
    """The paths that were read since the start, or since it was cleared."""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Return what is read of nodes and pods."""
    found = Reads()
    get, items = FakeKube.get, FakeKube.items

    def noted_get(kube: FakeKube, path: str) -> Raw | None:
        found.append(path)
        return get(kube, path)

    def noted_items(kube: FakeKube, path: str, *, labels: str = "", fields: str = "") -> list[Raw]:
        found.append(path)
        return items(kube, path, labels=labels, fields=fields)

    monkeypatch.setattr(FakeKube, "get", noted_get)
    monkeypatch.setattr(FakeKube, "items", noted_items)
    return found


@pytest.fixture
def clock() -> list[float]:
    """Return the seconds on the clock, which a test may change."""
    return [1000.0]


@pytest.fixture
def scene(clock: list[float]) -> Iterator[Scene]:
    """Return two nodes, two pods of 4 GPUs that wait, and a plan that gives them homes."""
    with ThreadPoolExecutor(2) as pool:
        made = Scene(pool, clock=lambda: clock[0])
        for name in ("a", "b"):
            made.add(name)
        made.publish(bind("a", "n1"), bind("b", "n2"))
        yield made


def binds(scene: Scene, name: str, node: str) -> None:
    """Bind a pod, which the watch shows."""
    scene.pod(name)["spec"]["nodeName"] = node
    shows(scene, "MODIFIED", name)


def shows(scene: Scene, kind: str, name: str, **more: Any) -> bool:  # noqa: ANN401 - JSON
    """Have the watch show a pod; return whether that was the last one the plan waits for."""
    raw = scene.pod(name)
    return scene.execution.arrivals.see(
        {"type": kind, "object": {**raw, "metadata": {**raw["metadata"], **more}}}
    )


def test_a_plan_ends_without_a_look_once_all_of_its_pods_were_seen_on_their_nodes(
    scene: Scene, reads: Reads
) -> None:
    """Each node of it would be read twice more, which is most of what a plan costs."""
    scene.look()
    reads.clear()
    binds(scene, "a", "n1")
    binds(scene, "b", "n2")

    scene.look()

    assert reads == []
    assert scene.status("plan-00001")["phase"] == "Completed"
    assert scene.look() is None


def test_what_else_the_watch_shows_costs_no_look(scene: Scene, reads: Reads) -> None:
    """Each pod of somebody else, and each change of one that is not bound yet, would cost one."""
    scene.add("other")
    scene.look()
    reads.clear()
    shows(scene, "MODIFIED", "a")
    binds(scene, "other", "n1")
    shows(scene, "DELETED", "other")
    binds(scene, "a", "n1")
    binds(scene, "b", "n2")

    scene.look()

    assert reads == []
    assert scene.status("plan-00001")["phase"] == "Completed"


def test_a_pod_without_a_node_has_not_arrived(scene: Scene) -> None:
    """The lifting of its gate is shown first: a plan would be done that is not."""
    scene.look()
    binds(scene, "a", "n1")

    assert not shows(scene, "MODIFIED", "b")
    scene.look()

    assert scene.status("plan-00001")["phase"] == "Executing"


def test_what_it_says_then_is_what_a_look_would_say(scene: Scene) -> None:
    """Nobody is to see which way it was found."""
    scene.look()
    for name, node in (("a", "n1"), ("b", "n2")):
        binds(scene, name, node)
    scene.look()
    told = scene.status("plan-00001")

    with ThreadPoolExecutor(2) as pool:
        other = Scene(pool)
        for name in ("a", "b"):
            other.add(name)
        other.publish(bind("a", "n1"), bind("b", "n2"))
        other.look()
        for name, node in (("a", "n1"), ("b", "n2")):
            other.pod(name)["spec"]["nodeName"] = node
        other.look()

    assert told == other.status("plan-00001")


def test_the_last_one_is_told_of(scene: Scene) -> None:
    """The plan would wait for its next look by the clock."""
    scene.look()

    scene.pod("a")["spec"]["nodeName"] = "n1"
    scene.pod("b")["spec"]["nodeName"] = "n2"

    assert [shows(scene, "MODIFIED", name) for name in ("a", "a", "b", "b")] == [
        *(False, False),
        *(True, False),
    ]


def test_a_pod_may_be_bound_before_its_release_is_answered(
    scene: Scene, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler is quicker than our answer, and the plan would wait for a look."""
    patch = scene.kube.patch

    def bound_at_once(path: str, body: Raw, *, manager: str, rehearse: bool) -> None:
        patch(path, body, manager=manager, rehearse=rehearse)
        name, node = {pod_path(key("a")): ("a", "n1"), pod_path(key("b")): ("b", "n2")}[path]
        binds(scene, name, node)

    monkeypatch.setattr(scene.kube, "patch", bound_at_once)
    scene.look()
    reads.clear()

    scene.look()

    assert reads == []
    assert scene.status("plan-00001")["phase"] == "Completed"


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_pod_that_goes_before_the_plan_is_done_is_looked_for(scene: Scene, first: str) -> None:
    """A plan that has lost a pod, be it one that had arrived, would count as carried out."""
    scene.look()
    binds(scene, "a", "n1")
    del scene.kube.objects[pod_path(PodKey(namespace="ns", name=first))]
    gone = {"type": "DELETED", "object": {"metadata": {"uid": f"uid-{first}"}, "spec": {}}}
    scene.execution.arrivals.see(gone)
    if first != "b":
        binds(scene, "b", "n2")

    scene.look()

    status = scene.status("plan-00001")
    assert status["phase"] == "Failed" or status["steps"][0]["state"] == "Failed"
    assert f"ns/{first} is gone" in str(status)


def test_a_pod_that_is_being_deleted_has_not_arrived(scene: Scene) -> None:
    """It may have been bound by then, and gives its room back all the same."""
    scene.look()
    binds(scene, "a", "n1")
    metadata = scene.pod("b")["metadata"]
    scene.pod("b")["spec"]["nodeName"] = "n2"
    metadata["deletionTimestamp"] = "2026-05-01T12:00:00Z"

    assert not shows(scene, "MODIFIED", "b")
    scene.look()

    assert scene.status("plan-00001")["phase"] == "Failed"


def test_a_pod_that_its_node_does_not_take_has_not_arrived(scene: Scene) -> None:
    """A kubelet that has no GPU left fails a pod at once, which keeps its node all the same."""
    scene.look()
    binds(scene, "a", "n1")
    scene.pod("b")["spec"]["nodeName"] = "n2"
    scene.pod("b")["status"]["phase"] = "Failed"

    assert not shows(scene, "MODIFIED", "b")
    scene.look()

    assert scene.status("plan-00001")["phase"] == "Failed"


def test_a_pod_that_its_node_gives_up_is_looked_at(scene: Scene) -> None:
    """A plan that has lost a pod after it had arrived would count as carried out."""
    scene.look()
    binds(scene, "a", "n1")
    scene.pod("a")["status"]["phase"] = "Failed"
    shows(scene, "MODIFIED", "a")
    binds(scene, "b", "n2")

    scene.look()

    assert scene.status("plan-00001")["phase"] == "Failed"


def test_a_plan_that_is_at_work_again_is_looked_at(scene: Scene) -> None:
    """Where etcd is restored from a backup, its pods may be nowhere, and the watch not back yet."""
    scene.look()
    at_work = copy.deepcopy(scene.kube.objects[plan_path("plan-00001")])
    scene.plans.see(at_work)
    for name, node in (("a", "n1"), ("b", "n2")):
        binds(scene, name, node)
    scene.look()
    scene.plans.see(copy.deepcopy(scene.kube.objects[plan_path("plan-00001")]))
    for name in ("a", "b"):
        del scene.pod(name)["spec"]["nodeName"]
    scene.plans.see(at_work)

    scene.look()

    assert scene.status("plan-00001")["phase"] == "Executing"


def test_a_pod_that_has_lost_its_node_is_looked_at(scene: Scene, reads: Reads) -> None:
    """Where etcd is restored from a backup, a plan would end with a pod that is on no node."""
    scene.look()
    binds(scene, "a", "n1")
    del scene.pod("a")["spec"]["nodeName"]
    shows(scene, "ADDED", "a")
    binds(scene, "b", "n2")
    reads.clear()

    scene.look()

    assert reads
    assert scene.status("plan-00001")["phase"] == "Executing"


def test_a_pod_on_another_node_is_looked_at(scene: Scene, reads: Reads) -> None:
    """The plan would say that it runs where it does not."""
    scene.look()
    binds(scene, "a", "n1")
    binds(scene, "b", "n1")
    reads.clear()

    scene.look()

    assert reads
    assert "runs on n1 already" in str(scene.status("plan-00001"))


def test_while_pods_arrive_one_after_the_other_nobody_looks(scene: Scene, reads: Reads) -> None:
    """Each look would find what the watch has shown."""
    scene.look()
    reads.clear()
    binds(scene, "a", "n1")

    assert scene.look()
    assert reads == []
    assert scene.look()  # nobody has come since
    assert reads


def test_a_look_is_overdue_after_a_while_though_pods_arrive(clock: list[float]) -> None:
    """One whose node is gone would be hidden by hundreds that come one after the other."""
    arrivals = Arrivals(lambda: clock[0])
    names = ("a", "b", "c", "d")
    arrivals.expect("plan", {name: NodeName("n1") for name in names}, names)
    said = []
    for name in names[:3]:
        raw = {"metadata": {"uid": name}, "spec": {"nodeName": "n1"}}
        arrivals.see({"type": "MODIFIED", "object": raw})
        said.append(arrivals.go_on("plan"))
        clock[0] += 6

    assert said == [True, True, False]


def test_one_that_was_refused_is_tried_again_though_the_others_arrive(scene: Scene) -> None:
    """It would stay behind its gate until a look by the clock."""
    scene.kube.refusals[pod_path(key("b"))] = (503, "busy")
    scene.look()
    scene.kube.refusals.clear()
    binds(scene, "a", "n1")

    scene.look()

    assert scene.status("plan-00001")["steps"][0]["state"] == "Done"


def test_after_a_pass_that_broke_off_the_others_are_released_though_some_arrive(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of a gang would stay behind its gate for as long as the others arrive."""
    patch = scene.kube.patch

    def without_answer(path: str, body: Raw, *, manager: str, rehearse: bool) -> None:
        if path == pod_path(key("b")):
            raise ApiException(status=0, reason="no answer")
        patch(path, body, manager=manager, rehearse=rehearse)

    with monkeypatch.context() as away:
        away.setattr(scene.kube, "patch", without_answer)
        with pytest.raises(ApiException):
            scene.look()
    binds(scene, "a", "n1")

    scene.look()

    assert scene.pod("b")["spec"]["schedulingGates"] == []


def test_what_was_seen_of_one_plan_ends_no_other(scene: Scene, reads: Reads) -> None:
    """The next plan's pods would be taken for bound."""
    scene.look()
    for name, node in (("a", "n1"), ("b", "n2")):
        binds(scene, name, node)
    scene.add("c", gpus=2)
    scene.publish(bind("c", "n1"), sequence=2)
    reads.clear()

    scene.look()

    assert reads
    assert scene.pod("c")["spec"]["schedulingGates"] == []
    assert scene.status("plan-00002")["phase"] == "Executing"


def test_who_has_run_to_its_end_before_the_others_came_was_there(scene: Scene) -> None:
    """A look ended the plan as failed, and another one was made; the watch said it was done."""
    scene.look()
    binds(scene, "a", "n1")
    scene.pod("a")["status"]["phase"] = "Succeeded"
    scene.execution.arrivals.forget()

    scene.look()

    status = scene.status("plan-00001")
    assert status["phase"] == "Executing"
    assert status["steps"][0]["message"] == "has run to its end on n1"
    scene.pod("b")["spec"]["nodeName"] = "n2"
    scene.look()
    assert scene.status("plan-00001")["phase"] == "Completed"


def test_who_was_refused_by_its_kubelet_was_not_there(scene: Scene) -> None:
    """The plan would be done, and nobody knew why what its owner made again waits."""
    scene.look()
    binds(scene, "a", "n1")
    scene.pod("a")["status"]["phase"] = "Failed"
    scene.pod("b")["spec"]["nodeName"] = "n2"
    scene.execution.arrivals.forget()

    scene.look()

    assert scene.status("plan-00001")["phase"] == "Failed"
