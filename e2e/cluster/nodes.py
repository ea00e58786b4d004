"""Give a cluster GPU nodes without GPUs.

On a local control plane the nodes are objects that kwok keeps alive, as many as one likes. On
kind and on an existing cluster the worker nodes are real, so they are only told to have GPUs:
the status patch survives the kubelet's own updates. A real node that has GPUs is left alone.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from e2e.cluster.errors import ClusterError
from e2e.cluster.handle import Cluster
from e2e.cluster.waiting import eventually

GPU = "nvidia.com/gpu"

_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
_BATCH = 250  # kubectl sends 300 requests at once, and after that 50 a second
_SEEN_PER_S = 500  # looking at all nodes more often would keep the server from making them ready
_PARALLEL = 4  # one kubectl sends one by one; four create twice as fast on 2 cores
_READY = {"type": "Ready", "status": "True", "reason": "Fake"}  # kwok need not say so one by one
_INFO = dict.fromkeys(  # the server wants all of it
    (
        *("architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion"),
        *("kubeletVersion", "machineID", "operatingSystem", "osImage", "systemUUID"),
    ),
    "fake",
)
_NOT_READY_TAINTS = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}


def add_gpu_nodes(  # noqa: PLR0913 - a node has that many sides, each with a default
    cluster: Cluster,
    *,
    names: Sequence[str],
    gpus: int = 8,
    cpu: str = "96",
    memory: str = "1Ti",
    pods: int = 110,
    labels: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> tuple[str, ...]:
    """Add one GPU node per name and wait until pods can be scheduled onto them.

    Only a local control plane can give nodes these names, CPUs and memory. Elsewhere as many
    worker nodes are told to have `gpus` GPUs and keep their own names and sizes.

    Returns:
        The names that the nodes really have, in order.

    Raises:
        ClusterError: The cluster has fewer worker nodes than names were given.
    """
    if cluster.flavor == "local":
        size = {"cpu": cpu, "memory": memory, "pods": str(pods), GPU: str(gpus)}
        _create(cluster, [_node(name, size=size, labels=labels or {}) for name in names])
        chosen = tuple(names)
    else:
        chosen = _lend_gpus(cluster, count=len(names), gpus=gpus, labels=labels or {})
    eventually(
        lambda: set(chosen) <= _schedulable(cluster),
        what=f"{len(chosen)} GPU nodes are ready",
        timeout_s=timeout_s,
        interval_s=max(0.2, len(chosen) / _SEEN_PER_S),
    )
    return chosen


def remove_gpu_nodes(cluster: Cluster, names: Sequence[str]) -> None:
    """Undo `add_gpu_nodes`: delete the fake nodes, or take the GPUs back from real ones.

    Labels stay on real nodes, and so do GPUs that a device plugin reports.
    """
    if cluster.flavor == "local":
        cluster.kubectl_run("delete", "node", "--ignore-not-found", *names)
        return
    for name in names:
        _patch_gpus(cluster, name, gpus=None)


def _create(cluster: Cluster, nodes: Sequence[Mapping[str, Any]]) -> None:
    batches = [nodes[start : start + _BATCH] for start in range(0, len(nodes), _BATCH)]
    lists = [json.dumps({"apiVersion": "v1", "kind": "List", "items": batch}) for batch in batches]
    with ThreadPoolExecutor(_PARALLEL) as pool:
        list(pool.map(lambda text: cluster.kubectl_run("create", "-f", "-", input=text), lists))


def _node(name: str, *, size: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, Any]:
    standard = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "type": "kwok",
    }
    status = {"capacity": size, "allocatable": size, "conditions": [_READY], "nodeInfo": _INFO}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {**standard, **labels},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": status,
    }


def _lend_gpus(
    cluster: Cluster, *, count: int, gpus: int, labels: Mapping[str, str]
) -> tuple[str, ...]:
    workers = [node for node in _nodes(cluster) if _CONTROL_PLANE not in node["metadata"]["labels"]]
    if len(workers) < count:
        raise ClusterError(
            f"{count} GPU nodes wanted, but this {cluster.flavor} cluster has {len(workers)} "
            "worker nodes: add workers, or use the local control plane"
        )
    for node in workers[:count]:
        name = node["metadata"]["name"]
        if GPU not in node["status"]["allocatable"]:
            _patch_gpus(cluster, name, gpus=gpus)
        if labels:
            pairs = (f"{key}={value}" for key, value in labels.items())
            cluster.kubectl_run("label", "node", name, "--overwrite", *pairs)
    return tuple(node["metadata"]["name"] for node in workers[:count])


def _patch_gpus(cluster: Cluster, name: str, *, gpus: int | None) -> None:
    amount = {GPU: None if gpus is None else str(gpus)}
    patch = json.dumps({"status": {"capacity": amount, "allocatable": amount}})
    cluster.kubectl_run(
        *("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={patch}")
    )


def _schedulable(cluster: Cluster) -> set[str]:
    """Names of nodes that are ready and that the node controller has stopped keeping pods from."""
    return {node["metadata"]["name"] for node in _nodes(cluster) if _takes_pods(node)}


def _takes_pods(node: Mapping[str, Any]) -> bool:
    conditions = node["status"].get("conditions", [])
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
    taints = {taint["key"] for taint in node["spec"].get("taints", [])}
    return ready and not taints & _NOT_READY_TAINTS and GPU in node["status"]["allocatable"]


def _nodes(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.read("nodes")["items"]
    return found
