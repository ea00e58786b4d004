"""An operator that carries out plans against an API server in memory."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.keys import NodeName, Owner, PodKey
from bayplan.codec import plan_manifests
from bayplan.plan import (
    Bind,
    Certificate,
    Evict,
    Hold,
    Move,
    Reason,
    Rejection,
    Result,
    Verdict,
    plan_of,
)
from bayplan.policy import Order
from bayplan_operator.claims import Claims
from bayplan_operator.cluster.kube import node_path, plan_path, pod_path
from bayplan_operator.gates import Gates
from bayplan_operator.metrics import Metrics
from bayplan_operator.plans.execution import Execution
from bayplan_operator.plans.memory import Plans
from tests.fake_kube import FakeKube, Raw, Told

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
OWNER = Owner(kind="ReplicaSet", namespace="ns", name="web", uid="uid-web")


class Scene:
    """A cluster with two 8-GPU nodes, and an operator that carries out plans on it."""

    def __init__(self, pool: Executor, clock: Callable[[], float] = time.monotonic) -> None:
        self.kube = FakeKube()
        self.told = Told()
        self.metrics = Metrics()
        self.plans = Plans(self.kube)
        self.execution = Execution(
            *(self.kube, self.plans, self.told, self.metrics),
            claims=Claims(),
            pool=pool,
            now=lambda: NOW,
            clock=clock,
        )
        for name in ("n1", "n2"):
            self.kube.add(node_path(name), raw_node(name))

    def publish(self, *actions: Bind | Move | Evict | Hold, sequence: int = 1) -> str:
        """Write a plan as the planner would."""
        certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
        result = Result(plan=plan_of(certificate, actions), digest="d", engine="hand")
        for manifest in plan_manifests(result, sequence=sequence):
            self.plans.see(self.kube.add(plan_path(manifest["metadata"]["name"]), manifest))
        return f"plan-{sequence:05d}"

    def look(self) -> float | None:
        """Let the operator do one pass."""
        return self.execution.reconcile()

    def add(self, name: str, **spec: Any) -> None:  # noqa: ANN401 - JSON
        """Add a pod of the ReplicaSet `web`."""
        self.kube.add(pod_path(key(name)), raw_pod(name, **spec))

    def pod(self, name: str) -> Raw:
        """Return a pod."""
        return self.kube.objects[pod_path(key(name))]

    def leaves(self, name: str) -> bool:
        """Return whether a pod is asked to go."""
        return "deletionTimestamp" in self.pod(name)["metadata"]

    def status(self, plan: str) -> Raw:
        """Return a plan's status."""
        found: Raw = self.kube.objects[plan_path(plan)]["status"]
        return found


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return the cluster."""
    with ThreadPoolExecutor(2) as pool:
        yield Scene(pool)


def key(name: str) -> PodKey:
    """Return a pod's key."""
    return PodKey(namespace="ns", name=name)


def raw_node(name: str) -> Raw:
    """Return an 8-GPU node."""
    return {
        "metadata": {"name": name},
        "status": {"allocatable": {"nvidia.com/gpu": "8", "pods": 9}},
    }


def raw_pod(name: str, *, gpus: int | str = 4, on: str = "", gated: bool = True) -> Raw:
    """Return a managed pod, behind our gate unless it is on a node."""
    spec: Raw = {
        "schedulerName": names.SCHEDULER,
        "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": gpus}}}],
    }
    if on:
        spec["nodeName"] = on
    elif gated:
        spec["schedulingGates"] = [{"name": names.GATE}]
    owner = {"kind": "ReplicaSet", "name": "web", "uid": "uid-web", "controller": True}
    metadata = {
        "namespace": "ns",
        "name": name,
        "labels": {names.LABEL_MANAGED: "true"},
        "ownerReferences": [owner],
        "creationTimestamp": "2026-05-01T11:00:00Z",
    }
    return {"metadata": metadata, "spec": spec, "status": {}}


def unschedulable(why: str) -> Raw:
    """Return the status of a pod of which kube-scheduler says that it can go nowhere."""
    refusal = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {"conditions": [{**refusal, "message": why}]}


def bind(name: str, on: str) -> Bind:
    """Return a bind."""
    return Bind(pod=key(name), uid=f"uid-{name}", node=NodeName(on))


def evict(name: str, on: str) -> Evict:
    """Return an eviction."""
    return Evict(pod=key(name), uid=f"uid-{name}", node=NodeName(on), priority=0)


def move(name: str, *, uid: str = "") -> Move:
    """Return a move from n1 to n2."""
    return Move(
        pod=key(name),
        uid=uid or f"uid-{name}",
        source=NodeName("n1"),
        target=NodeName("n2"),
        owner=OWNER,
        priority=0,
    )


def hold(name: str) -> Hold:
    """Return a hold."""
    rejection = Rejection(reason=Reason.TOO_SMALL, message="needs 16 GPUs; n1 has 8 in all")
    return Hold(pod=key(name), uid=f"uid-{name}", rejection=rejection, remedy="add a larger node")


def gates_of(scene: Scene, now: list[datetime], *, clock: list[datetime] | None = None) -> Gates:
    """Return the watch over the planner, with a time that can be set, and perhaps another clock."""

    def at() -> float:
        return (clock or now)[0].timestamp()

    with_pool = scene.execution._pool  # noqa: SLF001 - the scene's threads
    return Gates(
        scene.kube,
        scene.plans,
        scene.told,
        Metrics(),
        namespace="bayplan-system",
        pool=with_pool,
        now=lambda: now[0],
        clock=at,
    )
