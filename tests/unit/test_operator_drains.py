"""A plan makes pods of an InferenceDeployment leave: they finish their requests before."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bayplan.api import names
from bayplan.codec import plan_manifest
from bayplan.inference.children import Child
from bayplan.plan import Bind, Certificate, Evict, Plan, Result, Verdict
from bayplan.policy import Order
from bayplan.snapshot import GangKey, NodeName, PodKey
from bayplan.steps import STALL_S
from bayplan_operator import farewells
from bayplan_operator.deployments import Deployments
from bayplan_operator.execution import Execution
from bayplan_operator.gates import Gates
from bayplan_operator.keys import DeploymentKey
from bayplan_operator.kube import deployment_path, node_path, plan_path, pod_path
from bayplan_operator.metrics import Metrics
from bayplan_operator.nodes import Nodes
from bayplan_operator.plans import Plans
from tests.fake_kube import FakeKube, Raw, Told

CHAT = DeploymentKey(namespace="ns", name="chat")
PATH = deployment_path("ns", "chat")
PODS = [f"chat-0-{name}-0" for name in ("decode", "prefill")]


class Scene:
    """A full node with one unit of two pods that serve, a pod that waits, and the operator.

    `loads` are the requests of each engine, by the name of its pod.
    """

    def __init__(self, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
        self.kube = FakeKube()
        self.told = Told()
        self.loads: dict[str, int] = {}
        self.asked: set[str] = set()
        self._pool = pool
        monkeypatch.setattr(farewells, "loads", self._loads)
        monkeypatch.setattr(farewells, "LOOK_S", 0)
        self.start()
        self.kube.add(node_path("n1"), node("n1"))
        self.apply()
        self.deployments.reconcile(CHAT)
        self.serve()
        self.deployments.reconcile(CHAT)
        self.serve()
        self.kube.add(pod_path(key("new")), waiting_pod("new"))

    def start(self) -> None:
        """Start the operator, which knows nothing of what was before."""
        plans = Plans(self.kube)
        metrics, pool = Metrics(), self._pool
        gates = Gates(
            self.kube, plans, self.told, metrics, namespace="x", pool=pool, now=lambda: self.clock
        )
        self.plans = plans
        self.execution = Execution(
            self.kube, plans, self.told, metrics, pool=pool, now=lambda: self.clock
        )
        self.deployments = Deployments(
            *(self.kube, plans, gates, Nodes(self.kube), self.told),
            pool=pool,
            now=lambda: self.clock,
        )

    def apply(self, *, drain_s: int = 60) -> None:
        """Apply `chat`: one unit of two 4-GPU pods."""
        container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 4}}}
        template = {"spec": {"containers": [container]}}
        pools = [{"role": role, "template": template} for role in ("Prefill", "Decode")]
        spec = {"disruption": {"drainTimeoutSeconds": drain_s}, "pools": pools}
        known = self.kube.objects.get(PATH, {})
        metadata = {"namespace": "ns", "name": "chat", "generation": 1}
        self.kube.add(PATH, {**known, "metadata": metadata, "spec": spec})

    def serve(self) -> None:
        """Have the pods of chat run, and be ready while they are in service."""
        for name in PODS:
            pod = self.kube.get(pod_path(key(name)))
            if pod is None:
                continue
            pod["spec"] |= {"nodeName": "n1", "schedulingGates": []}
            others = [c for c in conditions(pod) if c["type"] != "Ready"]
            ready = all(c["status"] == "True" for c in others)
            pod["status"] = {"conditions": [*others, {"type": "Ready", "status": str(ready)}]}
            self.kube.add(pod_path(key(name)), pod)

    def publish(self, *actions: Bind | Evict, sequence: int = 1) -> str:
        """Write a plan as the planner would."""
        plan = Plan(
            certificate=Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL),
            binds=tuple(a for a in actions if isinstance(a, Bind)),
            evictions=tuple(a for a in actions if isinstance(a, Evict)),
        )
        manifest = plan_manifest(Result(plan=plan, digest="d", engine="hand"), sequence=sequence)
        path = plan_path(f"plan-{sequence:05d}")
        self.plans.see(self.kube.add(path, manifest))
        return path

    def make_room(self, sequence: int = 1) -> str:
        """Write the plan that evicts the unit for the pod that waits."""
        gang = GangKey(namespace="ns", name="chat-0")
        victims = (
            Evict(pod=key(n), uid=f"uid-{n}", node=NodeName("n1"), priority=0, gang=gang)
            for n in PODS
        )
        new = Bind(pod=key("new"), uid="uid-new", node=NodeName("n1"))
        return self.publish(new, *victims, sequence=sequence)

    def look(self, seconds: float = 0) -> None:
        """Let some time pass, and everybody look at everything."""
        self.clock += timedelta(seconds=seconds)
        self.execution.reconcile()
        self.deployments.reconcile(CHAT)
        self.serve()

    def in_service(self) -> list[str]:
        """Return why each pod is in service or out of it, or that it is being deleted."""
        return [self._service(self.kube.objects[pod_path(key(name))]) for name in PODS]

    def _service(self, pod: Raw) -> str:
        if "deletionTimestamp" in pod["metadata"]:
            return "Deleted"
        return str(service_of(pod)["reason"])

    def _loads(self, children: Iterable[Child]) -> Mapping[str, int | None]:
        asked = [child for child in children if child.name in self.loads]
        self.asked |= {child.name for child in asked}
        return {child.uid: self.loads[child.name] for child in asked}


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Return the scene."""
    with ThreadPoolExecutor(2) as pool:
        yield Scene(pool, monkeypatch)


def key(name: str) -> PodKey:
    """Return a pod's key."""
    return PodKey(namespace="ns", name=name)


def node(name: str) -> Raw:
    """Return an 8-GPU node."""
    room = {"nvidia.com/gpu": "8", "pods": 9}
    return {"metadata": {"name": name}, "status": {"allocatable": room}}


def waiting_pod(name: str) -> Raw:
    """Return a gated pod with 8 GPUs."""
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 8}}}
    return {
        "metadata": {"namespace": "ns", "name": name, "labels": {names.LABEL_MANAGED: "true"}},
        "spec": {
            "schedulerName": names.SCHEDULER,
            "schedulingGates": [{"name": names.GATE}],
            "containers": [container],
        },
    }


def conditions(pod: Raw) -> list[dict[str, Any]]:
    """Return the conditions of a pod."""
    found: list[dict[str, Any]] = (pod.get("status") or {}).get("conditions", [])
    return found


def service_of(pod: Raw) -> dict[str, Any]:
    """Return the condition that says whether a pod is in service."""
    return next(c for c in conditions(pod) if c["type"] == names.CONDITION_IN_SERVICE)


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
    scene.look()

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
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PodDisruptionBudget would keep it, out of service and in vain; the plan gives up."""
    now = [1000.0]
    monkeypatch.setattr("bayplan_operator.execution.time.monotonic", lambda: now[0])
    path = f"{pod_path(key(PODS[1]))}/eviction"
    scene.kube.refusals[path] = (429, "Cannot evict pod: disruption budget")
    plan = scene.make_room()

    scene.look()

    assert scene.in_service() == ["Serves", "Serves"]
    assert "that is refused: Cannot evict pod" in str(scene.kube.objects[plan]["status"])
    now[0] += STALL_S
    scene.look()
    assert scene.kube.objects[plan]["status"]["phase"] == "Failed"


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
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget shrank meanwhile: the plan gives up, and nobody stays out of service."""
    now = [1000.0]
    monkeypatch.setattr("bayplan_operator.execution.time.monotonic", lambda: now[0])
    plan = scene.make_room()
    scene.look()
    path = f"{pod_path(key(PODS[1]))}/eviction"
    scene.kube.refusals[path] = (429, "Cannot evict pod: disruption budget")
    scene.look(seconds=10)
    assert scene.in_service() == ["Yields", "Yields"]

    now[0] += STALL_S
    scene.look()

    assert scene.kube.objects[plan]["status"]["phase"] == "Failed"
    assert scene.in_service() == ["Serves", "Serves"]


def test_a_long_drain_is_no_standstill(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan would fail just when the room comes free, and the next one begin anew."""
    now = [1000.0]
    monkeypatch.setattr("bayplan_operator.execution.time.monotonic", lambda: now[0])
    scene.apply(drain_s=10 * STALL_S)
    plan = scene.make_room()
    scene.loads = dict.fromkeys(PODS, 1)
    scene.look()
    scene.look()
    for _ in range(9):
        scene.look(seconds=STALL_S)
        now[0] += STALL_S
    scene.loads = {}

    scene.look()

    assert scene.kube.objects[plan]["status"]["phase"] == "Executing"
    assert scene.in_service() == ["Deleted", "Deleted"]


def test_who_serves_again_at_the_last_moment_is_not_evicted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody put it back between our look and the eviction: it has requests by then."""
    scene.make_room()
    scene.look()
    create = scene.kube.create

    def put_back(path: str, body: Raw, *, manager: str = "") -> Raw:
        if path.endswith("/eviction"):
            scene.serve()  # any change will do: what was seen is out of date
        return create(path, body, manager=manager)

    monkeypatch.setattr(scene.kube, "create", put_back)
    told = list(scene.told.notes)
    scene.look(seconds=10)

    assert "Deleted" not in scene.in_service()
    assert scene.told.notes == told


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
