"""Plan the openb cluster: 8,152 pods on 1,213 GPU nodes, all of them waiting at once.

The public node and pod lists become Kubernetes objects, are read like any other and planned
through the front door, shares of a GPU as shares.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bayplan import codec
from bayplan.api import names
from bayplan.cluster import units
from bayplan.cluster.snapshot import Snapshot
from bayplan.plan import Result
from bayplan.planner import plan
from bayplan.policy import Policy
from bayplan.validate import validate
from benchmarks.openb import trace

GPU: Final = "nvidia.com/gpu"
PRODUCT: Final = "nvidia.com/gpu.product"

#: The trace counts seconds from its start; any instant will do.
START: Final = datetime(2023, 1, 1, tzinfo=UTC)

#: The kubelet's default for pods per node, which the trace does not give.
PODS_PER_NODE: Final = 110

Raw = dict[str, Any]


def documents(name: str) -> Raw:
    """Return the nodes and the pods of the list `name` as one Kubernetes List."""
    nodes = [_node(row.cells) for row in trace.rows(trace.NODES)]
    pods = [_pod(row.cells) for row in trace.rows(trace.POD_LIST + name)]
    return {"apiVersion": "v1", "kind": "List", "items": nodes + pods}


def _node(row: dict[str, str]) -> Raw:
    allocatable = {
        "cpu": f"{row['cpu_milli']}m",
        "memory": f"{row['memory_mib']}Mi",
        "pods": str(PODS_PER_NODE),
        GPU: row["gpu"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": row["sn"], "uid": row["sn"], "labels": {PRODUCT: row["model"]}},
        "spec": {},
        "status": {
            "allocatable": allocatable,
            "capacity": allocatable,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _pod(row: dict[str, str]) -> Raw:
    requests = {"cpu": f"{row['cpu_milli']}m", "memory": f"{row['memory_mib']}Mi"}
    milli = int(row.get("gpu_milli") or 0)
    shares = int(row["num_gpu"]) == 1 and milli < units.WHOLE_MILLI
    if int(row["num_gpu"]) and not shares:
        requests[GPU] = row["num_gpu"]
    annotations = {names.ANNOTATION_GPU_SHARE: f"{milli / units.WHOLE_MILLI:g}"} if shares else {}
    created = START + timedelta(seconds=int(row.get("creation_time") or 0))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": row["name"],
            "namespace": "openb",
            "uid": row["name"],
            "labels": {names.LABEL_MANAGED: "true"},
            "annotations": annotations,
            "creationTimestamp": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "spec": {
            "schedulerName": "bayplan",
            "schedulingGates": [{"name": "bayplan.dev/plan"}],
            "affinity": _affinity(row.get("gpu_spec", "")),
            "containers": [
                {
                    "name": "main",
                    "image": "openb",
                    "resources": {"requests": requests, "limits": requests},
                }
            ],
        },
        "status": {"phase": "Pending"},
    }


def _affinity(models: str) -> Raw:
    """Return the affinity to the allowed GPU models; none when every model will do."""
    if not models:
        return {}
    wanted = {"key": PRODUCT, "operator": "In", "values": models.split("|")}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def figures(snapshot: Snapshot, result: Result) -> dict[str, object]:
    """Return what the plan reaches, how far a proof is away, and how long it took."""
    placing = [s for s in result.plan.certificate.stages if s.name.startswith("place ")]
    bound = {bind.uid for bind in result.plan.binds}
    placed = [pod for pod in snapshot.pods if pod.uid in bound]
    milli = sum(pod.requests.share_milli for pod in placed)
    gpus = sum(_gpus(pod.requests.items) for pod in placed) + milli / units.WHOLE_MILLI
    total = sum(_gpus(node.allocatable.items) for node in snapshot.nodes)
    return {
        "nodes": len(snapshot.nodes),
        "pods": len(snapshot.pods),
        "seconds": round(dict(result.seconds)["total"], 3),
        "placed": sum(stage.value for stage in placing),
        "bound": sum(stage.bound for stage in placing),
        "gap": round(max((stage.gap for stage in placing), default=0.0), 6),
        "verdict": str(result.plan.certificate.verdict),
        "engine": result.engine,
        "allocated_gpus": round(gpus, 3),
        "total_gpus": total,
    }


def _gpus(items: tuple[tuple[str, int], ...]) -> int:
    return sum(n for name, n in items if units.is_gpu(name))


def run(name: str, *, time_limit_s: float) -> dict[str, object]:
    """Plan the list `name` and return the figures of the plan."""
    snapshot = codec.snapshot_of([documents(name)])
    policy = Policy(time_limit_s=time_limit_s)
    result = plan(snapshot, policy, clock=time.monotonic)
    wrong = validate(snapshot, policy, result.plan)
    return {**figures(snapshot, result), "violations": len(wrong) + len(result.refused)}
