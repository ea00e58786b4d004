"""The webhook and the unmodified kube-scheduler: what each makes of the other."""

import json
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from e2e.cluster import Cluster, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.cluster.certificates import Authority
from e2e.cluster.nodes import GPU
from e2e.stack import Stack, install, tls_folder

#: What runs here: no operator, so that a pod stays as the test made it.
PROGRAMS = ("webhook", "scheduler")

Object = dict[str, Any]


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[Sequence[str]]:
    """Give two nodes with 8 GPUs each."""
    added = add_gpu_nodes(cluster, names=["gpu-a", "gpu-b"])
    yield added
    remove_gpu_nodes(cluster, names=added)


def create(cluster: Cluster, namespace: str, name: str, **spec: Any) -> None:  # noqa: ANN401 - any field
    """Create a pod of one GPU; one that says no scheduler asks for ours, and waits for its gate."""
    container = {"name": "c", "image": "probe", "resources": {"limits": {GPU: "1"}}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"schedulerName": "bayplan", "containers": [container], **spec},
    }
    cluster.kubectl_run("create", "-f", "-", input=json.dumps(pod))


def release(cluster: Cluster, namespace: str, name: str) -> None:
    """Lift the gate, as somebody may who does not want to wait for a plan."""
    patch = json.dumps({"spec": {"schedulingGates": []}})
    cluster.kubectl_run("patch", "pod", name, "-n", namespace, "--type=merge", "-p", patch)


def node_of(cluster: Cluster, namespace: str, name: str) -> str:
    """Return the node of a pod, or ""."""
    path = "jsonpath={.spec.nodeName}"
    return cluster.kubectl_run("get", "pod", name, "-n", namespace, "-o", path)


def binds(cluster: Cluster, namespace: str, name: str) -> None:
    """Create a free pod and wait until it has a node."""
    create(cluster, namespace, name)
    release(cluster, namespace, name)
    eventually(lambda: node_of(cluster, namespace, name), what=f"{name} is bound")


def test_they_speak_tls_and_renewed_certificates_are_used(
    cluster: Cluster, nodes: Sequence[str], namespace: str
) -> None:
    """A scheduler that cannot ask skips us in silence: pods would be bound without our answer."""
    if cluster.flavor != "local":
        pytest.skip("elsewhere the programs are pods, whose certificates cert-manager makes")
    authority = Authority()
    with install(cluster, programs=PROGRAMS, tls=authority) as stack:
        binds(cluster, namespace, "a")
        assert calls(stack, "filter") == 1

        authority.issue("bayplan-webhook", tls_folder(cluster, "webhook"))
        stack.stop("scheduler")  # its connections are kept alive: only a new one sees the files
        stack.start("scheduler")
        binds(cluster, namespace, "b")
        assert "certificate_renewed" in stack.log("webhook")
        assert calls(stack, "filter") == 2
    assert {node_of(cluster, namespace, name) for name in "ab"} <= set(nodes)


def calls(stack: Stack, verb: str) -> int:
    """Return how often the webhook was asked."""
    url = f"{stack.health['webhook']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - our own, on loopback
        text = reply.read().decode()
    count = f'bayplan_extender_request_duration_seconds_count{{verb="{verb}"}} '
    return next(int(float(line.split()[1])) for line in text.splitlines() if line.startswith(count))
