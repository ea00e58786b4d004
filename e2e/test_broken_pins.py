"""A pod that cannot be where it is pinned goes elsewhere, at once.

From a node that is reported broken the webhook keeps it off, and kube-scheduler asks again at every
event of the cluster. Of one that its kubelet would not start its controller makes another at once.
What kube-scheduler refuses for a reason that no plan knows is made anew half a minute later.
"""

import json
import time
from typing import Any

from bayplan.api import names
from e2e import story, two_nodes_scene
from e2e.cluster import Cluster, eventually
from e2e.periodic import Periodic
from e2e.serving import mark_unhealthy
from e2e.stack import Stack
from e2e.story import PodView
from tests.integration.operator_scene import pin, pod_spec

stack, nodes = two_nodes_scene.stack, two_nodes_scene.nodes

#: Seconds in which the operator sees it and acts, and a busy machine's; it was half a minute.
_SOON_S = 15.0

#: The same where only kube-scheduler knows what is wrong; it was two and a half minutes.
_REFUSED_S = 60.0

#: A disk that one pod of a node may write to; plans know nothing of disks without a claim.
DISK = {
    "name": "disk",
    "iscsi": {"targetPortal": "192.0.2.1", "iqn": "iqn.2026-11.test.disk:d", "lun": 0},
}

#: Times that two nodes may refuse a pod: each once more, by a plan that was on its way already.
_TRIES = 4

#: Seconds between two events of other pods.
_EVENT_EVERY_S = 0.1


class Busy(Periodic):
    """A cluster in which something happens all the time: a pod that runs is annotated."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        super().__init__(_EVENT_EVERY_S)
        self._cluster = cluster
        self._namespace = namespace
        self.events = 0

    def tick(self) -> None:
        """Have one more event."""
        told = f"seen={self.events}"
        arguments = ("annotate", "pod", "stranger", told, "--overwrite", "-n", self._namespace)
        self._cluster.kubectl_run(*arguments)
        self.events += 1


def one(**more: object) -> dict[str, Any]:
    """Return a Deployment of one pod of 8 GPUs."""
    labels = {"app": "one"}
    spec = {**pod_spec(8), "schedulerName": names.SCHEDULER, **more}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "one"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def stranger(node: str, **more: object) -> dict[str, Any]:
    """Return a pod that asks nobody."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger"},
        "spec": {**pod_spec(0), "nodeName": node, **more},
    }


def only(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Return its pod, of which others may have failed."""
    found = cluster.read("pods", namespace=namespace, labels="app=one")["items"]
    live = [raw for raw in found if raw["status"].get("phase") != "Failed"]
    assert len(live) == 1
    return dict(live[0])


def only_pod(cluster: Cluster, namespace: str) -> PodView:
    """Return the pod of the Deployment that stays."""
    there = (pod for pod in story.pods(cluster, namespace) if pod.name != "stranger")
    found = [pod for pod in there if pod.phase != "Failed"]
    assert len(found) == 1
    return found[0]


def test_a_pod_pinned_to_a_node_that_is_reported_broken(
    stack: Stack, nodes: tuple[str, ...], namespace: str
) -> None:
    """It was refused hundreds of times until it was made anew half a minute later."""
    cluster = stack.cluster

    story.apply(cluster, stranger(nodes[0]), namespace=namespace)
    stack.stop("scheduler")
    try:
        story.apply(cluster, one(), namespace=namespace)
        broken = eventually(lambda: pin(only(cluster, namespace)), what="it is released")
        before = only_pod(cluster, namespace).uid
        began_at = time.monotonic()
        mark_unhealthy(cluster, broken)
    finally:
        stack.start("scheduler")

    def moved() -> bool:
        return only_pod(cluster, namespace).uid != before

    with Busy(cluster, namespace) as busy:
        eventually(moved, what="it is made anew", timeout_s=120.0)
        took_s = time.monotonic() - began_at
        calls = stack.figure("webhook", "bayplan_extender_refusals_total")
        print(f"made anew after {took_s:.1f} s, {calls:.0f} calls, {busy.events} events")
        eventually(lambda: only_pod(cluster, namespace).node not in {None, broken}, what="runs")
    assert took_s < _SOON_S


def test_a_pod_that_its_kubelet_refuses(
    stack: Stack, nodes: tuple[str, ...], namespace: str
) -> None:
    """It was made anew on the same node, refused again, and so on without a pause."""
    cluster, refusing = stack.cluster, set[str]()

    def is_told() -> bool:
        text = only_pod(cluster, namespace).annotations.get(names.ANNOTATION_DECISION, "")
        return "kubelet refused one-" in text and " again from " in text

    def node() -> str:
        home = only_pod(cluster, namespace).node or ""
        assert home or (refusing == {*nodes} and is_told())
        return home

    story.apply(cluster, one(), namespace=namespace)
    times = 0
    while home := eventually(lambda: (node(),), what="it is bound, or told why not")[0]:
        refuse(cluster, namespace)
        refusing.add(home)
        times += 1
        assert times <= _TRIES, refusing


def test_a_pod_that_kube_scheduler_refuses(
    stack: Stack, nodes: tuple[str, ...], namespace: str
) -> None:
    """It was pinned there for two and a half minutes, with a free node beside it."""
    cluster, (taken, free) = stack.cluster, nodes
    story.apply(cluster, stranger(taken, volumes=[DISK]), namespace=namespace)
    cluster.kubectl_run("cordon", free)

    def is_refused() -> bool:
        raw = only(cluster, namespace)
        told = [each.get("message", "") for each in raw["status"].get("conditions", ())]
        return any("disk" in text for text in told) and pin(raw) == taken

    story.apply(cluster, one(volumes=[DISK]), namespace=namespace)
    eventually(is_refused, what="kube-scheduler refuses it")
    began_at = time.monotonic()
    before = only_pod(cluster, namespace).uid
    cluster.kubectl_run("uncordon", free)

    def moved() -> bool:
        return only_pod(cluster, namespace).uid != before

    eventually(moved, what="it is made anew", timeout_s=200.0)
    took_s = time.monotonic() - began_at
    print(f"made anew after {took_s:.1f} s")
    eventually(lambda: only_pod(cluster, namespace).node == free, what="it runs on the other node")
    assert took_s < _REFUSED_S


def refuse(cluster: Cluster, namespace: str) -> None:
    """Refuse the Deployment's pod, as its kubelet would."""
    told = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no device"}
    patch = json.dumps({"status": {**told, "containerStatuses": None}})
    pod = ("pod", only(cluster, namespace)["metadata"]["name"], "-n", namespace)
    cluster.kubectl_run("patch", *pod, "--subresource=status", "-p", patch)
