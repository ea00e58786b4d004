"""The operator on a real API server, under its own ServiceAccount.

No planner and no scheduler of ours runs: plans are written by hand here, and pods are bound by
hand, so that each test decides what happens when.
"""

import json
import secrets
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from bayplan.api import names
from bayplan.cluster.keys import GangKey, NodeName, Owner, PodKey
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
from e2e.cluster import Cluster, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.stack import Stack, install

Object = dict[str, Any]

UNIT = ("decode-0", "decode-1", "prefill-0")
UNIT_PODS = [f"chat-0-{pod}" for pod in UNIT]

_sequence = count(1)


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Lend two empty 8-GPU nodes."""
    suffix = secrets.token_hex(3)
    made = add_gpu_nodes(cluster, names=[f"operator-{n}-{suffix}" for n in (1, 2)])
    yield made
    remove_gpu_nodes(cluster, names=made)


@pytest.fixture(scope="module")
def operator(cluster: Cluster) -> Iterator[Stack]:
    """Run the operator alone; gates are never lifted for want of a planner."""
    with install(
        cluster, programs=("operator",), values=["policy.gateTimeoutSeconds=86400"]
    ) as stack:
        yield stack


@pytest.fixture
def user(cluster: Cluster, operator: Stack, namespace: str) -> Iterator["User"]:
    """Return somebody who works in a namespace of their own; show the log if a test fails."""
    yield User(cluster, namespace)
    print(operator.log("operator"))  # noqa: T201 - pytest shows it beside a failure


class User:
    """Somebody with kubectl."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def apply(self, *objects: Object) -> None:
        """Apply objects in the namespace."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.cluster.kubectl_run("apply", "-n", self.namespace, "-f", "-", input=text)

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl_run("-n", self.namespace, *arguments)

    def get(self, kind: str, name: str) -> Object:
        """Return an object."""
        # Plans are in no namespace.
        namespace = "" if kind == "packingplan" else self.namespace
        found: Object = self.cluster.read(f"{kind}/{name}", namespace=namespace)
        return found

    def pods(self, labels: str = "") -> dict[str, Object]:
        """Return the namespace's pods by name."""
        raw = self.cluster.read("pods", namespace=self.namespace, labels=labels)
        return {pod["metadata"]["name"]: pod for pod in raw["items"]}

    def await_pods(self, wanted: list[str], *, timeout_s: float = 60.0) -> dict[str, Object]:
        """Wait until exactly these pods exist, none of them on its way out; return them."""

        def there() -> tuple[dict[str, Object]]:
            pods = self.pods()
            assert sorted(pods) == sorted(wanted)
            assert not any(p["metadata"].get("deletionTimestamp") for p in pods.values())
            return (pods,)

        return eventually(there, what=f"the pods are {wanted}", timeout_s=timeout_s)[0]

    def await_reason(self, want: str, *, timeout_s: float = 60.0) -> Object:
        """Wait for the REASON of chat; return its status."""

        def status() -> Object:
            found: Object = self.get("infd", "chat").get("status", {})
            assert found.get("reason") == want
            return found

        return eventually(status, what=f"the reason is {want}", timeout_s=timeout_s)

    def publish(self, *actions: Bind | Move | Evict | Hold, dies: bool = False) -> str:
        """Write a plan as the planner would, or all but its last object; return its name."""
        certificate = Certificate(order=Order.PLACE_FIRST, verdict=Verdict.OPTIMAL)
        result = Result(plan=plan_of(certificate, actions), digest="by hand", engine="hand")
        manifests = plan_manifests(result, sequence=next(_sequence))
        for manifest in manifests[:-1] if dies else manifests:
            self.cluster.kubectl_run("create", "-f", "-", input=json.dumps(manifest))
        return str(manifests[0]["metadata"]["name"])

    def await_phase(self, plan: str, phase: str) -> Object:
        """Wait for a plan's phase; return its status."""

        def status() -> Object:
            found: Object = self.get("packingplan", plan).get("status", {})
            assert found.get("phase") == phase, found
            return found

        return eventually(status, what=f"{plan} is {phase}")

    def await_pinned(self, *pods: str) -> dict[str, Object]:
        """Wait until pods are released; return them."""

        def pinned() -> dict[str, Object]:
            found = self.pods()
            assert all(name in found for name in pods)
            assert not any(found[name]["spec"].get("schedulingGates") for name in pods)
            return found

        return eventually(pinned, what=f"{', '.join(pods)} are released")

    def bind(self, pod: Object) -> None:
        """Bind a released pod to the node it is pinned to, as a scheduler would."""
        name = pod["metadata"]["name"]
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": self.namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": pin(pod)},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/binding"
        self.cluster.kubectl_run("create", "--raw", path, "-f", "-", input=json.dumps(body))

    def place(self, on: dict[str, str]) -> str:
        """Have a plan place pods on nodes, bind them, and wait for the plan; return its name."""
        pods = self.pods()
        plan = self.publish(*(bind(pods[name], node) for name, node in on.items()))
        for name in on:
            self.bind(self.await_pinned(*on)[name])
        self.await_phase(plan, "Completed")
        return plan

    def reasons_told(self, name: str) -> set[str]:
        """Return the reasons of the events about an object."""
        raw = self.cluster.read("events", namespace=self.namespace)
        return {e["reason"] for e in raw["items"] if e["involvedObject"]["name"] == name}


def chat(**spec: Any) -> Object:  # noqa: ANN401 - JSON
    """Return an InferenceDeployment of one unit: one 4-GPU prefill and two 2-GPU decode pods."""
    pools = [pool("Prefill", gpus=4), pool("Decode", gpus=2)]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "InferenceDeployment",
        "metadata": {"name": "chat"},
        "spec": {
            "ratio": {"prefill": 1, "decode": 2},
            "disruption": {"drainTimeoutSeconds": 1},
            "pools": pools,
            **spec,
        },
    }


def pool(role: str, *, gpus: int | str) -> Object:
    """Return a pool whose pods have one container."""
    return {"role": role, "template": {"spec": pod_spec(gpus)}}


def pod_spec(gpus: int | str) -> Object:
    """Return a pod's spec with one container."""
    limits = {"nvidia.com/gpu": gpus}
    container = {"name": "vllm", "image": "registry.example/vllm", "resources": {"limits": limits}}
    return {"containers": [container], "terminationGracePeriodSeconds": 1}


SMALL = pool("Decode", gpus=1)


def web(*, scheduler: str = names.SCHEDULER) -> Object:
    """Return somebody's Deployment of one 2-GPU pod."""
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {**pod_spec(2), "schedulerName": scheduler}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


def key(pod: Object) -> PodKey:
    """Return the key of a raw pod."""
    return PodKey(namespace=pod["metadata"]["namespace"], name=pod["metadata"]["name"])


def bind(pod: Object, node: str) -> Bind:
    """Return a bind of a raw pod, with its gang."""
    gang = pod["metadata"]["labels"].get(names.LABEL_GANG)
    return Bind(
        pod=key(pod),
        uid=pod["metadata"]["uid"],
        node=NodeName(node),
        gang=GangKey(namespace=key(pod).namespace, name=gang) if gang else None,
    )


def evict(pod: Object) -> Evict:
    """Return an eviction of a raw pod from where it is."""
    node = NodeName(pod["spec"]["nodeName"])
    return Evict(pod=key(pod), uid=pod["metadata"]["uid"], node=node, priority=0)


def move(pod: Object, target: str) -> Move:
    """Return a move of a raw pod from where it is."""
    reference = pod["metadata"]["ownerReferences"][0]
    return Move(
        pod=key(pod),
        uid=pod["metadata"]["uid"],
        source=NodeName(pod["spec"]["nodeName"]),
        target=NodeName(target),
        owner=Owner(
            kind=reference["kind"],
            namespace=key(pod).namespace,
            name=reference["name"],
            uid=reference["uid"],
        ),
        priority=0,
    )


def hold(pod: Object, *, remedy: str = "") -> Hold:
    """Return a hold of a raw pod that no node is large enough for."""
    message = "needs 16 GPUs on one node; the largest has 8"
    rejection = Rejection(reason=Reason.TOO_SMALL, message=message)
    return Hold(pod=key(pod), uid=pod["metadata"]["uid"], rejection=rejection, remedy=remedy)


def pin(pod: Object) -> str:
    """Return the node that a raw pod is pinned to."""
    affinity = pod["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchFields": [{**terms[0]["matchFields"][0], "key": "metadata.name"}]}]
    return str(terms[0]["matchFields"][0]["values"][0])


def condition(status: Object, kind: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition; `KeyError` if there is none yet."""
    found = {c["type"]: c for c in status["conditions"]}[kind]
    return found["status"], found["reason"], found["message"]


def uid(pod: Object) -> str:
    """Return the uid of a raw object."""
    return str(pod["metadata"]["uid"])


def shapes(user: User) -> set[str]:
    """Return what the pods say that makes their unit whole."""
    return {pod["metadata"]["annotations"][names.ANNOTATION_SHAPE] for pod in user.pods().values()}


def await_web(user: User) -> str:
    """Wait for the pod of web, which is made by controllers that nobody waits for; return it."""
    named = lambda: next((n for n in user.pods() if n.startswith("web")), "")  # noqa: E731
    return eventually(named, what="the pod of web is there")


def services(user: User) -> set[tuple[str, str]]:
    """Return since when chat's pods are in service or out of it, and why."""
    pods = user.pods(f"{names.LABEL_DEPLOYMENT}=chat").values()
    said = [c for p in pods for c in p["status"].get("conditions", [])]
    ours = [c for c in said if c["type"] == names.CONDITION_IN_SERVICE]
    assert len(ours) == len(UNIT_PODS)
    return {(c["reason"], c["lastTransitionTime"]) for c in ours}


def running(pod: Object) -> bool:
    """Return whether a raw pod runs."""
    return bool(pod["status"].get("phase") == "Running")


def gates(pod: Object) -> list[Object]:
    """Return the scheduling gates of a raw pod."""
    return list(pod["spec"].get("schedulingGates", []))
