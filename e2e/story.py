"""The story that the demo tells and the end-to-end tests assert.

Six 8-GPU nodes on which small low-priority pods have grown scattered: 16 GPUs are used, 32 are
free, and no node has 8 free ones. Then somebody asks for two units of one 8-GPU prefill and two
4-GPU decode replicas: exactly the 32 GPUs that are free.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from e2e.cluster import Cluster, add_gpu_nodes, eventually

GPU = "nvidia.com/gpu"
NODES = tuple(f"gpu-{number}" for number in range(1, 7))
GPUS_PER_NODE = 8

#: GPUs of the small pods on each node.
SCATTERED: Mapping[str, Sequence[int]] = {
    "gpu-1": (2, 1),
    "gpu-2": (2, 1),
    "gpu-3": (1, 1, 1),
    "gpu-4": (2, 1),
    "gpu-5": (2,),
    "gpu-6": (1, 1),
}

PRIORITY_CLASSES = {"batch": 0, "online": 1000}

#: What the user applies: the least InferenceDeployment there is.
CHAT: dict[str, Any] = {
    "apiVersion": "bayplan.dev/v1alpha1",
    "kind": "InferenceDeployment",
    "metadata": {"name": "chat"},
    "spec": {
        "replicas": 2,
        "ratio": {"prefill": 1, "decode": 2},
        "priorityClassName": "online",
        "pools": [
            {"role": "Prefill", "template": {}},
            {"role": "Decode", "template": {}},
        ],
    },
}


def pod_spec(gpus: int) -> dict[str, Any]:
    """Return a pod spec with one container that asks for GPUs.

    It asks for little else and does nothing, so that it also runs on a laptop's kind nodes.
    """
    resources = {"limits": {GPU: str(gpus)}, "requests": {"cpu": "10m", "memory": "16Mi"}}
    image = "registry.k8s.io/pause:3.10"
    return {"containers": [{"name": "engine", "image": image, "resources": resources}]}


CHAT["spec"]["pools"][0]["template"] = {"spec": pod_spec(8)}
CHAT["spec"]["pools"][1]["template"] = {"spec": pod_spec(4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A pod as `kubectl get pods -o wide` would show it."""

    name: str
    uid: str
    node: str
    phase: str
    gpus: int
    gated: bool
    ready: bool
    annotations: Mapping[str, str]


def make_priority_classes(cluster: Cluster) -> None:
    """Create the PriorityClasses of the story."""
    classes = [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
        }
        for name, value in PRIORITY_CLASSES.items()
    ]
    apply(cluster, *classes)


def add_nodes(cluster: Cluster) -> tuple[str, ...]:
    """Add the six nodes; return the names they really have."""
    return add_gpu_nodes(cluster, names=NODES, gpus=GPUS_PER_NODE)


def scatter(cluster: Cluster, nodes: Sequence[str], *, namespace: str, scheduler: str) -> None:
    """Run the small pods, scattered as if they had come and gone for months.

    Each node takes its pods while all others are cordoned. One Deployment a pod, as different
    users would have; `scheduler` is whom their templates name.
    """
    cluster.kubectl_run("cordon", *nodes)
    for number, node in enumerate(nodes):
        cluster.kubectl_run("uncordon", node)
        sizes = SCATTERED[NODES[number]]
        made = [
            deployment(f"team-{number + 1}-{letter}", gpus, scheduler=scheduler)
            for letter, gpus in zip("abc", sizes, strict=False)
        ]
        apply(cluster, *made, namespace=namespace)
        names = [each["metadata"]["name"] for each in made]
        settled = partial(_all_on, cluster, namespace, names, node)
        eventually(settled, what=f"the small pods run on {node}")
        cluster.kubectl_run("cordon", node)
    cluster.kubectl_run("uncordon", *nodes)


def chat_as_deployments() -> tuple[dict[str, Any], ...]:
    """Return the same pods as `CHAT` for a cluster without Bayplan: two plain Deployments."""
    replicas = CHAT["spec"]["replicas"]
    ratio = CHAT["spec"]["ratio"]
    return tuple(
        deployment(
            f"chat-{pool['role'].lower()}",
            int(pool["template"]["spec"]["containers"][0]["resources"]["limits"][GPU]),
            scheduler="default-scheduler",
            replicas=replicas * ratio[pool["role"].lower()],
            priority="online",
        )
        for pool in CHAT["spec"]["pools"]
    )


def apply(cluster: Cluster, *objects: Mapping[str, Any], namespace: str = "default") -> None:
    """`kubectl apply` some objects."""
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl_run("apply", "-n", namespace, "-f", "-", input=document)


def pods(cluster: Cluster, namespace: str) -> tuple[PodView, ...]:
    """Return the pods of a namespace that are not on their way out, by name."""
    listed = cluster.read("pods", namespace=namespace)
    live = [raw for raw in listed["items"] if "deletionTimestamp" not in raw["metadata"]]
    return tuple(sorted((_view(raw) for raw in live), key=lambda pod: pod.name))


def chat_pods(cluster: Cluster, namespace: str) -> tuple[PodView, ...]:
    """Return the pods that serve chat."""
    return tuple(pod for pod in pods(cluster, namespace) if pod.name.startswith("chat-"))


def get(cluster: Cluster, what: str, *, namespace: str = "default") -> dict[str, Any]:
    """Return one object, e.g. "infd/chat"."""
    found: dict[str, Any] = cluster.read(what, namespace=namespace)
    return found


def plans(cluster: Cluster) -> tuple[dict[str, Any], ...]:
    """Return the PackingPlan objects, oldest first."""
    listed = cluster.read("packingplans")
    return tuple(sorted(listed["items"], key=lambda plan: int(plan["spec"]["sequence"])))


def free_gpus(cluster: Cluster, nodes: Sequence[str]) -> dict[str, int]:
    """Return the GPUs of each node that no pod uses."""
    listed = cluster.read("pods")
    free = dict.fromkeys(nodes, GPUS_PER_NODE)
    for pod in (_view(raw) for raw in listed["items"]):
        if pod.node in free:
            free[pod.node] -= pod.gpus
    return free


def _all_on(cluster: Cluster, namespace: str, names: Sequence[str], node: str) -> bool:
    here = [p for p in pods(cluster, namespace) if p.node == node and p.phase == "Running"]
    return all(any(pod.name.startswith(f"{name}-") for pod in here) for name in names)


def _view(raw: Mapping[str, Any]) -> PodView:
    spec, metadata = raw["spec"], raw["metadata"]
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName", ""),
        phase=raw["status"]["phase"],
        gpus=gpus_of(spec),
        gated=bool(spec.get("schedulingGates")),
        ready=is_ready(raw),
        annotations=metadata.get("annotations", {}),
    )


def is_ready(raw: Mapping[str, Any]) -> bool:
    """Return whether a raw pod is ready."""
    conditions = raw.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def gpus_of(spec: Mapping[str, Any]) -> int:
    """Return the GPUs that a pod spec asks for."""
    limits = (c.get("resources", {}).get("limits", {}) for c in spec["containers"])
    return sum(int(limit.get(GPU, 0)) for limit in limits)


def deployment(  # noqa: PLR0913 - each argument is one thing that a test may be about
    name: str,
    gpus: int,
    *,
    scheduler: str = "bayplan",
    replicas: int = 1,
    priority: str = "batch",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a Deployment; `labels` are further ones of its pods."""
    spec = pod_spec(gpus) | {"schedulerName": scheduler, "priorityClassName": priority}
    own = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": own | dict(labels or {})}, "spec": spec},
        },
    }
