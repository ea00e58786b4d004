"""A full node on which a unit serves, and an operator that carries out plans to evict it."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.keys import GangKey, NodeName, PodKey
from bayplan.codec import plan_manifest
from bayplan.inference.children import Child
from bayplan.plan import Bind, Certificate, Evict, Move, Result, Verdict, plan_of
from bayplan.policy import Order
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.kube import deployment_path, node_path, plan_path, pod_path, pods_path
from bayplan_operator.cluster.nodes import Nodes
from bayplan_operator.deployments import reconciler
from bayplan_operator.deployments.reconciler import Deployments
from bayplan_operator.gates import Gates
from bayplan_operator.keys import DeploymentKey
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans import drains
from bayplan_operator.plans.execution import Execution
from bayplan_operator.plans.memory import Plans
from tests.fake_kube import FakeKube, Raw, Told

CHAT = DeploymentKey(namespace="ns", name="chat")
PATH = deployment_path("ns", "chat")
PODS = [f"chat-0-{name}-0" for name in ("decode", "prefill")]


class Scene:
    """A full node with one unit of two pods that serve, a pod that waits, and the operator.

    `loads` are the requests of each engine, by the name of its pod.
    """

    def __init__(self, pool: Executor, patch: pytest.MonkeyPatch) -> None:
        self.clock = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
        self.kube = FakeKube()
        self.told = Told()
        self.loads: dict[str, int] = {}
        self.asked: set[str] = set()
        self._pool = pool
        for module in (reconciler, drains):
            patch.setattr(module, "loads", self._loads)
        self.start()
        self.kube.add(node_path("n1"), node("n1"))
        self.apply()
        self.deployments.reconcile(CHAT)
        for name in PODS:
            self.kube.objects[pod_path(key(name))]["spec"] |= {
                "nodeName": "n1",
                "schedulingGates": [],
            }
        self.deployments.reconcile(CHAT)
        self.serve()
        self.kube.add(pod_path(key("new")), waiting_pod("new"))

    def start(self) -> None:
        """Start the operator, which knows nothing of what was before."""
        plans = Plans(self.kube)
        metrics, claims, pool = Metrics(), Claims(), self._pool
        gates = Gates(
            self.kube, plans, self.told, metrics, namespace="x", pool=pool, now=lambda: self.clock
        )
        self.plans = plans
        self.execution = Execution(
            *(self.kube, plans, self.told, metrics),
            claims=claims,
            pool=pool,
            now=lambda: self.clock,
            clock=self.seconds,
        )
        self.deployments = Deployments(
            *(self.kube, plans, gates, Nodes(self.kube), self.told),
            metrics=metrics,
            claims=claims,
            pool=pool,
            now=lambda: self.clock,
            clock=self.seconds,
        )

    def seconds(self) -> float:
        """Return the seconds on the clock."""
        return self.clock.timestamp()

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
        """Have the pods of chat that run be ready while they are in service."""
        for name in (raw["metadata"]["name"] for raw in self.kube.items(pods_path("ns"))):
            pod = self.kube.get(pod_path(key(name)))
            if pod is None or "nodeName" not in pod["spec"] or not name.startswith("chat-"):
                continue
            others = [c for c in conditions(pod) if c["type"] != "Ready"]
            ready = all(c["status"] == "True" for c in others)
            pod["status"] = {"conditions": [*others, {"type": "Ready", "status": str(ready)}]}
            self.kube.add(pod_path(key(name)), pod)

    def publish(self, *actions: Bind | Move | Evict, sequence: int = 1) -> str:
        """Write a plan as the planner would."""
        certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
        plan = plan_of(certificate, actions)
        manifest = plan_manifest(Result(plan=plan, digest="d", engine="hand"), sequence=sequence)
        path = plan_path(f"plan-{sequence:05d}")
        self.plans.see(self.kube.add(path, manifest))
        return path

    def make_room(self, sequence: int = 1, *, together: bool = True) -> str:
        """Write the plan that evicts the unit for the pod that waits, as a gang or pod by pod."""
        gang = GangKey(namespace="ns", name="chat-0") if together else None
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
