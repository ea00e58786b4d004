"""An operator that keeps an InferenceDeployment, against an API server in memory."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from bayplan.cluster.keys import PodKey
from bayplan_operator import engines
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.kube import deployment_path, node_path, pod_path
from bayplan_operator.cluster.nodes import Nodes
from bayplan_operator.deployments.reconciler import Deployments
from bayplan_operator.gates import Gates
from bayplan_operator.keys import DeploymentKey
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.memory import Plans
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
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Run an engine that says what the test wants, and has the time for it on a busy machine."""
    monkeypatch.setattr(engines, "_TIMEOUT_S", 30.0)

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


def asked(prefill: int, decode: int) -> Raw:
    """Return the spec of one unit of prefill pods with 4 GPUs and decode pods with 2."""
    pools = []
    for role, gpus in (("Prefill", 4), ("Decode", 2)):
        container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
        pools.append({"role": role, "template": {"spec": {"containers": [container]}}})
    return {"replicas": 1, "ratio": {"prefill": prefill, "decode": decode}, "pools": pools}


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
