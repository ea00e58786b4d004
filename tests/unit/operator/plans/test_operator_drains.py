"""A plan makes pods of an InferenceDeployment leave: they finish their requests before."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from bayplan.api import names
from bayplan.inference.drains import LOOK_S
from bayplan.steps import STALL_S
from bayplan_operator.cluster.kube import pod_path
from tests.fake_kube import Raw
from tests.scenes.drain import CHAT, PATH, PODS, Scene, key, service_of


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Return the scene."""
    with ThreadPoolExecutor(2) as pool:
        yield Scene(pool, monkeypatch)


def test_a_unit_that_a_plan_evicts_finishes_its_requests_before(scene: Scene) -> None:
    """Nobody's request is cut off to make room, and the deployment does not put it back."""
    plan = scene.make_room()
    scene.loads = {"chat-0-decode-0": 3, "chat-0-prefill-0": 0}

    scene.look()

    assert scene.in_service() == ["Yields", "Yields"]
    scene.look()
    status = scene.kube.objects[plan]["status"]
    assert (status["phase"], status["steps"][0]["state"]) == ("Executing", "Draining")
    assert service_of(scene.kube.objects[pod_path(key(PODS[0]))])["message"] == (
        "it finishes its requests, and leaves then: plan-00001: it makes room for ns/new"
    )
    assert "Pod chat-0-decode-0 Draining: plan-00001: it makes room for ns/new" in scene.told.notes
    scene.look(seconds=30)
    scene.look()
    assert scene.in_service() == ["Yields", "Yields"]
    assert "until 12:01:01 UTC at most (1 min more)" in str(scene.kube.objects[plan]["status"])

    scene.loads["chat-0-decode-0"] = 0
    scene.look(seconds=2)

    assert scene.in_service() == ["Deleted", "Deleted"]
    assert scene.kube.objects[pod_path(key("new"))]["spec"]["schedulingGates"]


def test_it_takes_no_longer_than_its_deployment_allows(scene: Scene) -> None:
    """A request that never ends keeps nobody else from running."""
    scene.make_room()
    scene.loads = dict.fromkeys(PODS, 1)
    scene.look()
    scene.look(seconds=60)
    assert scene.in_service() == ["Yields", "Yields"]

    scene.look(seconds=1)

    assert scene.in_service() == ["Deleted", "Deleted"]


def test_engines_are_asked_again_only_after_a_moment(scene: Scene) -> None:
    """Each event of a pod would cost all that drain a request."""
    scene.make_room()
    scene.loads = dict.fromkeys(PODS, 1)
    scene.look()
    scene.look(seconds=30)
    scene.loads = dict.fromkeys(PODS, 0)

    scene.look()
    assert scene.in_service() == ["Yields", "Yields"]
    scene.look(seconds=LOOK_S)

    assert scene.in_service() == ["Deleted", "Deleted"]


def test_a_shorter_drain_counts_for_those_that_drain_already(scene: Scene) -> None:
    """Somebody who needs the room now would be made to wait for the old limit."""
    scene.make_room()
    scene.loads = dict.fromkeys(PODS, 1)
    scene.look()
    scene.look()
    scene.apply(drain_s=5)

    scene.look(seconds=6)

    assert scene.in_service() == ["Deleted", "Deleted"]


def test_with_no_time_to_finish_they_go_at_once(scene: Scene) -> None:
    """`drainTimeoutSeconds: 0` says so."""
    scene.apply(drain_s=0)
    scene.make_room()

    scene.look()

    assert scene.in_service() == ["Deleted", "Deleted"]


def test_pods_of_a_deployment_that_is_gone_need_not_finish(scene: Scene) -> None:
    """The garbage collector takes them anyway, and nobody says how long they may take."""
    del scene.kube.objects[PATH]
    scene.make_room()

    scene.execution.reconcile()

    assert scene.in_service() == ["Deleted", "Deleted"]


def test_a_pod_of_somebody_else_that_looks_like_ours_is_not_asked(scene: Scene) -> None:
    """Anybody may give a pod our labels and conditions; only an owner of ours says how long."""
    for name in PODS:
        pod = scene.kube.objects[pod_path(key(name))]
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "chat", "uid": "u"}
        pod["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    scene.loads = dict.fromkeys(PODS, 1)
    scene.make_room()

    scene.execution.reconcile()

    assert scene.in_service() == ["Deleted", "Deleted"]
    assert not scene.asked


def test_nobody_is_drained_who_could_not_be_evicted_then(
    scene: Scene,
) -> None:
    """A PodDisruptionBudget would keep it, out of service and in vain; the plan gives up."""
    path = f"{pod_path(key(PODS[1]))}/eviction"
    scene.kube.refusals[path] = (429, "Cannot evict pod: disruption budget")
    plan = scene.make_room()

    scene.look()

    assert scene.in_service() == ["Serves", "Serves"]
    assert "that is refused: Cannot evict pod" in str(scene.kube.objects[plan]["status"])
    scene.look(seconds=STALL_S)
    assert scene.kube.objects[plan]["status"]["phase"] == "Failed"


def budget(*, allowed: int, healthy: int = 2, desired: int = 1) -> Raw:
    """Return a PodDisruptionBudget over all pods of the namespace."""
    return {
        "metadata": {"namespace": "ns", "name": "chat"},
        "spec": {"selector": {}},
        "status": {
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
        },
    }


def test_two_victims_of_a_budget_that_admits_one_stay_in_service(scene: Scene) -> None:
    """Each alone would be admitted; together they would leave one out of service in vain."""
    path = "/apis/policy/v1/namespaces/ns/poddisruptionbudgets/chat"
    scene.kube.add(path, budget(allowed=1))
    plan = scene.make_room(together=False)

    scene.look()

    assert scene.in_service() == ["Serves", "Serves"]
    told = "PodDisruptionBudget ns/chat admits 1 eviction now, and the plan needs 2"
    assert told in scene.kube.objects[plan]["status"]["message"]
    scene.kube.add(path, budget(allowed=2, healthy=3))
    scene.look()
    assert scene.in_service() == ["Yields", "Yields"]


def test_a_budget_that_cannot_be_read_leaves_it_to_the_api_server(scene: Scene) -> None:
    """Somebody's broken object would stop every plan."""
    broken = budget(allowed=1) | {"status": {"disruptionsAllowed": "one"}}
    scene.kube.add("/apis/policy/v1/namespaces/ns/poddisruptionbudgets/chat", broken)
    scene.make_room()

    scene.look()

    assert scene.in_service() == ["Yields", "Yields"]


def test_a_restart_in_the_middle_forgets_nothing(scene: Scene) -> None:
    """When it began to drain stands on the pod, and for whom in the plan."""
    scene.make_room()
    scene.loads = dict.fromkeys(PODS, 1)
    scene.look()
    scene.start()
    scene.deployments.reconcile(CHAT)
    assert scene.in_service() == ["Yields", "Yields"]

    scene.look(seconds=61)

    assert scene.in_service() == ["Deleted", "Deleted"]


def test_who_drained_for_a_plan_that_another_overtakes_serves_again(scene: Scene) -> None:
    """The newer plan lets it stay."""
    scene.make_room(sequence=1)
    scene.look()
    assert scene.in_service() == ["Yields", "Yields"]

    scene.publish(sequence=2)
    scene.look()

    assert scene.in_service() == ["Serves", "Serves"]


def test_who_drains_for_a_newer_plan_as_well_goes_on_draining(scene: Scene) -> None:
    """Putting it back in between would begin its time anew."""
    scene.make_room(sequence=1)
    scene.loads = dict.fromkeys(PODS, 1)
    scene.look()

    scene.make_room(sequence=2)
    scene.look(seconds=30)
    assert scene.in_service() == ["Yields", "Yields"]
    scene.look(seconds=31)

    assert scene.in_service() == ["Deleted", "Deleted"]


def test_who_drained_for_a_plan_that_fails_serves_again(scene: Scene) -> None:
    """Whom it made room for is gone."""
    plan = scene.make_room()
    scene.look()
    del scene.kube.objects[pod_path(key("new"))]

    scene.look()

    assert scene.kube.objects[plan]["status"]["phase"] == "Failed"
    assert scene.in_service() == ["Serves", "Serves"]


def test_who_has_drained_and_is_kept_by_a_budget_serves_again_in_the_end(
    scene: Scene,
) -> None:
    """The budget shrank meanwhile: the plan gives up, and nobody stays out of service."""
    plan = scene.make_room()
    scene.look()
    path = f"{pod_path(key(PODS[1]))}/eviction"
    scene.kube.refusals[path] = (429, "Cannot evict pod: disruption budget")
    scene.look(seconds=10)
    assert scene.in_service() == ["Yields", "Yields"]

    scene.look(seconds=STALL_S)

    assert scene.kube.objects[plan]["status"]["phase"] == "Failed"
    assert scene.in_service() == ["Serves", "Serves"]


def test_who_has_drained_and_is_kept_does_not_wait_for_who_still_drains(scene: Scene) -> None:
    """It would be out of service for hours, and never leave."""
    scene.apply(drain_s=100 * STALL_S)
    plan = scene.make_room(together=False)
    scene.loads = {PODS[0]: 1, PODS[1]: 0}
    scene.look()
    scene.look()
    path = f"{pod_path(key(PODS[1]))}/eviction"
    scene.kube.refusals[path] = (429, "Cannot evict pod: disruption budget")
    scene.look(seconds=10)
    assert scene.in_service() == ["Yields", "Yields"]

    for _ in range(3):
        scene.look(seconds=STALL_S)

    assert scene.kube.objects[plan]["status"]["phase"] == "Failed"
    assert scene.in_service() == ["Serves", "Serves"]


def test_who_may_not_be_disturbed_any_more_serves_again_although_others_leave(
    scene: Scene,
) -> None:
    """The plan waits for those who are ending, and would keep it out of service meanwhile."""
    scene.apply(drain_s=10 * STALL_S)
    scene.make_room(together=False)
    scene.loads = {PODS[0]: 0, PODS[1]: 1}
    scene.look()
    scene.look()
    scene.look(seconds=10)
    assert scene.in_service() == ["Deleted", "Yields"]

    scene.kube.objects[pod_path(key(PODS[1]))]["metadata"]["annotations"] = {
        names.ANNOTATION_MOVE_COST: "never mind"
    }
    scene.look(seconds=10)

    assert scene.in_service() == ["Deleted", "Serves"]


def test_a_long_drain_is_no_standstill(scene: Scene) -> None:
    """The plan would fail just when the room comes free, and the next one begin anew."""
    scene.apply(drain_s=10 * STALL_S)
    plan = scene.make_room()
    scene.loads = dict.fromkeys(PODS, 1)
    scene.look()
    scene.look()
    for _ in range(9):
        scene.look(seconds=STALL_S)
    scene.loads = {}

    scene.look(seconds=STALL_S)

    assert scene.kube.objects[plan]["status"]["phase"] == "Executing"
    assert scene.in_service() == ["Deleted", "Deleted"]


def change(raw: Raw, what: str) -> None:
    """Let somebody write to a pod."""
    (in_service, ready) = (c for c in raw["status"]["conditions"])
    if what == "put back":
        in_service |= {"status": "True", "reason": "Serves"}
    elif what == "put back and taken out":
        in_service["lastTransitionTime"] = "2026-05-01T12:00:07Z"
    elif what == "ready":
        ready["status"] = "True"
    elif what == "not to be disturbed":
        raw["metadata"].setdefault("annotations", {})[names.ANNOTATION_MOVE_COST] = "never"
    else:
        raw["status"]["podIP"] = "10.0.0.1"


@pytest.mark.parametrize(
    ("what", "goes"),
    [
        ("put back", False),
        ("put back and taken out", False),
        ("ready", False),
        ("not to be disturbed", False),
        ("its kubelet wrote", True),
    ],
)
def test_who_has_drained_leaves_unless_that_is_so_no_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str, *, goes: bool
) -> None:
    """Who has requests again is not cut off; a kubelet's word keeps nobody."""
    scene.make_room()
    scene.look()
    create = scene.kube.create
    written: set[str] = set()

    def write_before(path: str, body: Raw, *, manager: str = "") -> Raw:
        pod = path.removesuffix("/eviction")
        if path != pod and "dryRun" not in body["deleteOptions"] and pod not in written:
            written.add(pod)
            raw = scene.kube.get(pod) or {}
            change(raw, what)
            scene.kube.add(pod, raw)
        return create(path, body, manager=manager)

    monkeypatch.setattr(scene.kube, "create", write_before)
    told = list(scene.told.notes)
    scene.clock += timedelta(seconds=10)
    scene.execution.reconcile()

    assert len(written) == len(PODS)
    assert scene.in_service().count("Deleted") == (len(PODS) if goes else 0)
    assert (scene.told.notes == told) is not goes


def break_spec(scene: Scene) -> None:
    """Ask for a role that there is not."""
    known = scene.kube.objects[PATH]
    pools = [{**pool, "role": "Cook"} for pool in known["spec"]["pools"]]
    scene.kube.add(PATH, {**known, "spec": {**known["spec"], "pools": pools}})


def test_who_drained_for_a_plan_that_has_ended_serves_again_though_its_spec_is_wrong(
    scene: Scene,
) -> None:
    """A typing error would keep a unit out of service until somebody corrects it."""
    scene.make_room(sequence=1)
    scene.look()
    break_spec(scene)

    scene.look()

    assert scene.in_service() == ["Yields", "Yields"], "the plan is at work"
    scene.publish(sequence=2)
    scene.look()
    assert scene.kube.objects[PATH]["status"]["reason"] == "InvalidSpec"
    assert scene.in_service() == ["Serves", "Serves"]


def test_who_comes_to_run_while_its_spec_is_wrong_is_put_into_service(scene: Scene) -> None:
    """Its place was planned before, and it would never be ready."""
    path = pod_path(key(PODS[0]))
    scene.kube.objects[path]["status"] = {}
    break_spec(scene)

    scene.look()

    assert scene.in_service() == ["Serves", "Serves"]


def test_a_unit_that_drains_to_go_is_left_alone_while_its_spec_is_wrong(scene: Scene) -> None:
    """Nobody knows whether it is wanted."""
    scene.loads = dict.fromkeys(PODS, 1)
    scaled = scene.kube.objects[PATH]
    scene.kube.add(PATH, {**scaled, "spec": {**scaled["spec"], "replicas": 0}})
    scene.look()
    break_spec(scene)

    scene.look()

    assert scene.in_service() == ["Drains", "Drains"]


def test_pods_of_somebody_else_are_not_put_into_service(scene: Scene) -> None:
    """The same labels are on pods of a deployment that was deleted."""
    scene.make_room(sequence=1)
    scene.look()
    break_spec(scene)
    scene.kube.objects[PATH]["metadata"]["uid"] = "another"
    scene.publish(sequence=2)

    scene.execution.reconcile()
    scene.deployments.reconcile(CHAT)

    assert "Yields" in scene.in_service()


def test_a_unit_that_goes_anyway_is_not_put_back_when_its_plan_fails(scene: Scene) -> None:
    """It drains for two reasons, of which one is left."""
    plan = scene.make_room()
    scene.loads = dict.fromkeys(PODS, 1)
    scene.look()
    scaled = scene.kube.objects[PATH]
    scene.kube.add(PATH, {**scaled, "spec": {**scaled["spec"], "replicas": 0}})
    scene.publish(sequence=2)

    scene.look()

    assert scene.kube.objects[plan]["status"]["phase"] == "Superseded"
    assert scene.in_service() == ["Yields", "Yields"]
