"""InferenceDeployments against an API server in memory: what it refuses, and what it is told."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from bayplan.api import names
from bayplan.codec import plan_manifest
from bayplan.keys import PodKey
from bayplan.plan import Certificate, Hold, Plan, Reason, Rejection, Result, Verdict
from bayplan.policy import Order
from bayplan_operator.claims import Claims
from bayplan_operator.deployments import Deployments
from bayplan_operator.gates import Gates
from bayplan_operator.keys import DeploymentKey
from bayplan_operator.kube import deployment_path, node_path, plan_path, pod_path
from bayplan_operator.metrics import Metrics
from bayplan_operator.nodes import Nodes
from bayplan_operator.plans import Plans
from tests.fake_kube import FakeKube, Raw, Told

CHAT = DeploymentKey(namespace="ns", name="chat")
PATH = deployment_path("ns", "chat")


class Scene:
    """An API server with one InferenceDeployment, and the operator's worker for it."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.clock = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
        self.kube = FakeKube()
        self.told = Told()
        self.gates = Gates(
            self.kube,
            Plans(self.kube),
            self.told,
            Metrics(),
            namespace="x",
            pool=pool,
            now=lambda: self.clock,
        )
        self.nodes = Nodes(self.kube)
        self.worker = Deployments(
            self.kube,
            Plans(self.kube),
            self.gates,
            self.nodes,
            self.told,
            metrics=Metrics(),
            claims=Claims(),
            pool=pool,
            now=lambda: self.clock,
            clock=self.seconds,
        )
        self.apply()

    def seconds(self) -> float:
        """Return the seconds on the clock."""
        return self.clock.timestamp()

    def apply(self, **spec: Any) -> None:  # noqa: ANN401 - JSON
        """Apply `chat`: units of one 2-GPU pod."""
        container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 2}}}
        pools = [{"role": "Aggregated", "template": {"spec": {"containers": [container]}}}]
        known = self.kube.objects.get(PATH, {})
        metadata = {"namespace": "ns", "name": "chat", "generation": 1}
        made = {"metadata": metadata, "spec": {"replicas": 2, "pools": pools, **spec}}
        self.kube.add(PATH, {**known, **made})

    def look(self) -> float | None:
        """Do one pass."""
        return self.worker.reconcile(CHAT)

    def pods(self) -> list[str]:
        """Return the names of the pods."""
        raws = self.kube.items("/api/v1/namespaces/ns/pods")
        return [raw["metadata"]["name"] for raw in raws]

    def pod(self, name: str) -> Raw:
        """Return a pod, to be changed."""
        return self.kube.objects[pod_path(PodKey(namespace="ns", name=name))]

    def status(self) -> Raw:
        """Return the deployment's status."""
        found: Raw = self.kube.objects[PATH]["status"]
        return found


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return the scene."""
    with ThreadPoolExecutor(2) as pool:
        yield Scene(pool)


class Engine:
    """Metrics of a vLLM, on every loopback address alike but for the requests it has."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_port
        self.requests: dict[str, int] = {}
        self.asked: set[str] = set()


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Run an engine that says what the test wants."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers["Host"].partition(":")[0]
            told.asked.add(host)
            text = f'vllm:num_requests_running{{model_name="m"}} {told.requests[host]}.0\n'
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)  # noqa: S104 - several loopback addresses
    told = Engine(server)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


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


def test_a_deployment_that_vanishes_during_the_pass_is_no_error(scene: Scene) -> None:
    """Its status has nowhere to go."""
    scene.kube.refusals[f"{PATH}/status"] = (404, "not found")

    assert scene.look() is None


def test_a_failed_pod_is_kept_for_a_while_and_its_failures_are_remembered(scene: Scene) -> None:
    """In the status, so that a restart of the operator does not forget them."""
    scene.look()
    name = "chat-0-aggregated-0"
    created = scene.clock.isoformat().replace("+00:00", "Z")
    scene.pod(name)["metadata"]["creationTimestamp"] = created
    scene.pod(name)["status"] = {"phase": "Failed"}

    assert scene.look() == 20
    assert scene.status()["reason"] == "PodsFailing"
    assert name in scene.pods()

    scene.clock += timedelta(seconds=20)
    scene.look()
    assert name not in scene.pods()
    assert scene.status()["failures"] == [{"pod": name, "times": 1}]
    scene.look()
    assert name in scene.pods()


def test_pods_of_an_older_template_are_marked_until_it_is_the_newest_again(scene: Scene) -> None:
    """Planners read the mark, and leave its units together."""
    scene.look()
    run(scene)
    template = {"metadata": {"labels": {"version": "2"}}}
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 2}}}
    newer = {"role": "Aggregated", "template": {**template, "spec": {"containers": [container]}}}

    scene.apply(pools=[newer], rollout={"paused": True})
    scene.look()

    marks = [scene.pod(name)["metadata"]["annotations"] for name in scene.pods()]
    assert [mark.get(names.ANNOTATION_OUTDATED) for mark in marks] == ["true"] * 2
    scene.apply()
    scene.look()
    marks = [scene.pod(name)["metadata"]["annotations"] for name in scene.pods()]
    assert not any(names.ANNOTATION_OUTDATED in mark for mark in marks)


def test_a_pod_that_cannot_be_marked_stops_no_rollout(scene: Scene) -> None:
    """Its annotations are full: all else of the pass is done."""
    scene.look()
    run(scene)
    full = pod_path(PodKey(namespace="ns", name="chat-0-aggregated-0"))
    scene.kube.refusals[full] = (422, "metadata.annotations: Too long")
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 1}}}
    template = {"spec": {"containers": [container]}}

    scene.apply(pools=[{"role": "Aggregated", "template": template}])
    scene.look()

    assert "chat-2-aggregated-0" in scene.pods()


def test_a_rollout_is_told_in_events(scene: Scene) -> None:
    """Once for each thing that it comes to."""
    scene.look()
    run(scene)
    scene.look()

    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": 1}}}
    pools = [{"role": "Aggregated", "template": {"spec": {"containers": [container]}}}]
    scene.apply(pools=pools, rollout={"maxSurge": 0})
    for _ in range(12):
        scene.look()
        run(scene)
        scene.clock += timedelta(seconds=6)

    told = [note.split()[2].rstrip(":") for note in scene.told.notes if "Roll" in note]
    assert told == ["RolledOut", "RollingOut", "RolledOut"]
    assert scene.status()["units"] == {"desired": 2, "scheduled": 2, "ready": 2, "updated": 2}


def run(scene: Scene, *, starting: bool = False) -> None:
    """Have every pod run, and serve unless it is starting or was taken out of service."""
    scene.kube.add(node_path("n1"), {"metadata": {"name": "n1"}})
    for name in scene.pods():
        pod = scene.pod(name)
        pod["spec"] |= {"nodeName": "n1", "schedulingGates": []}
        status = pod.setdefault("status", {})
        others = [c for c in status.get("conditions", ()) if c["type"] != "Ready"]
        ready = not starting and all(c["status"] == "True" for c in others)
        status["conditions"] = [*others, {"type": "Ready", "status": str(ready)}]
        scene.kube.add(pod_path(PodKey(namespace="ns", name=name)), pod)


def test_a_unit_that_is_to_go_is_out_of_service_first_and_waits_for_its_engine(
    scene: Scene, engine: Engine
) -> None:
    """Requests in flight are not cut off, and the engine with the fewest goes."""
    scene.look()
    run(scene)
    for name, address in zip(scene.pods(), ("127.0.0.2", "127.0.0.1"), strict=True):
        pod = scene.pod(name)
        pod["metadata"]["annotations"] = {"prometheus.io/port": str(engine.port)}
        pod["status"]["podIP"] = address
    engine.requests = {"127.0.0.1": 3, "127.0.0.2": 2}
    scene.look()

    scene.apply(replicas=1)
    assert scene.look() == 2
    run(scene)
    condition = next(
        c
        for c in scene.pod("chat-0-aggregated-0")["status"]["conditions"]
        if c["type"] == names.CONDITION_IN_SERVICE
    )
    assert (condition["status"], condition["reason"]) == ("False", "Drains")

    scene.clock += timedelta(seconds=60)
    assert scene.look() == 2
    assert len(scene.pods()) == 2
    assert scene.status()["ready"] == "1/1"
    engine.requests["127.0.0.2"] = 0
    scene.look()
    assert scene.pods() == ["chat-1-aggregated-0"]


def test_a_stranger_that_looks_like_ours_is_not_asked(scene: Scene, engine: Engine) -> None:
    """Anybody may give a pod our label, and a metrics address."""
    scene.look()
    run(scene)
    scene.look()
    said = {"prometheus.io/port": str(engine.port)}
    scene.pod("chat-0-aggregated-0")["metadata"]["annotations"] = said
    scene.pod("chat-0-aggregated-0")["status"]["podIP"] = "127.0.0.1"
    labels = {names.LABEL_DEPLOYMENT: "chat"}
    scene.kube.add(
        pod_path(PodKey(namespace="ns", name="stranger")),
        {
            "metadata": {"name": "stranger", "labels": labels, "annotations": said},
            "spec": {"nodeName": "n1"},
            "status": {"podIP": "127.0.0.2"},
        },
    )
    engine.requests = {"127.0.0.1": 1, "127.0.0.2": 1}
    scene.apply(replicas=1)

    scene.look()

    assert engine.asked == {"127.0.0.1"}


def test_a_unit_that_is_wanted_again_is_put_back_into_service(scene: Scene) -> None:
    """Scaling down by mistake costs nobody a cold start."""
    scene.look()
    run(scene)
    scene.look()
    scene.apply(replicas=1)
    scene.look()
    run(scene)
    scene.apply(replicas=2)
    scene.look()
    run(scene)
    scene.look()

    assert scene.status()["ready"] == "2/2"
    assert len(scene.pods()) == 2


def test_what_is_left_on_a_node_that_is_gone_does_not_keep_its_name(scene: Scene) -> None:
    """Nobody is left to confirm that the pod has ended."""
    scene.look()
    run(scene)
    scene.look()
    del scene.kube.objects[node_path("n1")]

    scene.look()
    scene.look()

    assert all(scene.pod(name)["spec"]["schedulingGates"] for name in scene.pods())
    assert len(scene.pods()) == 2


PORT = {"name": "http", "containerPort": 8000}
SERVED = [
    {
        "role": "Aggregated",
        "template": {"spec": {"containers": [{"name": "c", "ports": [PORT]}]}},
    }
]
SERVICE = "/api/v1/namespaces/ns/services/chat-aggregated"
INFERENCE_POOL = "/apis/inference.networking.k8s.io/v1/namespaces/ns/inferencepools/chat"
GATEWAY = {"endpointPicker": "epp", "targetPort": 8000}


def asked(prefill: int, decode: int) -> Raw:
    """Return the spec of one unit of prefill pods with 4 GPUs and decode pods with 2."""
    pools = []
    for role, gpus in (("Prefill", 4), ("Decode", 2)):
        container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
        pools.append({"role": role, "template": {"spec": {"containers": [container]}}})
    return {"replicas": 1, "ratio": {"prefill": prefill, "decode": decode}, "pools": pools}


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


def exposed_of(scene: Scene) -> tuple[str, str]:
    """Return status and reason of the condition Exposed."""
    found = next(c for c in scene.status()["conditions"] if c["type"] == "Exposed")
    return found["status"], found["reason"]


def network_writes(scene: Scene) -> list[str]:
    """Return the writes to Services and InferencePools."""
    return [w for w in scene.kube.writes if "services/" in w or "inferencepools/" in w]


def test_what_leads_to_the_pods_is_made_once_and_made_again(scene: Scene) -> None:
    """By one field manager; somebody deletes it, and it is there again."""
    scene.apply(pools=SERVED, inferencePool=GATEWAY)
    for _ in range(3):
        scene.look()

    made = [f"apply as {names.MANAGER_NETWORK} {path}" for path in (SERVICE, INFERENCE_POOL)]
    assert network_writes(scene) == made
    assert exposed_of(scene) == ("True", "Exposed")
    del scene.kube.objects[SERVICE]
    scene.look()
    assert network_writes(scene) == [*made, made[0]]


def test_a_cluster_without_gateways_serves_all_the_same(scene: Scene) -> None:
    """The add-on is missing: the pods are made, and the condition says what to install."""
    scene.kube.refusals[INFERENCE_POOL] = (404, "404 page not found")
    scene.apply(pools=SERVED, inferencePool=GATEWAY)

    scene.look()

    assert exposed_of(scene) == ("False", "InferencePoolUnknown")
    assert len(scene.pods()) == 2
    assert SERVICE in scene.kube.objects


def test_an_inference_pool_goes_when_it_is_not_asked_for_any_more(scene: Scene) -> None:
    """A gateway would go on sending requests."""
    scene.apply(pools=SERVED, inferencePool=GATEWAY)
    scene.look()
    scene.apply(pools=SERVED)
    scene.kube.objects[PATH]["metadata"]["generation"] = 2

    scene.look()

    assert INFERENCE_POOL not in scene.kube.objects
    assert SERVICE in scene.kube.objects


def test_somebody_elses_service_is_not_touched(scene: Scene) -> None:
    """It leads elsewhere, and must go on to."""
    theirs = {"metadata": {"name": "chat-aggregated"}, "spec": {"selector": {"app": "mine"}}}
    scene.kube.add(SERVICE, {"kind": "Service", **theirs})
    scene.apply(pools=SERVED)

    scene.look()

    assert network_writes(scene) == []
    assert exposed_of(scene) == ("False", "NamesTaken")
    scene.look()
    told = [note for note in scene.told.notes if "NotExposed" in note]
    assert len(told) == 1
    assert "NamesTaken: Service chat-aggregated: there is one of another owner" in told[0]
    assert len(scene.pods()) == 2


@pytest.mark.parametrize("status", [403, 500])
def test_a_service_that_is_refused_holds_nothing_up(scene: Scene, status: int) -> None:
    """A quota on Services must not keep pods from being made."""
    scene.kube.refusals[SERVICE] = (status, "exceeded quota: services")
    scene.apply(pools=SERVED)

    scene.look()

    assert exposed_of(scene) == ("False", "Refused")
    assert len(scene.pods()) == 2
