"""Two nodes, and pods made one by one for kube-scheduler to bind."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from e2e.cluster import Cluster, add_gpu_nodes, eventually, remove_gpu_nodes
from e2e.cluster.nodes import GPU


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[Sequence[str]]:
    """Give two nodes with 8 GPUs each."""
    added = add_gpu_nodes(cluster, names=["gpu-a", "gpu-b"])
    yield added
    remove_gpu_nodes(cluster, names=added)


def create(
    cluster: Cluster,
    namespace: str,
    name: str,
    *,
    gpus: int = 1,
    **spec: Any,  # noqa: ANN401 - any field
) -> None:
    """Create a pod; one that names no other scheduler asks for ours, and waits for its gate."""
    container = {"name": "c", "image": "probe", "resources": {"limits": {GPU: str(gpus)}}}
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
    return str(cluster.read(f"pod/{name}", namespace=namespace)["spec"].get("nodeName", ""))


def binds(cluster: Cluster, namespace: str, name: str, *, gpus: int = 1) -> None:
    """Create a free pod and wait until it has a node."""
    create(cluster, namespace, name, gpus=gpus)
    release(cluster, namespace, name)
    eventually(lambda: node_of(cluster, namespace, name), what=f"{name} is bound")
